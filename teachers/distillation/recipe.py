"""How a student is trained: the options of a distillation, checked once."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edge.errors import check_member
from teachers.acceleration import precision as precisions
from teachers.acceleration.modes import check_layout
from teachers.distillation.augment import AUGMENTS
from teachers.distillation.losses import Total, build_loss, out_of_range
from teachers.distillation.trainer import Schedule


@dataclass(frozen=True)
class Recipe:
    """How a student is trained; BadInput where a value is out of range.

    The default suits a short proxy and a full training alike: the rate's rise and fall stretches
    over ``epochs``. ``kd_weight`` and ``ce_weight`` of None are those of the loss (see
    :mod:`teachers.distillation.losses`). ``precision`` is "auto", "fp32" or "bf16", ``layout``
    "auto", "channels_last" or "contiguous" (:mod:`teachers.acceleration.modes`). ``augment`` is one
    of :data:`teachers.distillation.augment.AUGMENTS`. ``keep_best`` keeps the weights of the best
    validation epoch where that is better than the last one by more than luck, else those of the
    last; ``patience`` is the number of epochs without a better one after which the rate falls and
    the training ends early (0: never). ``ema`` is the decay per step of averaged weights, which are
    then the student's (0: none).
    """

    epochs: int
    batch_size: int = 128
    learning_rate: float = 5e-3
    weight_decay: float = 1e-4
    loss: str = "soft"
    kd_weight: float | None = None
    ce_weight: float | None = None
    temperature: float = 4.0
    precision: str = "auto"
    layout: str = "auto"
    augment: str = "none"
    keep_best: bool = False
    ema: float = 0.0
    patience: int = 0

    def __post_init__(self) -> None:
        _at_least("epochs", self.epochs, 1)
        _at_least("batch_size", self.batch_size, 2)
        _at_least("weight_decay", self.weight_decay, 0)
        _at_least("patience", self.patience, 0)
        if not 0 < self.learning_rate < math.inf:
            raise out_of_range("learning_rate", self.learning_rate, "a number above 0")
        if not 0 <= self.ema < 1:
            raise out_of_range("ema", self.ema, "at least 0 and below 1")
        precisions.check(self.precision)
        check_layout(self.layout)
        check_member("augmentation", self.augment, AUGMENTS)
        self.build_loss()

    def schedule(self) -> Schedule:
        """How the weights are updated."""
        return Schedule(self.epochs, self.batch_size, self.learning_rate, self.weight_decay)

    def build_loss(self) -> Total:
        """The loss that this recipe names."""
        return build_loss(
            self.loss,
            kd_weight=self.kd_weight,
            ce_weight=self.ce_weight,
            temperature=self.temperature,
        )


def _at_least(what: str, value: float, least: float) -> None:
    if not least <= value < math.inf:
        raise out_of_range(what, value, f"at least {least}")
