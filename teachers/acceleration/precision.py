"""In which number format a network is trained and run.

``bf16`` is autocast to bfloat16: master weights, losses and optimiser stay float32. "auto" takes it
where the processor multiplies bfloat16 natively and the network is large enough to gain: below a
size, casting costs more than the faster products save. The rule counts multiplications; where it
is close, :mod:`teachers.acceleration.modes` measures.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal, cast

import torch
from torch import nn

from edge.errors import check_member

Precision = Literal["fp32", "bf16"]
PRECISIONS = ("auto", "fp32", "bf16")

# Training steps per second of bf16 over fp32, batch 128, one thread of an AVX512-BF16 processor:
# .9 at .05 million MACs per image, 1.1 at .2 to .6, 1.4 at 1.1, 1.6 to 2.3 from 5 on. A second
# thread helps fp32 more, and narrow networks lose until about 8 million.
LEAST_MACS_ONE_THREAD = 1_000_000
LEAST_MACS_MORE_THREADS = 8_000_000

# In training a few timed steps decide between these two; beyond them size alone does.
SURELY_FP32 = 500_000
SURELY_BF16 = 30_000_000


def resolve(
    precision: str, module: nn.Module, input_shape: tuple[int, int, int], device: str = "cpu"
) -> Precision:
    """The format that ``precision`` ("auto", "fp32" or "bf16") means for ``module``.

    "auto" depends on the processor, the number of threads and the MACs for one input of
    ``input_shape`` (C, H, W).
    """
    check(precision)
    if precision != "auto":
        return cast(Precision, precision)
    if not has_native_bf16(device):
        return "fp32"
    return _likeliest(count_macs(module, input_shape, device))


def _likeliest(macs: int) -> Precision:
    alone = torch.get_num_threads() == 1
    least = LEAST_MACS_ONE_THREAD if alone else LEAST_MACS_MORE_THREADS
    return "bf16" if macs >= least else "fp32"


def candidates(
    precision: str, module: nn.Module, input_shape: tuple[int, int, int], device: str = "cpu"
) -> tuple[Precision, ...]:
    """The formats worth trying in training, the likeliest first; one where there is no doubt."""
    if precision != "auto" or not has_native_bf16(device):
        return (resolve(precision, module, input_shape, device),)
    macs = count_macs(module, input_shape, device)
    likeliest = _likeliest(macs)
    if not SURELY_FP32 <= macs < SURELY_BF16:
        return (likeliest,)
    return ("bf16", "fp32") if likeliest == "bf16" else ("fp32", "bf16")


def check(precision: str) -> None:
    """BadInput unless ``precision`` is one of :data:`PRECISIONS`."""
    check_member("precision", precision, PRECISIONS)


def has_native_bf16(device: str = "cpu") -> bool:
    """Whether products of bfloat16 are faster than float32's on ``device``."""
    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device != "cpu":
        return False
    # Private in torch, so absent on some versions and platforms: then nothing is promised.
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(bool(getattr(torch.cpu, probe, bool)()) for probe in probes)


def count_macs(module: nn.Module, input_shape: tuple[int, int, int], device: str = "cpu") -> int:
    """Multiply-accumulates of all convolutions and linear layers for one input (C, H, W)."""
    total = 0

    def count(layer: nn.Module, _: tuple[Any, ...], output: torch.Tensor) -> None:
        nonlocal total
        weight = cast(torch.Tensor, layer.weight)
        # A weight is used once per position of the map; a linear layer has one position.
        total += weight.numel() * (output[0, 0].numel() if output.ndim > 2 else 1)

    layers = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    try:
        with evaluating(module), torch.no_grad():
            module(torch.zeros(1, *input_shape, device=device))
    finally:
        for hook in hooks:
            hook.remove()
    return total


def autocast(precision: Precision, device: str = "cpu") -> AbstractContextManager[Any]:
    """The context in which a forward pass runs in ``precision``."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.partition(":")[0], dtype=torch.bfloat16)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Eval mode for the time of a ``with``; every submodule gets its own mode back."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training
