"""Windows of convolutions and pools: sizes as lists, paddings as torch can spell them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F

from teachers.onnx_import.step import Step
from teachers.onnx_import.values import Activation


@dataclass(frozen=True)
class Window:
    """A window on the spatial axes, one number per axis; ``pads`` are (before, after) pairs."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]

    @property
    def padding(self) -> tuple[int, ...]:
        """The padding on either side, where :attr:`even` holds."""
        return tuple(before for before, _ in self.pads)

    @property
    def even(self) -> bool:
        """Whether every axis is padded alike on both sides."""
        return all(before == after for before, after in self.pads)

    @property
    def poolable(self) -> bool:
        """Whether torch pools with this padding: even, and at most half of the kernel."""
        return self.even and all(
            2 * pad <= kernel for pad, kernel in zip(self.padding, self.kernel, strict=True)
        )

    def spelled(self, lengths: Sequence[int], ceil: bool) -> tuple[tuple[int, ...], bool] | None:
        """Padding and ceil_mode with which torch has the same windows, None where it has not.

        Only where padding is not counted: an uneven one is then written as the rounding of the
        number of windows, since what a window holds beyond the image does not matter.

        Args:
            lengths: the image's spatial sizes.
            ceil: whether the node itself rounds the number of windows up.
        """
        if self.poolable:
            return self.padding, ceil
        if any(2 * pair[0] > kernel for pair, kernel in zip(self.pads, self.kernel, strict=True)):
            return None
        wanted = self._counts(lengths, self.pads, ceil)
        even = tuple((before, before) for before, _ in self.pads)
        for rounded_up in (False, True):
            if self._counts(lengths, even, rounded_up) == wanted:
                return self.padding, rounded_up
        return None

    def aligned(
        self, lengths: Sequence[int], ceil: bool
    ) -> tuple[tuple[int, ...], bool, tuple[slice, ...]] | None:
        """Padding and ceil_mode with which torch has these windows among others, and which.

        Only where padding is not counted, as :meth:`spelled`. A padding that is larger by whole
        strides has the same windows with more in front, and one that is even more behind.
        """
        wanted = self._counts(lengths, self.pads, ceil)
        for rounded_up in (False, True):
            found = [
                self._axis(axis, lengths, wanted[axis], rounded_up) for axis in range(len(lengths))
            ]
            kept = [pair for pair in found if pair is not None]
            if len(kept) == len(found):
                return tuple(pad for pad, _ in kept), rounded_up, tuple(part for _, part in kept)
        return None

    def _axis(
        self, axis: int, lengths: Sequence[int], wanted: int, ceil: bool
    ) -> tuple[int, slice] | None:
        """The least padding of one axis that has all its windows, and which those are."""
        before, stride = self.pads[axis][0], self.stride[axis]
        for pad in range(before, self.kernel[axis] // 2 + 1, stride):
            even = tuple((pad, pad) if i == axis else pair for i, pair in enumerate(self.pads))
            first = (pad - before) // stride
            if self._counts(lengths, even, ceil)[axis] >= first + wanted:
                return pad, slice(first, first + wanted)
        return None

    def whole(self, lengths: Sequence[int], ceil: bool) -> bool:
        """Whether there is one window, and the image is all in it."""
        return all(
            count == 1 and kernel >= length + pads[0] and dilation == 1
            for count, kernel, length, pads, dilation in zip(
                self._counts(lengths, self.pads, ceil),
                self.kernel,
                lengths,
                self.pads,
                self.dilation,
                strict=True,
            )
        )

    def _counts(
        self, lengths: Sequence[int], pads: tuple[tuple[int, int], ...], ceil: bool
    ) -> list[int]:
        """How many windows there are on each axis; the last one starts within the image."""
        counts = []
        for axis, length in enumerate(lengths):
            before, after = pads[axis]
            reach = self.dilation[axis] * (self.kernel[axis] - 1) + 1
            free = length + before + after - reach
            count = (-(-free // self.stride[axis]) if ceil else free // self.stride[axis]) + 1
            starts = (count - 1) * self.stride[axis] - before
            counts.append(count - 1 if ceil and starts >= length else count)
        return counts


def window(step: Step, x: Activation, kernel: tuple[int, ...]) -> Window:
    """The node's window; ``auto_pad`` is worked out from the size of ``x``."""
    axes = x.rank - 2
    if axes not in (1, 2, 3) or len(kernel) != axes or min(kernel) < 1:
        raise step.refuse(
            "has a window that does not fit its input",
            value=f"kernel {list(kernel)} over a tensor of {x.rank} axes",
            bound="one size per spatial axis, of one or two such axes",
        )
    stride = _sizes(step, "strides", axes, 1)
    dilation = _sizes(step, "dilations", axes, 1)
    return Window(kernel, stride, dilation, _pads(step, x, kernel, stride, dilation))


def _sizes(step: Step, name: str, count: int, least: int) -> tuple[int, ...]:
    sizes = tuple(int(size) for size in step.attr(name) or [1] * count)
    if len(sizes) != count or min(sizes) < least or max(sizes) > 2**20:
        raise step.refuse(
            f"has impossible {name}", value=list(sizes), bound=f"{count} numbers, at least {least}"
        )
    return sizes


def _pads(
    step: Step,
    x: Activation,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
) -> tuple[tuple[int, int], ...]:
    axes = len(kernel)
    auto = step.attr("auto_pad", "NOTSET") or "NOTSET"
    if auto == "NOTSET":
        flat = [int(pad) for pad in step.attr("pads") or [0] * (2 * axes)]
        if len(flat) != 2 * axes or min(flat) < 0 or max(flat) > 2**20:
            raise step.refuse(
                "has impossible pads", value=flat, bound=f"{2 * axes} numbers, at least 0"
            )
        return tuple((flat[axis], flat[axis + axes]) for axis in range(axes))
    if auto == "VALID":
        return ((0, 0),) * axes
    if auto not in ("SAME_UPPER", "SAME_LOWER"):
        raise step.refuse(
            "has an unknown auto_pad", value=auto, bound="NOTSET, VALID, SAME_UPPER or SAME_LOWER"
        )
    pairs = []
    for axis in range(axes):
        length = x.shape[axis + 2]
        outputs = -(-length // stride[axis])
        reach = (outputs - 1) * stride[axis] + dilation[axis] * (kernel[axis] - 1) + 1
        total = max(0, reach - length)
        small, large = total // 2, total - total // 2
        pairs.append((small, large) if auto == "SAME_UPPER" else (large, small))
    return tuple(pairs)


def padded(
    step: Step, x: Activation, pads: tuple[tuple[int, int], ...], value: float
) -> Activation:
    """``x`` with its spatial axes padded by a constant."""
    flat = [size for pair in reversed(pads) for size in pair]
    return step.call(F.pad, x, flat, "constant", value) if any(flat) else x
