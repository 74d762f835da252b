"""Which module, function and method is read by whom. A new spelling is one line here."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from envs.fx_import.reading import arithmetic, elementwise, norms, pooling, rearranging, weighted
from envs.fx_import.reading.network import Reader

#: modules with weights: their reader is given the module
LAYERS: dict[type[nn.Module], Reader] = {
    nn.Conv1d: weighted.conv_module,
    nn.Conv2d: weighted.conv_module,
    nn.Linear: weighted.linear_module,
    nn.BatchNorm1d: norms.batch_norm_module,
    nn.BatchNorm2d: norms.batch_norm_module,
    nn.SyncBatchNorm: norms.batch_norm_module,
    nn.GroupNorm: norms.group_norm_module,
    nn.InstanceNorm1d: norms.instance_norm_module,
    nn.InstanceNorm2d: norms.instance_norm_module,
    nn.LayerNorm: norms.layer_norm_module,
    nn.PReLU: norms.prelu_module,
}

_relu, _relu6, _silu = (elementwise.activation(op) for op in ("relu", "relu6", "silu"))
_hardswish, _hardsigmoid = map(elementwise.activation, ("hardswish", "hardsigmoid"))
_sigmoid, _tanh, _mish = map(elementwise.activation, ("sigmoid", "tanh", "mish"))
_dropouts = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)

#: modules without weights: their attributes are the arguments that the reader names
MODULES: dict[type[nn.Module], Reader] = {
    nn.ReLU: _relu,
    nn.ReLU6: _relu6,
    nn.SiLU: _silu,
    nn.Hardswish: _hardswish,
    nn.Hardsigmoid: _hardsigmoid,
    nn.Sigmoid: _sigmoid,
    nn.Tanh: _tanh,
    nn.Mish: _mish,
    nn.LeakyReLU: elementwise.leaky_relu,
    nn.RReLU: elementwise.rrelu,
    nn.ELU: elementwise.elu,
    nn.SELU: elementwise.selu,
    nn.CELU: elementwise.celu,
    nn.GELU: elementwise.gelu,
    nn.GLU: rearranging.glu,
    nn.Softplus: elementwise.softplus,
    nn.Hardtanh: elementwise.hardtanh,
    nn.Softmax: elementwise.softmax,
    nn.Softmax2d: elementwise.softmax2d,
    nn.LogSoftmax: elementwise.log_softmax,
    nn.LogSigmoid: elementwise.log_sigmoid,
    **dict.fromkeys((*_dropouts, nn.FeatureAlphaDropout, nn.Identity), elementwise.same),
    nn.LocalResponseNorm: norms.local_response_norm,
    nn.MaxPool1d: partial(pooling.max_pool, 1),
    nn.MaxPool2d: partial(pooling.max_pool, 2),
    nn.AvgPool1d: partial(pooling.avg_pool, 1),
    nn.AvgPool2d: partial(pooling.avg_pool, 2),
    nn.LPPool1d: partial(pooling.lp_pool, 1),
    nn.LPPool2d: partial(pooling.lp_pool, 2),
    nn.AdaptiveAvgPool1d: partial(pooling.adaptive_pool, 1, "avg"),
    nn.AdaptiveAvgPool2d: partial(pooling.adaptive_pool, 2, "avg"),
    nn.AdaptiveMaxPool1d: partial(pooling.adaptive_pool, 1, "max"),
    nn.AdaptiveMaxPool2d: partial(pooling.adaptive_pool, 2, "max"),
    nn.Flatten: rearranging.regroup,
    nn.Unflatten: rearranging.regroup,
    nn.ChannelShuffle: rearranging.channel_shuffle,
    nn.Upsample: rearranging.interpolate,
    nn.UpsamplingNearest2d: rearranging.interpolate,
    nn.UpsamplingBilinear2d: rearranging.interpolate,
    **dict.fromkeys((nn.ConstantPad1d, nn.ZeroPad1d), rearranging.pad_module("constant")),
    **dict.fromkeys((nn.ConstantPad2d, nn.ZeroPad2d), rearranging.pad_module("constant")),
    **dict.fromkeys((nn.ReflectionPad1d, nn.ReflectionPad2d), rearranging.pad_module("reflect")),
    **dict.fromkeys((nn.CircularPad1d, nn.CircularPad2d), rearranging.pad_module("circular")),
    **dict.fromkeys(
        (nn.ReplicationPad1d, nn.ReplicationPad2d), rearranging.pad_module("replicate")
    ),
}

#: other people's modules that do nothing at inference, by the name of their class
STOCHASTIC = frozenset({"StochasticDepth", "DropPath", "DropBlock", "DropBlock2d"})


def _spellings() -> dict[Any, Reader]:
    """Reader → its functions and, in quotes, its methods; turned round."""
    rows: list[tuple[Reader, tuple[Any, ...]]] = [
        (_relu, (F.relu, F.relu_, torch.relu, torch.relu_, "relu", "relu_")),
        (_relu6, (F.relu6,)),
        (_silu, (F.silu,)),
        (_hardswish, (F.hardswish,)),
        (_hardsigmoid, (F.hardsigmoid,)),
        (_sigmoid, (F.sigmoid, torch.sigmoid, torch.sigmoid_, torch.special.expit)),
        (_sigmoid, ("sigmoid", "sigmoid_")),
        (_tanh, (F.tanh, torch.tanh, torch.tanh_, "tanh", "tanh_")),
        (_mish, (F.mish,)),
        (elementwise.leaky_relu, (F.leaky_relu, F.leaky_relu_)),
        (elementwise.rrelu, (F.rrelu, torch.rrelu)),
        (elementwise.elu, (F.elu, F.elu_)),
        (elementwise.selu, (F.selu, torch.selu)),
        (elementwise.celu, (F.celu, torch.celu)),
        (elementwise.gelu, (F.gelu,)),
        (rearranging.glu, (F.glu,)),
        (elementwise.softplus, (F.softplus,)),
        (elementwise.hardtanh, (F.hardtanh, F.hardtanh_)),
        (elementwise.clamp, (torch.clamp, torch.clip, torch.clamp_, "clamp", "clamp_", "clip")),
        (elementwise.clamp, ("clip_", torch.clip_)),
        (elementwise.clamp, ("clamp_min", "clamp_min_", torch.clamp_min)),
        (elementwise.clamp_max, ("clamp_max", "clamp_max_", torch.clamp_max)),
        (elementwise.softmax, (F.softmax, torch.softmax, torch.special.softmax, "softmax")),
        (elementwise.log_softmax, (F.log_softmax, torch.log_softmax, "log_softmax")),
        (elementwise.log_softmax, (torch.special.log_softmax,)),
        (elementwise.log_sigmoid, (F.logsigmoid,)),
        (elementwise.final("log"), (torch.log, torch.log_, "log", "log_")),
        (elementwise.final("exp"), (torch.exp, torch.exp_, "exp", "exp_")),
        (elementwise.dropout, (F.dropout, F.dropout1d, F.dropout2d, F.dropout3d)),
        (elementwise.dropout, (F.alpha_dropout, F.feature_alpha_dropout)),
        (elementwise.same, ("contiguous", "clone", "detach", "float", "to", "requires_grad_")),
        (elementwise.same, ("type_as", "cpu", "cuda")),
        (elementwise.same, (torch.clone, torch.detach)),
        (norms.batch_norm, (F.batch_norm,)),
        (norms.group_norm, (F.group_norm,)),
        (norms.instance_norm, (F.instance_norm,)),
        (norms.layer_norm, (F.layer_norm,)),
        (norms.local_response_norm, (F.local_response_norm,)),
        (norms.prelu, (F.prelu, torch.prelu, "prelu")),
        (partial(weighted.conv, 1), (F.conv1d, torch.conv1d)),
        (partial(weighted.conv, 2), (F.conv2d, torch.conv2d)),
        (weighted.linear, (F.linear,)),
        (weighted.matmul, (operator.matmul, torch.matmul, torch.mm, "matmul", "mm")),
        (weighted.addmm, (torch.addmm,)),
        (partial(pooling.max_pool, 1), (F.max_pool1d, torch.max_pool1d)),
        (partial(pooling.max_pool, 2), (F.max_pool2d, torch.max_pool2d)),
        (partial(pooling.avg_pool, 1), (F.avg_pool1d,)),
        (partial(pooling.avg_pool, 2), (F.avg_pool2d,)),
        (partial(pooling.lp_pool, 1), (F.lp_pool1d,)),
        (partial(pooling.lp_pool, 2), (F.lp_pool2d,)),
        (partial(pooling.adaptive_pool, 1, "avg"), (F.adaptive_avg_pool1d,)),
        (partial(pooling.adaptive_pool, 2, "avg"), (F.adaptive_avg_pool2d,)),
        (partial(pooling.adaptive_pool, 1, "max"), (F.adaptive_max_pool1d,)),
        (partial(pooling.adaptive_pool, 2, "max"), (F.adaptive_max_pool2d,)),
        (partial(pooling.adaptive_pool, 1, "max"), (torch.adaptive_max_pool1d,)),
        (pooling.mean, (torch.mean, "mean")),
        (pooling.amax, (torch.amax, "amax")),
        (pooling.maximum, (torch.max, "max")),
        (arithmetic.larger, (torch.maximum, "maximum")),
        (pooling.total, (torch.sum, "sum")),
        (arithmetic.add, (operator.add, operator.iadd, torch.add, "add", "add_", "__radd__")),
        (arithmetic.subtract, (operator.sub, operator.isub, torch.sub, torch.subtract)),
        (arithmetic.subtract, ("sub", "sub_", "subtract")),
        (arithmetic.subtract_from, (torch.rsub, "rsub", "__rsub__")),
        (arithmetic.multiply, (operator.mul, operator.imul, torch.mul, torch.multiply)),
        (arithmetic.multiply, ("mul", "mul_", "multiply", "__rmul__")),
        (arithmetic.divide, (operator.truediv, operator.itruediv, torch.div, torch.true_divide)),
        (arithmetic.divide, (torch.divide, "div", "div_", "true_divide", "divide")),
        (arithmetic.negative, (operator.neg, torch.neg, torch.negative, "neg", "neg_")),
        (arithmetic.power, (operator.pow, torch.pow, "pow")),
        (arithmetic.square, (torch.square, "square")),
        (rearranging.regroup, (torch.flatten, torch.reshape, torch.squeeze, torch.unsqueeze)),
        (rearranging.regroup, (torch.unflatten, "flatten", "reshape", "view", "view_as")),
        (rearranging.regroup, ("reshape_as", "squeeze", "unsqueeze", "unflatten")),
        (rearranging.expand, ("expand", "expand_as", torch.broadcast_to, "broadcast_to")),
        (rearranging.repeat, ("repeat", "tile", torch.tile)),
        (rearranging.index, (operator.getitem,)),
        (rearranging.narrow, (torch.narrow, "narrow")),
        (rearranging.select, (torch.select, torch.index_select, "select", "index_select")),
        (rearranging.split, (torch.split, torch.functional.split, torch.tensor_split, "split")),
        (rearranging.split, ("tensor_split", "split_with_sizes", torch.split_with_sizes)),
        (rearranging.chunk, (torch.chunk, "chunk")),
        (rearranging.unbind, (torch.unbind, "unbind")),
        (rearranging.cat, (torch.cat, torch.concat, torch.concatenate)),
        (rearranging.stack, (torch.stack,)),
        (rearranging.zeros, (torch.zeros_like, "new_zeros")),
        (rearranging.pad, (F.pad, torch.constant_pad_nd)),
        (rearranging.interpolate, (F.interpolate,)),
        (rearranging.channel_shuffle, (F.channel_shuffle, F.native_channel_shuffle)),
        (rearranging.channel_shuffle, (torch.channel_shuffle, torch.native_channel_shuffle)),
    ]
    found = {target: reader for reader, targets in rows for target in targets}
    for name in ("permute", "transpose", "swapaxes", "swapdims", "movedim", "moveaxis"):
        function = getattr(torch, name)
        method = getattr(torch.Tensor, name)
        found |= {function: rearranging.permute(function), name: rearranging.permute(method)}
    found["t"] = found[torch.t] = rearranging.permute(torch.t)
    return found


#: functions, and methods by their names
CALLS: Mapping[Any, Reader] = _spellings()


#: readers to whom a constant may come first
ORDERLESS = frozenset(
    {
        arithmetic.add,
        arithmetic.subtract,
        arithmetic.subtract_from,
        arithmetic.multiply,
        arithmetic.divide,
        arithmetic.larger,
        weighted.matmul,
        weighted.addmm,
    }
)


def reader_of(module: nn.Module) -> Reader | None:
    """Who reads the call of a module; None for a module to look into.

    A class that is built on one of ours is that one, unless it has a forward of its own.
    """
    kind = type(module)
    if kind.__name__ in STOCHASTIC:
        return elementwise.same
    for base in kind.__mro__:
        own = all(
            getattr(kind, name, None) is getattr(base, name, None)
            for name in ("forward", "_conv_forward")
        )
        if own and base in LAYERS:
            return _given_module(LAYERS[base], module)
        if own and base in MODULES:
            return MODULES[base]
    return None


def _given_module(reader: Reader, module: nn.Module) -> Callable[..., Any]:
    return lambda net, x: reader(net, x, module)
