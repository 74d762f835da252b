"""Batch norms for the time of a training: who gets one, and that nothing of it ships."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor, nn

from envs.compression.moves import Moves
from envs.compression.resolve import compress
from envs.compression.surgery import Inheritance, build, load
from envs.compression.training_norms import (
    bare_convolutions,
    normalised,
    settle,
    with_norms,
    without_norms,
)
from envs.fx_import.trace import describe, trace
from envs.graph.check import parse_netspec
from envs.graph.netspec import NetSpec
from envs.gym.toy import ToyNet
from tests.envs.blocks import Call, Squeeze
from tests.envs.networks import Classifier, classifiers, stir

RGB = (3, 8, 8)


def chain(**layers: nn.Module) -> nn.Module:
    """The layers by name, then a head."""
    ending = {"pool": nn.AdaptiveAvgPool2d(1), "flat": nn.Flatten(), "head": nn.LazyLinear(3)}
    module = nn.Sequential(OrderedDict(layers | ending)).eval()
    module(torch.zeros(1, *RGB))  # the head learns how many features there are
    return module


class PreActivation(nn.Module):
    """A residual block whose norm comes first: it reads sums of convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.inner = nn.Conv2d(4, 4, 3, padding=1)
        self.outer = nn.Conv2d(4, 4, 3, padding=1)
        self.last = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.outer(torch.relu(self.inner(torch.relu(self.norm(x)))))
        x = torch.relu(self.last(x)).mean((2, 3))
        return self.head(x)  # type: ignore[no-any-return]


def squeezed() -> nn.Module:
    gate = nn.Sequential(OrderedDict(less=nn.Conv2d(4, 2, 1), more=nn.Conv2d(2, 4, 1)))
    gate.append(nn.Sigmoid())
    return chain(conv=nn.Conv2d(3, 4, 3), gated=Squeeze(gate, flat=False))


def fully_convolutional() -> nn.Module:
    """Its last convolution writes maps of logits, which are averaged."""
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(3, 4, 3), relu=nn.ReLU(), logits=nn.Conv2d(4, 3, 1), mean=Call(mean)
        )
    )


def mean(x: Tensor) -> Tensor:
    return x.mean((2, 3))


WHO: dict[str, tuple[Callable[[], nn.Module], list[str]]] = {
    "plain ones": (
        lambda: chain(a=nn.Conv2d(3, 4, 3), relu=nn.ReLU(), b=nn.Conv2d(4, 5, 3)),
        ["a", "b"],
    ),
    "none with a batch norm": (
        lambda: chain(a=nn.Conv2d(3, 4, 3), bn=nn.BatchNorm2d(4), b=nn.Conv2d(4, 5, 3)),
        ["b"],
    ),
    "none whose norm comes after the activation": (
        lambda: chain(a=nn.Conv2d(3, 4, 3), relu=nn.ReLU(), bn=nn.BatchNorm2d(4)),
        [],
    ),
    "none whose norm comes after a pool": (
        lambda: chain(a=nn.Conv2d(3, 4, 3), down=nn.MaxPool2d(2), bn=nn.BatchNorm2d(4)),
        [],
    ),
    "none with a group norm": (
        lambda: chain(a=nn.Conv2d(3, 4, 3), gn=nn.GroupNorm(2, 4), b=nn.Conv2d(4, 5, 3)),
        ["b"],
    ),
    "none with an instance norm": (
        lambda: chain(a=nn.Conv2d(3, 4, 3), inorm=nn.InstanceNorm2d(4), b=nn.Conv2d(4, 5, 3)),
        ["b"],
    ),
    # the stem reaches the first norm, and past the block the last one; the outer one as well
    "of pre-activation blocks only the inner ones": (PreActivation, ["inner"]),
    "none on maps of one pixel": (squeezed, ["conv"]),
    "not the one that writes the logits": (fully_convolutional, ["conv"]),
    "depthwise ones": (
        lambda: chain(
            deep=nn.Conv2d(3, 3, 3, groups=3), relu=nn.ReLU(), point=nn.Conv2d(3, 5, 1, bias=False)
        ),
        ["deep"],
    ),
    "none without a bias to take its shift": (
        lambda: chain(a=nn.Conv2d(3, 4, 3, bias=False), b=nn.Conv2d(4, 5, 3)),
        ["b"],
    ),
    "no linear layers": (lambda: chain(), []),
}


@pytest.mark.parametrize("about", WHO)
def test_who_gets_a_norm(about: str) -> None:
    make, expected = WHO[about]
    spec = trace(make().eval(), RGB)
    found = [name.rpartition(".")[2] for name in bare_convolutions(spec)]
    assert found == expected
    assert len(with_norms(spec).nodes) == len(spec.nodes) + len(expected)


def test_a_norm_stands_right_behind_its_convolution() -> None:
    spec = trace(chain(a=nn.Conv2d(3, 4, 3), relu=nn.ReLU(), b=nn.Conv2d(4, 5, 3)), RGB)
    norms = with_norms(spec)
    names = [node.name for node in norms.nodes]
    assert names[names.index("a") : names.index("b") + 2] == ["a", "a_norm", "relu", "b", "b_norm"]
    # whoever read the convolution reads the norm, and it the convolution
    assert norms["relu"].inputs == ("a_norm",)
    assert norms["a_norm"].inputs == ("a",)
    # what stands there is a network by the rules of all others
    assert parse_netspec(norms.to_json()).to_json() == norms.to_json()


