"""Teachers end in many things; what is described ends in logits."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edge.errors import BadInput
from envs.compression.surgery import load
from envs.fx_import.trace import Traced, agrees, describe

Function = Callable[[Tensor], Tensor]
SHAPE = (1, 6, 6)


class Classifier(nn.Module):
    """A convolution and a linear layer of so many outputs, and what is done to its logits."""

    def __init__(self, ending: Function, outputs: int = 4, last: str = "linear") -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(1, 5, 3)
        self.fc: nn.Module = nn.Linear(5, outputs)
        if last == "pool":  # the logits are the means of maps
            self.fc = nn.Conv2d(5, outputs, 1)
        self.last, self.ending = last, ending

    def logits(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv(x))
        if self.last == "pool":
            return self.fc(x).mean((2, 3)) * 8  # type: ignore[no-any-return]
        return self.fc(x.mean((2, 3))) * 8  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        return self.ending(self.logits(x))


def described(net: Classifier) -> tuple[Traced, Tensor, Tensor]:
    """What it is taken for, that description's logits on some images, and its own."""
    net.eval()
    traced = describe(net, SHAPE)
    images = torch.randn(8, *SHAPE, generator=torch.Generator().manual_seed(1))
    module = load(traced.spec, traced.weights).eval()
    assert agrees(net, lambda x: traced.ending.apply(module(x)), images)
    with torch.no_grad():
        return traced, module(images), net.logits(images)


@pytest.mark.parametrize(
    ("ending", "words"),
    [
        (torch.sigmoid, "sigmoid"),
        (nn.Hardsigmoid(), "hardsigmoid"),
        (lambda y: y.softmax(1).clamp(1e-7, 1 - 1e-7), "softmax and clamp"),
        (lambda y: 100 * F.softmax(y, 1), "softmax and scaling"),
        (lambda y: (100 * y.sigmoid()).clip(0, 100), "sigmoid, scaling and clamp"),
        (lambda y: F.softmax(F.softmax(y, 1), 1), "softmax and softmax"),
        (lambda y: F.log_softmax(y, 1), "log-softmax"),
        (lambda y: torch.log(F.softmax(y, 1)), "softmax and log"),
        (lambda y: (F.softmax(y, 1) + 1e-6).log(), "softmax, scaling and log"),
        (lambda y: F.log_softmax(y, 1).exp(), "log-softmax and exp"),
        (nn.LogSigmoid(), "sigmoid and log"),
        (lambda y: F.softmax(y[:, :, None, None], 1).flatten(1), "softmax"),
    ],
)
def test_probabilities_are_left_out_and_noted(ending: Function, words: str) -> None:
    traced, found, logits = described(Classifier(ending))
    assert traced.ending.words == words
    assert torch.allclose(found, logits, atol=1e-5)
    assert f"the {words} at the end" in traced.notes[0]
    assert "students learn from logits" in traced.notes[0]


@pytest.mark.parametrize(
    "ending",
    [
        lambda y: y,
        lambda y: 3 * y + 1,  # a temperature is part of the logits
        lambda y: y.clamp(-5, 5),
        lambda y: -F.softmax(y, 1),  # the other way round: nothing tells which way is meant
        lambda y: torch.tanh(y),
    ],
)
def test_what_is_no_probability_or_turns_the_order_stays(ending: Function) -> None:
    net = Classifier(ending)
    traced, found, logits = described(net)
    assert traced.ending.words == ""
    assert traced.notes == ()
    assert torch.allclose(found, ending(logits), atol=1e-5)


def test_a_temperature_inside_the_softmax_stays() -> None:
    _, found, logits = described(Classifier(lambda y: F.softmax(y / 4, 1)))
    assert torch.allclose(found, logits / 4, atol=1e-5)


@pytest.mark.parametrize("last", ["linear", "pool"])
@pytest.mark.parametrize(
    "ending",
    [
        lambda z: z,
        torch.sigmoid,
        lambda z: z.squeeze(1),
        lambda z: torch.sigmoid(z).view(-1),
    ],
)
def test_one_logit_is_two(ending: Function, last: str) -> None:
    """The softmax of (0, z) is (1 - s, s) with s the sigmoid of z."""
    traced, found, logits = described(Classifier(ending, outputs=1, last=last))
    assert traced.spec.classes == 2
    assert torch.allclose(found, torch.cat([0 * logits, logits], 1), atol=1e-5)
    assert torch.allclose(found.softmax(1)[:, 1:], torch.sigmoid(logits), atol=1e-5)
    assert "the two logits 0 and z" in traced.notes[-1]
    assert [node.op for node in traced.spec.nodes].count("linear") == (last == "linear")


def test_one_logit_that_is_moved_last_gets_a_layer_of_its_own() -> None:
    """z + 1 would make (0, z) to (1, z + 1)."""
    traced, found, logits = described(Classifier(lambda z: z + 1, outputs=1))
    assert torch.allclose(found, torch.cat([0 * logits, logits + 1], 1), atol=1e-5)
    assert traced.spec.nodes[-1].op == "linear"
    assert traced.spec.nodes[-1].attrs["in"] == 1


def test_a_logarithm_inside_is_refused_by_name() -> None:
    with pytest.raises(BadInput, match=r"got a log inside \(log\); expected a log at the end"):
        describe(Classifier(lambda y: torch.tanh(torch.log(y))), SHAPE)
