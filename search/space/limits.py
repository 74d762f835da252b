"""Hard limits of a job, and what a candidate measures against them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from edge.errors import BadInput
from routers.ranking.room import SCORE_KB
from search.job.spec import JobSpec

#: drop of accuracy at which the reward bends where the job names none
USUAL_DROP = 0.01

Ratios = NDArray[np.float64]


@dataclass(frozen=True)
class Measure:
    """What a limit on cost is about.

    Attributes:
        option: on the command line.
        unit: of its number, as it stands after one.
        wish: what no student can be, where none keeps the limit.
        digits: after the point, where a number is rounded up so that it is itself accepted.
    """

    option: str
    unit: str
    wish: str
    digits: int

    def up(self, value: float) -> float:
        """``value`` rounded up to the digits that are shown."""
        scale = 10.0**self.digits
        return math.ceil(value * scale) / scale

    def text(self, value: float) -> str:
        """A number in full: nothing of it is lost when it is typed in again."""
        return f"{value:.12g}" if value != int(value) else f"{value:.0f}"


#: field of :class:`Limits` → what it is about
MEASURES = {
    "max_kb": Measure("--max-kb", "KB", "be that small", 1),
    "max_macs": Measure("--max-macs", "MACs", "do with so few multiply-accumulates", 0),
    "max_ms": Measure("--max-ms", "ms", "be that fast", 3),
}


@dataclass(frozen=True)
class Limits:
    """What every student has to keep; None where there is no limit.

    Those on cost are kept by every candidate that is distilled, because a candidate's cost is
    known before. ``min_accuracy`` is kept by the winner if any finalist keeps it.

    Attributes:
        max_kb: kilobytes of 1,024 bytes of the fp32 state dict.
        max_macs: multiply-accumulates for one input.
        max_ms: milliseconds for one input, as predicted from a profile of the device.
        min_accuracy: on the validation part, by the job's metric.
    """

    max_kb: float | None = None
    max_macs: float | None = None
    max_ms: float | None = None
    min_accuracy: float | None = None

    @property
    def on_cost(self) -> dict[str, float]:
        """The limits on cost that are set, by field."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: values[name] for name in MEASURES if values[name] is not None}

    def ratios(self, figures: Mapping[str, NDArray[np.float64]]) -> Ratios:
        """What candidates measure, over what they may; at most 1 where a limit is kept.

        Args:
            figures: key of :data:`MEASURES` → one number per candidate.

        Returns:
            shape (limits, candidates), in the order of :attr:`on_cost`.
        """
        rows = [figures[name] / limit for name, limit in self.on_cost.items()]
        return np.array(rows, np.float64)

    def options(self) -> str:
        """The limits on cost as they stand on a command line."""
        return " ".join(
            f"{MEASURES[name].option} {MEASURES[name].text(limit)}"
            for name, limit in self.on_cost.items()
        )


def with_room(spec: JobSpec) -> JobSpec:
    """A job whose students leave room for a router under ``max_pair_kb``, if there is one.

    A student that fills the pair alone would be found out only when hours are spent. Of a job that
    has room it is that job.

    Raises:
        BadInput: there is no room for a student.
    """
    if spec.max_pair_kb is None:
        return spec
    most = round(spec.max_pair_kb - SCORE_KB, 9)
    if most <= 0:
        raise BadInput(
            "the limit on the pair leaves no student",
            value=f"--max-pair-kb {spec.max_pair_kb:g}",
            bound=f"more than {SCORE_KB:g} KB, which the smallest routers may take",
            remedy="Raise --max-pair-kb.",
        )
    if spec.max_kb is not None and spec.max_kb <= most:
        return spec
    return spec.model_copy(update={"max_kb": most})
