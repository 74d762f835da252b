"""What is refused: one error that names the value, where it stands, the bound and the remedy."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from edge.errors import BadInput
from envs.fx_import.trace import agrees, trace
from envs.graph.netspec import Shape
from tests.envs.blocks import Call
from tests.envs.tracing import chain, faithful

Function = Callable[[Tensor], Tensor]


def _assign(x: Tensor) -> Tensor:
    x[:, 0] = 0
    return x


def _assign_in_place(x: Tensor) -> Tensor:
    x[:, :2] += 1
    return x


@pytest.mark.parametrize(
    ("module", "operator", "node"),
    [
        (nn.ConvTranspose2d(4, 4, 1), "ConvTranspose2d", r"2 of 6 \(_1\) in the module '1'"),
        (nn.PixelShuffle(1), "PixelShuffle", r"2 of 6 \(_1\) in the module '1'"),
        (nn.Sequential(nn.ReLU(), Call(torch.erf)), "erf", r"3 of 7 \(erf\) in the module '1.1'"),
        (Call(lambda x: x.flip(2)), "flip", r"2 of 6 \(flip\) in the module '1'"),
        # it does not even run, so what comes after it is not known
        (nn.GRU(6, 6), "GRU", r"2 \(_1\) in the module '1'"),
    ],
)
def test_an_unsupported_operator_is_named_with_its_place(
    module: nn.Module, operator: str, node: str
) -> None:
    message = rf"unsupported operator at node {node}: got {operator}; expected one of conv1d, "
    message += "conv2d, linear, .*Rebuild the teacher with supported operators alone"
    with pytest.raises(BadInput, match=message):
        trace(chain(module), (1, 8, 8))


@pytest.mark.parametrize(
    ("function", "error"),
    [
        (lambda x: x if x.sum() > 0 else -x, "TraceError"),
        (lambda x: torch.stack(list(x)), "TraceError"),
        (lambda x: 1 / 0, "ZeroDivisionError"),
    ],
)
def test_control_flow_that_depends_on_the_data(function: Function, error: str) -> None:
    message = f"cannot be traced in the module '1.0': got {error}.*no branches on the data"
    with pytest.raises(BadInput, match=message):
        trace(chain(nn.Sequential(Call(function))), (1, 8, 8))


def test_a_known_operator_in_another_form_is_named_too() -> None:
    message = r"the teacher's Softmax cannot be described at node 2 of 6 \(_1\) in the module '1': "
    message += (
        r"got a tensor of axes \(batch, height, channels, width\); expected \(batch, channels, "
    )
    message += r"space\). Rebuild the teacher in that form"
    with pytest.raises(BadInput, match=message):
        trace(chain(nn.Softmax(2)), (1, 8, 8))


@pytest.mark.parametrize("assign", [_assign, _assign_in_place])
def test_an_assignment_to_a_part(assign: Function) -> None:
    message = r"operator at node [24] in the module '1': got an assignment to a part of a tensor"
    with pytest.raises(BadInput, match=message):
        trace(chain(Call(assign)), (1, 8, 8))


def test_a_second_input() -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return x + y

    with pytest.raises(BadInput, match="described at y: got a second input; expected one image"):
        trace(Two(), (1, 8, 8))


def test_an_argument_with_a_default_is_no_second_input() -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 2)

        def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
            x = x if mask is None else x * mask
            return self.fc(x.flatten(1))  # type: ignore[no-any-return]

    faithful(Masked(), (1, 2, 2))


@pytest.mark.parametrize(
    ("net", "value"),
    [
        (nn.Conv2d(1, 4, 3), r"axes \(batch, channels, height, width\); expected logits N×K"),
        (nn.Identity(), r"axes \(batch, 1, height, width\); expected logits N×K"),
        (nn.Flatten(), "no layer with weights; expected convolutions or linear layers"),
        (Call(lambda x: (x, x)), "type tuple; expected the logits"),  # type: ignore[arg-type, return-value]
        (Call(lambda x: torch.ones(1)), "type constant; expected the logits"),
        (Call(lambda x: x.flatten(2).max(2)[1]), "the indices of a maximum"),
        (nn.Sequential(nn.Flatten(), nn.LogSoftmax(1), nn.Tanh()), "a log-softmax inside"),
    ],
)
def test_a_result_that_is_no_logits(net: nn.Module, value: str) -> None:
    with pytest.raises(BadInput, match=f"got .*{value}"):
        trace(nn.Sequential(net), (1, 8, 8))


@pytest.mark.parametrize(
    ("shape", "problem"),
    [
        ((3, 8, 8), r"node 1 \(_0\) in the module '0': got Conv2d of \(N, 3, 8, 8\)"),
        ((1, 2, 8), r"node 1 \(_0\) in the module '0': got Conv2d of \(N, 1, 2, 8\): .*ernel size"),
    ],
)
def test_an_image_of_another_size(shape: Shape, problem: str) -> None:
    with pytest.raises(BadInput, match=problem + ".*Check `input` in the teacher's JSON"):
        trace(chain(), shape)


@pytest.mark.parametrize(
    ("modules", "problem"),
    [
        ([nn.Flatten(), nn.Linear(9, 4)], r"Linear of \(N, 144\)"),
        ([nn.BatchNorm2d(5)], r"BatchNorm2d of \(N, 4, 6, 6\)"),
        ([Call(lambda x: x + x[:, :3])], r"add of \(N, 4, 6, 6\), \(N, 3, 6, 6\)"),
        ([Call(lambda x: x.view(1, 7))], r"view of \(N, 4, 6, 6\): shape '\[1, 7\]' is invalid"),
    ],
)
def test_layers_that_do_not_fit_each_other(modules: list[nn.Module], problem: str) -> None:
    with pytest.raises(BadInput, match=f"does not run on its input at node .*got {problem}"):
        trace(chain(*modules), (1, 8, 8))


def test_a_layer_with_a_name_that_torch_needs() -> None:
    net = nn.Sequential(OrderedDict(code=nn.Conv2d(1, 2, 8), flat=nn.Flatten()))
    message = "a layer called 'code'; expected a name that torch does not"
    with pytest.raises(BadInput, match=message):
        trace(net, (1, 8, 8))


def test_networks_that_disagree_are_told_apart() -> None:
    images = torch.randn(3, 1, 8, 8)
    one, other = chain(), chain()
    assert agrees(one, one, images)
    assert not agrees(one, other, images)
    assert not agrees(one, lambda x: one(x) * float("nan"), images)