def test_a_network_that_has_its_norms_stays_the_very_same() -> None:
    module = chain(a=nn.Conv2d(3, 4, 3), bn=nn.BatchNorm2d(4))
    spec = trace(module, RGB)
    assert with_norms(spec).to_json() == spec.to_json()
    assert normalised(module, spec, torch.rand(4, *RGB)) is module
    weights = module.state_dict()
    assert without_norms(spec, weights).keys() == weights.keys()


def test_a_layer_that_is_called_as_a_norm_would_be() -> None:
    spec = trace(chain(a=nn.Conv2d(3, 4, 3), a_norm=nn.Conv2d(4, 5, 3)), RGB)
    names = [node.name for node in with_norms(spec).nodes]
    assert names == ["a", "a_norm_", "a_norm", "a_norm_norm_"] or len(set(names)) == len(names)
    module = build(spec)
    x = torch.randn(8, *spec.input_shape)
    assert torch.allclose(normalised(module.eval(), spec, x).eval()(x), module(x), atol=1e-4)


def test_folding_worked_by_hand() -> None:
    """One pixel-wise channel: 3x + 1, of which (y − 2) / √(4 − ε + ε) · 10 + 7 = 15x + 2."""
    module = chain(a=nn.Conv2d(3, 1, 1))
    spec = trace(module, RGB)
    weights = build(with_norms(spec)).state_dict()
    weights["a.weight"] = torch.full((1, 3, 1, 1), 3.0)
    weights["a.bias"] = torch.tensor([1.0])
    weights["a_norm.running_mean"] = torch.tensor([2.0])
    weights["a_norm.running_var"] = torch.tensor([4 - 1e-5])
    weights["a_norm.weight"] = torch.tensor([10.0])
    weights["a_norm.bias"] = torch.tensor([7.0])
    found = without_norms(spec, weights)
    assert found.keys() == build(spec).state_dict().keys()
    torch.testing.assert_close(found["a.weight"], torch.full((1, 3, 1, 1), 15.0))
    torch.testing.assert_close(found["a.bias"], torch.tensor([2.0]))


def network_of(classifier: Classifier) -> tuple[nn.Module, NetSpec, Tensor]:
    traced = classifier.traced
    return load(traced.spec, traced.weights).eval(), traced.spec, classifier.images(6)


def assert_same(one: Tensor, other: Tensor) -> None:
    scale = float(one.abs().max()) + 1e-3
    assert float((one - other).abs().max()) <= 2e-4 * scale


@settings(max_examples=15)
@given(classifiers())
def test_nothing_changes_before_a_training(classifier: Classifier) -> None:
    module, spec, images = network_of(classifier)
    found = normalised(module, spec, images).eval()
    with torch.no_grad():
        assert_same(module(images), found(images))
    again = load(spec, without_norms(spec, found.state_dict())).eval()
    with torch.no_grad():
        assert_same(module(images), again(images))


@settings(max_examples=15)
@given(classifiers())
def test_what_training_made_of_the_norms_goes_into_the_layers(classifier: Classifier) -> None:
    module, spec, images = network_of(classifier)
    found = normalised(module, spec, images).eval()
    torch.manual_seed(0)
    for name in bare_convolutions(spec):
        stir(found.get_submodule(f"{name}_norm"))
    again = load(spec, without_norms(spec, found.state_dict())).eval()
    with torch.no_grad():
        assert_same(found(images), again(images))


def test_trained_and_folded_a_student_answers_as_it_did_with_its_norms() -> None:
    torch.manual_seed(0)
    traced = describe(ToyNet().eval(), (1, 8, 8))
    inheritance = Inheritance.of(traced.spec, traced.weights)
    moves = Moves((0.0, 0.5, 1.0), "o")
    student = compress(traced.spec, moves, (1, 1, 2, 1, 2))
    plain = inheritance.student(student, 0)
    images = torch.rand(64, 1, 8, 8)
    labels = (images.mean((1, 2, 3)) > 0.5).long()
    module = normalised(plain, student.spec, images).train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9)
    for _ in range(20):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(module(images), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    module.eval()
    # the norms were trained along, with the statistics of what they saw
    for part in ("weight", "bias", "running_mean", "running_var"):
        assert not torch.equal(
            module.state_dict()[f"inner_norm.{part}"], before[f"inner_norm.{part}"]
        )
    shipped = load(student.spec, without_norms(student.spec, module.state_dict())).eval()
    with torch.no_grad():
        torch.testing.assert_close(shipped(images), module(images), rtol=1e-4, atol=1e-4)
    # of the same size as without the norms
    sizes = {name: value.shape for name, value in plain.state_dict().items()}
    assert {name: value.shape for name, value in shipped.state_dict().items()} == sizes


def test_channels_that_are_silent_stay_so() -> None:
    """A channel without variance: nothing is divided by nothing."""
    module = chain(a=nn.Conv2d(3, 4, 3), relu=nn.ReLU())
    with torch.no_grad():
        module.get_parameter("a.weight")[1] = 0
    spec, images = trace(module, RGB), torch.rand(4, *RGB)
    found = normalised(module, spec, images).eval()
    with torch.no_grad():
        torch.testing.assert_close(found(images), module(images), rtol=1e-4, atol=1e-5)


def test_settling_leaves_the_mode_and_the_generator_as_they_were() -> None:
    module = chain(a=nn.Conv2d(3, 4, 3))
    spec, images = trace(module, RGB), torch.rand(4, *RGB)
    torch.manual_seed(3)
    found = normalised(module, spec, images)
    drawn = torch.rand(())
    torch.manual_seed(3)
    assert torch.equal(drawn, torch.rand(()))
    for training in (True, False):
        found.train(training)
        settle(found, spec, images)
        assert found.training is training
        # no hook is left behind: the norm normalises again
        norm = found.get_submodule("a_norm")
        assert not norm._forward_hooks
