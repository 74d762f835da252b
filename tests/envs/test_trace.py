"""What can be described, and what is refused with the node and the remedy."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from torch import Tensor, nn

from edge.errors import BadInput
from envs.check import check_spec
from envs.surgery import load
from envs.trace import agrees, trace
from tests.envs.networks import Call, Classifier, Residual, classifiers


def chain(*modules: nn.Module) -> nn.Sequential:
    """A network of 1×8×8 images that ends in two logits."""
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), *modules, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    ).eval()


@given(classifiers())
@settings(max_examples=30)
def test_what_is_traced_would_pass_as_a_bundle(teacher: Classifier) -> None:
    check_spec(trace(teacher.module, teacher.input_shape))


class Overwriting(nn.Module):
    """Whoever reads a tensor after it was written over reads the new one."""

    def __init__(self, write: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.write = write

    def forward(self, x: Tensor) -> Tensor:
        alias = F.dropout(x, training=False)
        y = self.write(x)
        return y + alias


@pytest.mark.parametrize(
    "write",
    [
        nn.ReLU(inplace=True),
        lambda x: F.relu(x, inplace=True),
        lambda x: F.relu(x, True),
        lambda x: x.relu_(),
        torch.relu_,
        lambda x: x.add_(x),
        # and the same without writing over it
        nn.ReLU(),
        lambda x: F.relu(x),
        lambda x: x.add(x),
    ],
)
def test_operators_in_place(write: Callable[[Tensor], Tensor]) -> None:
    net = chain(Overwriting(write))
    spec = trace(net, (1, 8, 8))
    images = torch.randn(3, 1, 8, 8)
    assert agrees(net, load(spec, net.state_dict()).eval(), images)


def test_what_torch_fx_cannot_see_is_why_a_description_is_compared_with_its_network() -> None:
    """To fx ``x += y`` is ``x + y``, so it does not see that another name of x changes, too."""

    def add_in_place(x: Tensor) -> Tensor:
        x += x
        return x

    net = chain(Overwriting(add_in_place))
    rebuilt = load(trace(net, (1, 8, 8)), net.state_dict()).eval()
    assert not agrees(net, rebuilt, torch.randn(3, 1, 8, 8))


@pytest.mark.parametrize(
    "module",
    [
        nn.Conv2d(4, 4, 3, padding="same"),
        nn.Conv2d(4, 4, 3, padding="valid"),
        nn.Conv2d(4, 4, (1, 3), padding=(0, 2)),
        nn.MaxPool2d(2, ceil_mode=True),
        nn.MaxPool2d((3, 1), (2, 1), (1, 0)),
        nn.AvgPool2d(3, padding=1, count_include_pad=False),
        Call(lambda x: torch.max_pool2d(x, 2)),
        Call(lambda x: F.max_pool2d(x, (2, 3), stride=1, padding=(1, 0))),
        Call(lambda x: F.avg_pool2d(x, 2, 1, 0, True, False)),
        Call(lambda x: F.adaptive_avg_pool2d(x, 2)),
        Call(lambda x: F.dropout(x, 0.5, False)),
        nn.Sequential(OrderedDict([("conv-1", nn.Conv2d(4, 4, 1))])),
    ],
)
def test_spellings_that_are_understood(module: nn.Module) -> None:
    net = chain(module)
    spec = trace(net, (1, 8, 8))
    assert agrees(net, load(spec, net.state_dict()).eval(), torch.randn(3, 1, 8, 8))


def test_a_layer_may_be_called_input() -> None:
    net = nn.Sequential(
        OrderedDict(input=nn.Conv2d(1, 2, 8), flat=nn.Flatten(), image=nn.Linear(2, 2))
    )
    assert [node.name for node in trace(net, (1, 8, 8)).nodes] == ["input", "flat", "image"]


def test_what_the_logits_do_not_need_is_left_out() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = nn.Linear(4, 2), nn.Linear(4, 9)

        def forward(self, x: Tensor) -> Tensor:
            x = torch.flatten(x, 1)
            self.unused(x)
            return self.used(x)  # type: ignore[no-any-return]

    assert [node.name for node in trace(Net(), (1, 2, 2)).nodes] == ["flatten", "used"]


class Scaled(nn.Module):
    """Multiplies by a parameter of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.relu = nn.Parameter(torch.ones(1))  # the name of an operator, to make it harder

    def forward(self, x: Tensor) -> Tensor:
        return x + self.relu


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(36, 36)

    def forward(self, x: Tensor) -> Tensor:
        return self.gru(torch.flatten(x, 2))[0]  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("module", "operator"),
    [
        (nn.Sigmoid(), "Sigmoid"),
        (Call(torch.sigmoid), "sigmoid"),
        (Call(lambda x: x.tanh()), "tanh"),
        (Call(lambda x: x * x), "mul"),
        (Call(lambda x: torch.cat([x, x], 1)), "cat"),
        (Call(lambda x: x.mean((2, 3))), "mean"),
        (Call(lambda x: x.view(x.size(0), -1)), "size"),
        (Call(lambda x: x.reshape(x.shape[0], -1)), "getattr"),
        (Call(lambda x: torch.add(x, x, alpha=2)), "add with alpha"),
        (Call(lambda x: torch.flatten(x, 2)), "flatten from dimension 2 to -1"),
        (Call(lambda x: F.max_pool2d(x, 2, dilation=2)), "max_pool2d with dilation"),
        (Call(lambda x: F.avg_pool2d(x, 2, divisor_override=3)), "divisor_override"),
        (nn.Conv2d(4, 4, 3, groups=2), r"Conv2d\(groups=2"),
        (nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"), "padding_mode='reflect'"),
        (nn.Conv2d(4, 4, 2, padding="same"), "padding='same'"),
        (nn.MaxPool2d(2, dilation=2), "MaxPool2d with dilation or indices"),
        (nn.AvgPool2d(2, divisor_override=3), "AvgPool2d with divisor_override"),
        (nn.AdaptiveAvgPool2d((None, 1)), "adaptive pooling to a size of None"),
        (nn.BatchNorm2d(4, momentum=None), "BatchNorm2d without running statistics"),
        (nn.BatchNorm2d(4, track_running_stats=False), "BatchNorm2d without running statistics"),
        (nn.Flatten(2), "flatten from dimension 2 to -1"),
        (Recurrent(), "flatten from dimension 2"),
        (Scaled(), "the tensor 1.relu"),
        (nn.GRU(6, 6), "GRU"),
    ],
)
def test_an_unsupported_operator_is_named_with_its_node(module: nn.Module, operator: str) -> None:
    message = rf"unsupported operator at node \d \(\w+\): got .*{operator}.*; expected one of "
    message += "conv2d, linear, .*Rebuild the teacher with supported operators alone"
    with pytest.raises(BadInput, match=message):
        trace(chain(module), (1, 8, 8))


