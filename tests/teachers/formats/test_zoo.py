"""The contract of every architecture, and the registry's own behaviour."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, fx, nn

from edge.errors import BadInput
from teachers.formats.zoo import ARCHITECTURES, build
from teachers.networks.variants import InputShape, Shapes
from tests.teachers.conftest import one_thread

CLASSES = 7


@pytest.fixture(scope="module", autouse=True)
def _one_thread_for_the_module() -> Iterator[None]:
    """Fixtures of module scope are made before those of a test, and must round like the tests."""
    with one_thread():
        yield


def images(shape: InputShape, rows: int = 2) -> Tensor:
    return torch.randn(rows, *shape, generator=torch.Generator().manual_seed(3))


def settled(module: nn.Module, shape: InputShape) -> nn.Module:
    """In eval mode, with running statistics of real activations.

    Without them the untrained depthwise networks answer about 1e-13, and any two would be equal.
    """
    norms = [part for part in module.eval().modules() if isinstance(part, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.train()
        norm.momentum = 1.0
    if norms:
        with torch.no_grad():
            module(images(shape, rows=3))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return module.eval()


def shapes_of(module: nn.Module) -> Shapes:
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


# Of module scope, so that each network is built once for all tests and then let go.
@pytest.fixture(scope="module", params=ARCHITECTURES)
def arch(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", params=[(3, 32, 32), (1, 28, 28)], ids=["3x32x32", "1x28x28"])
def shape(request: pytest.FixtureRequest) -> InputShape:
    channels, height, width = request.param
    return channels, height, width


@pytest.fixture(scope="module")
def network(arch: str, shape: InputShape) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return settled(build(arch, input_shape=shape, classes=CLASSES), shape)


@pytest.fixture(scope="module")
def logits(network: nn.Module, shape: InputShape) -> Tensor:
    with torch.no_grad():
        y: Tensor = network(images(shape))
    return y


@pytest.fixture(scope="module")
def traced(network: nn.Module) -> fx.GraphModule:
    return fx.symbolic_trace(network)


class TestEveryArchitecture:
    """What envs, formats and distillation rely on, whichever member it is."""

    def test_maps_images_to_logits(self, logits: Tensor) -> None:
        assert logits.shape == (2, CLASSES)
        assert logits.isfinite().all()
        # two images and their classes are told apart, or the comparisons below would be empty
        largest = logits.abs().max()
        assert largest > 1e-4
        assert (logits[0] - logits[1]).abs().max() > 0.01 * largest
        assert logits.std(1).min() > 0.01 * largest

    def test_can_be_traced(self, traced: fx.GraphModule, logits: Tensor, shape: InputShape) -> None:
        close = 1e-5 * logits.abs().max().item()
        with torch.no_grad():
            torch.testing.assert_close(traced(images(shape)), logits, rtol=0, atol=close)
        functions = {node.target for node in traced.graph.nodes if node.op == "call_function"}
        assert functions.isdisjoint({torch.empty, torch.rand, torch.bernoulli})

    def test_first_and_last_weights_are_where_the_registry_says(
        self, arch: str, network: nn.Module, shape: InputShape
    ) -> None:
        first, last = (
            network.get_submodule(name.removesuffix(".weight"))
            for name in (ARCHITECTURES[arch].first_weight, ARCHITECTURES[arch].last_weight)
        )
        assert isinstance(first, nn.Conv2d)
        assert first.in_channels == shape[0]
        outputs = last.out_channels if isinstance(last, nn.Conv2d) else None
        outputs = last.out_features if isinstance(last, nn.Linear) else outputs
        assert outputs == CLASSES

    def test_they_are_the_first_and_the_last_to_run(
        self, arch: str, network: nn.Module, traced: fx.GraphModule
    ) -> None:
        weighted = [
            node.target
            for node in traced.graph.nodes
            if node.op == "call_module"
            and isinstance(network.get_submodule(node.target), nn.Conv2d | nn.Linear)
        ]
        assert f"{weighted[0]}.weight" == ARCHITECTURES[arch].first_weight
        assert f"{weighted[-1]}.weight" == ARCHITECTURES[arch].last_weight

    def test_stored_weights_rebuild_it(
        self, arch: str, network: nn.Module, logits: Tensor, shape: InputShape
    ) -> None:
        with torch.device("meta"):
            again = build(arch, input_shape=shape, classes=CLASSES, shapes=shapes_of(network))
        again.load_state_dict(network.state_dict(), assign=True)
        with torch.no_grad():
            assert torch.equal(again.eval()(images(shape)), logits)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_parameter_of_every_architecture_learns(arch: str) -> None:
    shape = (3, 8, 8)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = build(arch, input_shape=shape, classes=CLASSES)
        assert module.training
        loss = nn.functional.cross_entropy(module(images(shape, rows=4)), torch.arange(4))
        loss.backward()  # type: ignore[no-untyped-call]
    assert loss.isfinite()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    first = module.get_parameter(ARCHITECTURES[arch].first_weight).grad
    assert first is not None
    assert first.abs().max() > 0


SIZE_DEPENDENT = {"cloudcnn", "edgecnn3", "edgecnn5", "edgecnn10"}


@pytest.mark.parametrize(
    ("arch", "stored", "given"),
    [(arch, 64, 32) for arch in sorted(ARCHITECTURES.keys() - SIZE_DEPENDENT)]
    + [(arch, 32, 224) for arch in ("densenet121", "resnet50", "squeezenet1_0", "vgg11")],
)
def test_stored_shapes_decide_before_the_size_of_the_input(
    arch: str, stored: int, given: int
) -> None:
    with torch.device("meta"):  # shapes without arithmetic
        written = build(arch, input_shape=(3, stored, stored), classes=5).eval()
        shapes = shapes_of(written)
        read = build(arch, input_shape=(3, given, given), classes=5, shapes=shapes).eval()
        assert shapes_of(read) == shapes
        assert written(torch.empty(2, 3, stored, stored)).shape == (2, 5)
        assert read(torch.empty(2, 3, given, given)).shape == (2, 5)


def _kb(module: nn.Module) -> float:
    floats = [t for t in (*module.parameters(), *module.buffers()) if t.is_floating_point()]
    return sum(t.numel() for t in floats) * 4 / 1024


def test_small_cnn_leaves_room_for_a_fifth() -> None:
    # weights 32·9 + 64·32·9 + 64·64·9 + 96·64·9 = 110,880; batch norms 4·256 = 1,024; fc 970
    module = build("small_cnn", input_shape=(1, 8, 8), classes=10)
    assert _kb(module) == pytest.approx((110_880 + 1_024 + 970) * 4 / 1024)


def test_an_unknown_architecture_lists_the_known_ones() -> None:
    with pytest.raises(BadInput, match="resnet18, resnet34, resnet50, shufflenet_v2_x0_5"):
        build("vgg99", input_shape=(3, 32, 32), classes=2)


def test_the_registry_is_in_alphabetical_order() -> None:
    assert list(ARCHITECTURES) == sorted(ARCHITECTURES)


def test_early_checks_do_not_load_torch() -> None:
    # A refused input must be answered faster than torch can be imported.
    code = (
        "import sys, teachers.formats.formats, teachers.data.datasets, teachers.data.splits;"
        "import teachers.distillation.metrics;"
        "import teachers.formats.zoo;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
