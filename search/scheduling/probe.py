"""What a candidate promises before it is trained: a linear probe of the features it inherits.

A student that begins with its teacher's weights has features already. How much of what the teacher
says of some images a linear readout of them explains, leave one out, is found in closed form: the
probe costs one pass over these images, where a distillation takes hundreds, forward and backward.
With features F (n × d, standardised, K = F Fᵀ / d), the teacher's logits Y (n × classes, centred by
image and by class) and a ridge λ, the residual of row i without row i is

    e_i = [(K + λ I)⁻¹ Y]_i / [(K + λ I)⁻¹]_ii,

and the promise is the share that is explained, 1 − Σ e² / Σ Y². It knows what sizes do not: which
layers of *this* teacher can be cut. docs/search_quality.md has how well it orders candidates.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx
from torch.nn.modules.batchnorm import _BatchNorm

from envs.compression.cost import cost
from envs.compression.layers import anatomy
from envs.compression.moves import Moves
from envs.compression.resolve import compress
from envs.compression.surgery import Inheritance
from search.execution.training_context import TrainingContext
from search.space.space import Probe
from teachers.distillation.training_sets import DistillationSet

Values = NDArray[np.float64]

#: images of a probe; as many as 800 order candidates no better
IMAGES = 128
#: bytes of activations at once; a student of which not even so many images fit is not run
MEMORY, LEAST_BATCH = 512 * 2**20, 8
#: from 1 to 10 candidates are ordered alike
RIDGE = 3.0
#: of students whose features explain nothing, are no numbers, or take more memory than there is
LEAST = 0.0


class LinearProbe:
    """Says what candidates promise; implements :data:`search.space.space.Probe`."""

    def __init__(
        self,
        inheritance: Inheritance,
        moves: Moves,
        inputs: NDArray[np.float32],
        logits: NDArray[np.float32],
        seed: int,
    ) -> None:
        """Set up.

        Args:
            inheritance: the teacher's weights.
            moves: that make students.
            inputs: (n, C, H, W), images that are learnt from.
            logits: (n, classes), the teacher's about them.
            seed: of the few weights that nobody inherits.
        """
        self.inheritance, self.moves, self.seed = inheritance, moves, seed
        #: the classifier; what goes into it counts as features
        self.tap = anatomy(inheritance.spec).layers[-1].node
        self.inputs = torch.from_numpy(np.ascontiguousarray(inputs))
        said = torch.from_numpy(logits.astype(np.float64))
        said = said - said.mean(1, keepdim=True)
        self.targets = said - said.mean(0)

    @classmethod
    def of(
        cls, inheritance: Inheritance, moves: Moves, distillation_set: DistillationSet, seed: int
    ) -> LinearProbe:
        """By all images of a lesson, unchanged."""
        inputs = distillation_set.preprocess.to_input(
            distillation_set.images[distillation_set.rows]
        )
        return cls(inheritance, moves, inputs, distillation_set.logits[0], seed)

    def __call__(self, actions: NDArray[np.int64]) -> Values:
        """Promises of candidates, shape (batch, layers), shares in [0, 1]."""
        return np.array([self._promise(tuple(map(int, row))) for row in actions])

    def _promise(self, actions: tuple[int, ...]) -> float:
        student = compress(self.inheritance.spec, self.moves, actions)
        # without a stride maps are larger than the teacher's, and this process has a job to lose
        batch = MEMORY // cost(student.spec).peak
        if batch < LEAST_BATCH:
            return LEAST
        module = self.inheritance.student(student, self.seed)
        try:
            found = features(module, self.tap, self.inputs, batch)
        except (RuntimeError, ValueError):
            # what cannot run fails when it is distilled, and does not end a search
            return LEAST
        return explained(found, self.targets)


def probe_of(room: TrainingContext) -> Probe:
    """Probes of a job's candidates, by images that all of them learn from; set up when asked."""

    @cache
    def made() -> LinearProbe:
        # whoever sorts images by class has nothing but one class in the first rows
        chosen = np.random.default_rng([room.seed, 3]).permutation(len(room.distillation_set))[
            :IMAGES
        ]
        return LinearProbe.of(
            room.inheritance(), room.moves, room.distillation_set.part(chosen), room.seed
        )

    return lambda actions: made()(actions)


def features(module: fx.GraphModule, tap: str, inputs: Tensor, batch: int = IMAGES) -> Tensor:
    """What goes into a layer, (n, d), with batch norms by these very images.

    What an inherited batch norm remembers of its maps is of the teacher's, not of the student's.

    Args:
        module: a student.
        tap: the layer.
        inputs: (n, C, H, W).
        batch: about so many at a time; no batch is much smaller than the others.
    """
    heard: list[Tensor] = []
    module.eval()
    for part in module.modules():
        if isinstance(part, _BatchNorm):
            part.train()
    handle = module.get_submodule(tap).register_forward_pre_hook(
        lambda _, given: heard.append(given[0].flatten(1).double())
    )
    try:
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        with torch.no_grad():
            for some in inputs.tensor_split(math.ceil(len(inputs) / batch)):
                module(some.contiguous(memory_format=torch.channels_last))
    finally:
        handle.remove()
    return torch.cat(heard)


def explained(found: Tensor, targets: Tensor, ridge: float = RIDGE) -> float:
    """Share of the targets that a ridge readout explains, leave one out; at least :data:`LEAST`.

    Args:
        found: features (n, d).
        targets: (n, classes), each column of mean 0.
        ridge: λ.
    """
    total = float((targets**2).sum())
    if len(found) < 2 or total <= 0:
        return LEAST  # there is nothing to tell apart
    spread = found.std(0)
    # features that never change count in d: a student with dead units has fewer to learn with, and
    # among those of the benchmark's task 1 the order is better so (ρ .60) than without them (.59)
    scaled = (found - found.mean(0)) / torch.where(spread > 0, spread, 1.0)
    kernel = scaled @ scaled.T / scaled.shape[1]
    if not bool(kernel.isfinite().all()):
        return LEAST
    inverse = torch.linalg.inv(kernel + ridge * torch.eye(len(kernel), dtype=kernel.dtype))
    errors = (inverse @ targets) / inverse.diagonal()[:, None]
    return max(LEAST, 1 - float((errors**2).sum()) / total)
