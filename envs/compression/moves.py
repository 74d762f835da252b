"""The coefficient pool Φ, how a coefficient changes a layer, and which actions are legal.

An action is the index of a coefficient φ ∈ Φ (Zhang, Eq. 3). φ = 0 removes the layer; any other
scales the fields of its state (Eq. 4). Two presets, see :data:`PRESETS`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edge.errors import BadInput

if TYPE_CHECKING:  # a job is checked against the presets before torch is loaded
    from envs.compression.layers import Layer

FIELDS = "kdpo"


@dataclass(frozen=True)
class Moves:
    """The pool and the fields of the state that it scales.

    Attributes:
        pool: coefficients, ascending, within [0, 1]; 1 ("keep") is always among them.
        scaled: any of the letters k, d, p, o.
        protect: patterns of layer names, such as ``fc`` or ``layer4.*``, that stay as they are;
            no other layer may change the width of what they write.

    Raises:
        BadInput: a pool or a field that cannot be used.
    """

    pool: tuple[float, ...]
    scaled: str
    protect: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for coefficient in self.pool:
            if not 0 <= coefficient <= 1:
                raise BadInput(
                    "a coefficient of the pool is out of range",
                    value=coefficient,
                    bound="numbers from 0 (remove the layer) to 1 (keep it)",
                    remedy="Mend `pool`.",
                )
        if 1 not in self.pool or list(self.pool) != sorted(set(self.pool)) or len(self.pool) < 2:
            raise BadInput(
                "the pool of coefficients cannot be used",
                value=list(self.pool),
                bound="two or more different coefficients in ascending order, the last one 1",
                remedy="Mend `pool`.",
            )
        if not self.scaled or sorted(self.scaled) != sorted(set(self.scaled) & set(FIELDS)):
            raise BadInput(
                "the fields of the layer's state that are scaled cannot be used",
                value=repr(self.scaled),
                bound="some of the letters k (kernel), d (stride), p (padding), o (outputs)",
                remedy="Mend `scaled`.",
            )

    @cached_property
    def keep(self) -> int:
        """Index of the coefficient 1."""
        return len(self.pool) - 1

    def outputs(self, o: int, action: int) -> int:
        """max(1, ⌊φ·o + ½⌋), or ``o`` where outputs are not scaled."""
        return max(1, _scaled(o, self.pool[action])) if "o" in self.scaled else o

    def kernel(self, k: int, action: int) -> int:
        """The size of k's parity nearest to φ·k, ties down, so that the centre stays the centre."""
        if "k" not in self.scaled:
            return k
        target = _fraction(self.pool[action]) * k
        sizes = range(2 - k % 2, k + 1, 2)
        return min(sizes, key=lambda size: (abs(size - target), size))

    def stride(self, d: int, action: int) -> int:
        """max(1, ⌊φ·d + ½⌋)."""
        return max(1, _scaled(d, self.pool[action])) if "d" in self.scaled else d

    def padding(self, p: int, k: int, new_k: int, dilation: int, action: int) -> int:
        """⌊φ·p + ½⌋, but a layer that kept the size of its maps ("same") goes on keeping it."""
        if 2 * p == dilation * (k - 1):
            return dilation * (new_k - 1) // 2
        return _scaled(p, self.pool[action]) if "p" in self.scaled else p

    def mask(self, layer: Layer, held: frozenset[int] = frozenset()) -> NDArray[np.int8]:
        """Legal actions of a layer, shape (len(pool),), 1 = legal; ``held`` as of :meth:`held`.

        It depends on the network alone, never on earlier actions. A layer that writes the logits
        stays, for without it there is no way from the image to them, and so does a protected
        one; every other layer can be removed, because joins and sizes are repaired. Where a
        coefficient between 0 and 1 would do nothing, because another layer sets the width and
        there is nothing else to scale, only "remove" and "keep" are left.
        """
        legal = np.ones(len(self.pool), np.int8)
        if layer.classifier or self.protects(layer.node):
            legal[:] = 0
        elif not self._alters(layer, held):
            legal[:] = [coefficient == 0 for coefficient in self.pool]
        legal[self.keep] = 1
        return legal

    def protects(self, name: str) -> bool:
        """Whether a layer of this name is protected."""
        return any(fnmatchcase(name, pattern) for pattern in self.protect)

    def held(self, layers: Sequence[Layer]) -> frozenset[int]:
        """Channel groups that protected layers write, and that keep their width."""
        return frozenset(
            group for layer in layers if self.protects(layer.node) for group in layer.groups
        )

    def _alters(self, layer: Layer, held: frozenset[int]) -> bool:
        free = layer.sets_width and not (layer.sets and held.issuperset(layer.sets))
        width = free and "o" in self.scaled
        return width or (layer.kind != "linear" and self.scaled != "o")

    def check_protected(self, layers: Sequence[Layer]) -> None:
        """BadInput where a pattern means no layer at all, which is most likely a slip."""
        for pattern in self.protect:
            if not any(fnmatchcase(layer.node, pattern) for layer in layers):
                names = [layer.node for layer in layers]
                shown = ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
                raise BadInput(
                    "a pattern of `protect` matches no layer",
                    value=repr(pattern),
                    bound=f"names of layers, with * and ?; there are {shown}",
                    remedy="See `understudy inspect` for all of them.",
                )

    def masks(self, layers: Sequence[Layer]) -> NDArray[np.int8]:
        """Masks of all layers, shape (layers, len(pool))."""
        held = self.held(layers)
        return np.stack([self.mask(layer, held) for layer in layers])

    def removes(self, action: int) -> bool:
        """Whether an action takes the layer away."""
        return self.pool[action] == 0


#: ``paper``: Φ of Zhang's Eq. 3 and all of Eq. 4. ``default``: outputs alone, because a scaled
#: stride enlarges the maps and a scaled 3×3 kernel mixes no pixels; and steps that are fine where
#: students are small, so that a student of one width can come close to any limit.
PRESETS: dict[str, Moves] = {
    "default": Moves(
        (
            *(0.0, 0.03, 0.05, 0.075, 0.1, 0.125, 0.15, 0.175, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5),
            *(0.6, 0.7, 0.8, 1.0),
        ),
        "o",
    ),
    "paper": Moves((0.0, 0.2, 0.4, 0.6, 0.8, 1.0), "kdpo"),
}


def _fraction(coefficient: float) -> Fraction:
    # .35 must mean 35/100: in binary, ⌊.35·10 + ½⌋ can fall on the wrong side of a half
    return Fraction(repr(float(coefficient)))


def _scaled(number: int, coefficient: float) -> int:
    return int(_fraction(coefficient) * number + Fraction(1, 2))