def _branch(x: Tensor) -> Tensor:
    return x if x.sum() > 0 else -x


def _silent(x: Tensor) -> Tensor:
    raise NotImplementedError


@pytest.mark.parametrize(
    ("function", "error"),
    [(_branch, "TraceError"), (lambda x: torch.stack(list(x)), "TraceError"), (_silent, "NotImp")],
)
def test_control_flow_that_depends_on_the_data(
    function: Callable[[Tensor], Tensor], error: str
) -> None:
    with pytest.raises(BadInput, match=f"cannot be traced: got {error}.*no branches on the data"):
        trace(chain(Call(function)), (1, 8, 8))


@pytest.mark.parametrize("function", [lambda x: x + 1, lambda x: 1 + x, lambda x: x.add(2.0)])
def test_an_add_of_a_constant(function: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(BadInput, match="got add with a constant; expected tensors of the network"):
        trace(chain(Call(function)), (1, 8, 8))


def test_weights_that_are_used_twice() -> None:
    conv = nn.Conv2d(4, 4, 1)
    with pytest.raises(BadInput, match="got '1' used twice; expected every weight used once"):
        trace(chain(conv, nn.ReLU(), conv), (1, 8, 8))
    # what owns no weights may be used as often as one likes
    relu = nn.ReLU()
    assert [node.op for node in trace(chain(relu, relu), (1, 8, 8)).nodes].count("relu") == 2


def test_a_second_input() -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return x + y

    with pytest.raises(BadInput, match="described at y: got a second input; expected one image"):
        trace(Two(), (1, 8, 8))


@pytest.mark.parametrize(
    ("net", "value"),
    [
        (nn.Sequential(nn.Conv2d(1, 4, 3)), r"a result of shape \(4, 6, 6\); expected logits N×K"),
        (nn.Identity(), r"a result of shape \(1, 8, 8\); expected logits N×K"),
        (nn.Flatten(), "no layer with weights; expected convolutions or linear layers"),
        (Call(lambda x: (x, x)), "a result of type tuple; expected the logits"),  # type: ignore[arg-type, return-value]
    ],
)
def test_a_result_that_is_no_logits(net: nn.Module, value: str) -> None:
    with pytest.raises(BadInput, match=f"got {value}"):
        trace(nn.Sequential(net), (1, 8, 8))


@pytest.mark.parametrize(
    ("shape", "problem"),
    [
        ((3, 8, 8), r"node 1 \(_0\): got convolution of 1 channels is given 3"),
        ((1, 2, 8), r"node 1 \(_0\): got convolution would give a map of \(4, 0, 6\)"),
    ],
)
def test_an_image_of_another_size(shape: tuple[int, ...], problem: str) -> None:
    with pytest.raises(BadInput, match=problem + ".*Check `input` in the teacher's JSON"):
        trace(chain(), shape)


@pytest.mark.parametrize(
    ("modules", "problem"),
    [
        ([nn.Flatten(), nn.Linear(9, 4)], r"linear layer of 9 inputs is given \(144,\)"),
        ([nn.BatchNorm2d(5)], "batch norm of 5 channels is given"),
        ([nn.Flatten(), nn.MaxPool2d(2)], "pooling is given a vector of 144"),
        ([nn.Flatten(), nn.Conv2d(4, 4, 1)], "convolution is given a vector of 144"),
        ([Residual(nn.Conv2d(4, 4, 3), nn.Identity(), "x + y")], "add is given shapes"),
    ],
)
def test_layers_that_do_not_fit_each_other(modules: list[nn.Module], problem: str) -> None:
    with pytest.raises(BadInput, match=f"does not run on its input at node .*{problem}"):
        trace(chain(*modules), (1, 8, 8))


def test_a_layer_with_a_name_that_torch_needs() -> None:
    net = nn.Sequential(OrderedDict(code=nn.Conv2d(1, 2, 8), flat=nn.Flatten()))
    with pytest.raises(
        BadInput, match="a layer called 'code'; expected a name that torch does not"
    ):
        trace(net, (1, 8, 8))


def test_networks_that_disagree_are_told_apart() -> None:
    images = torch.randn(3, 1, 8, 8)
    one, other = chain(), chain()
    assert agrees(one, one, images)
    assert not agrees(one, other, images)
    assert not agrees(one, lambda x: one(x) * float("nan"), images)
