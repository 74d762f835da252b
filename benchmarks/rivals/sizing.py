"""Students cut to a size: one factor for every layer, a found shape made wider, Torch-Pruning.

Each way has one free number. It is bisected so that the student is the largest that keeps the
limit, and every student starts from the weights that its way inherits from the teacher.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from envs.compression.cost import Cost, cost
from envs.compression.layers import anatomy
from envs.compression.moves import Moves
from envs.compression.resolve import Student, compress
from envs.compression.surgery import Inheritance, load
from envs.fx_import.trace import describe
from envs.graph.netspec import NetSpec

#: halvings of the bracket: widths change by whole channels, of which no layer has more than 512
HALVINGS = 14
#: a step down in search of the bracket
STEP = 0.9
#: a student may be so much smaller than the limit and still count as of equal size
TOLERANCE = 0.03


@dataclass(frozen=True, eq=False)
class Sized:
    """A student of the wanted size, untrained.

    Attributes:
        spec: its description.
        module: with the weights that it inherits.
        factor: the number that was bisected.
    """

    spec: NetSpec
    module: nn.Module
    factor: float

    @property
    def cost(self) -> Cost:
        """Counted in the same way for all."""
        return cost(self.spec)


def largest(kb_of: Callable[[float], float], limit: float, low: float, high: float) -> float:
    """The largest factor in [low, high] whose student keeps the limit.

    Args:
        kb_of: KB of the student of a factor; rises with it, at least near the limit.
        limit: KB.
        low, high: above 0; above ``low`` there is a factor that keeps the limit.

    Raises:
        ValueError: there is none.
    """
    above, factor = high, high
    # walked down to, not halved: far below the limit a pruner may refuse to prune a layer at all
    while kb_of(factor) > limit:
        if factor <= low:
            raise ValueError(f"no factor from {low:g} to {high:g} gives {limit:,.1f} KB or less")
        above, factor = factor, max(low, STEP * factor)
    if above == factor:
        return factor
    for _ in range(HALVINGS):
        middle = (factor + above) / 2
        if kb_of(middle) <= limit:
            factor = middle
        else:
            above = middle
    return factor


def scaled(network: NetSpec, shape: Sequence[float], factor: float) -> Student:
    """Every layer's coefficient multiplied by one factor, as far as the layer goes.

    Args:
        network: the teacher.
        shape: a coefficient of outputs for every weight layer; 0 removes it, and stays 0.
        factor: of all of them. A layer that cannot change, and the classifier, stay as they are.
    """
    moves, actions = scaling(network, shape, factor)
    return compress(network, moves, actions)


def scaling(
    network: NetSpec, shape: Sequence[float], factor: float
) -> tuple[Moves, tuple[int, ...]]:
    """A pool and the actions from it that give :func:`scaled`; arguments as there."""
    layers = anatomy(network).layers
    wanted = [min(1.0, factor * coefficient) for coefficient in shape]
    moves = Moves(tuple(sorted({0.0, 1.0, *wanted})), "o")
    masks = moves.masks(layers)
    actions = [moves.pool.index(coefficient) for coefficient in wanted]
    legal = [
        action if mask[action] else moves.keep for action, mask in zip(actions, masks, strict=True)
    ]
    return moves, tuple(legal)


def uniform(inheritance: Inheritance, limit: float, seed: int = 0) -> Sized:
    """One width factor for every layer; the weights that our own students inherit.

    Args:
        inheritance: the teacher's side.
        limit: KB.
        seed: of weights that no teacher's layer has.
    """
    shape = [1.0] * len(anatomy(inheritance.spec).layers)
    return _largest_scaled(inheritance, shape, limit, 1e-3, 1.0, seed)


def widened(inheritance: Inheritance, shape: Sequence[float], limit: float, seed: int = 0) -> Sized:
    """The shape that a search found, made wider by one factor until the limit is reached.

    Args:
        inheritance: the teacher's side.
        shape: a coefficient for every weight layer; keeps the limit as it is.
        limit: KB.
        seed: of weights that no teacher's layer has.
    """
    high = 1 / min((coefficient for coefficient in shape if coefficient), default=1.0)
    return _largest_scaled(inheritance, shape, limit, 1.0, high, seed)


def _largest_scaled(
    inheritance: Inheritance,
    shape: Sequence[float],
    limit: float,
    low: float,
    high: float,
    seed: int,
) -> Sized:
    network = inheritance.spec
    factor = largest(lambda f: cost(scaled(network, shape, f).spec).kb, limit, low, high)
    student = scaled(network, shape, factor)
    return Sized(student.spec, inheritance.student(student, seed), factor)


def pruned(network: NetSpec, teacher: nn.Module, limit: float, everywhere: bool) -> Sized:
    """Torch-Pruning's group L1 importance, in one step; the classifier's outputs stay.

    Args:
        network, teacher: description and module, which stays as it is.
        limit: KB.
        everywhere: channels are ranked over the whole network ("global pruning"); else the same
            share of every layer's channels goes.

    Returns:
        its factor is the share of channels that is kept.
    """

    def prune(share: float) -> tuple[NetSpec, nn.Module]:
        return _prune(network, teacher, 1 - share, everywhere)

    # fewer than one in 64 would leave nothing of the narrowest layers
    share = largest(lambda share: cost(prune(share)[0]).kb, limit, 1 / 64, 1.0)
    spec, module = prune(share)
    return Sized(spec, module, share)


def _prune(
    network: NetSpec, teacher: nn.Module, ratio: float, everywhere: bool
) -> tuple[NetSpec, nn.Module]:
    # of the extra `dev`; nothing else of the benchmark needs it
    import torch_pruning

    module = copy.deepcopy(teacher).eval()
    classifiers = [layer.node for layer in anatomy(network).layers if layer.classifier]
    torch_pruning.pruner.BasePruner(
        module,
        torch.zeros(1, *network.input_shape),
        importance=torch_pruning.importance.GroupMagnitudeImportance(p=1),
        global_pruning=everywhere,
        pruning_ratio=ratio,
        ignored_layers=[module.get_submodule(name) for name in classifiers],
    ).step()
    # described and rebuilt, so that it is counted and trained as any other student
    found = describe(module, network.input_shape)
    return found.spec, load(found.spec, found.weights)
