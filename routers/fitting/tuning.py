"""Each family at its best within caps: a search over its parameters on the router part alone.

A trial is judged by the log-loss of rows at the natural rate of errors that its fits have not
seen, after the line of :mod:`routers.fitting.natural_rate`; validation rows stay unseen for the
ranking. The first trial is the family's defaults, as far as the caps allow them, so a search cannot
end behind those by this measure. What would be the best so far is fitted on all chosen rows,
exported, and held against the caps and against its own file before it counts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from time import monotonic
from typing import NamedTuple

import numpy as np
import onnx
import optuna
from numpy.typing import NDArray
from optuna.trial import BaseTrial, FixedTrial

from edge.errors import BadInput, check_member
from routers.fitting import crossfit
from routers.fitting.crossfit import Plan, out_of_fold
from routers.fitting.natural_rate import NaturalRouter, expected_calibration_error, line_for
from routers.fitting.spaces import SPACES, Parameters, Space
from routers.models.families import FAMILIES, FittedRouter
from routers.onnx import export
from routers.onnx.caps import Caps, Cost, cost
from routers.onnx.features import FEATURES, Feature
from routers.selection import committees

Features = NDArray[np.float32]
Rows = NDArray[np.int64]

TRIALS, SECONDS = 16, 60.0
_RANDOM_TRIALS = 6  # before the sampler has seen enough to model
_COMPARED_ROWS = 1000


@dataclass(frozen=True)
class TunedRouter(NaturalRouter):
    """What a search found: a router with probabilities at the natural rate, and how it was found.

    ``parameters``: of the fit, by name. ``trials``: judged in full. ``log_loss`` (nats a row) and
    ``calibration_error`` (ECE, ten bins): on the router part, of rows that the fits have not seen,
    though the two numbers of Platt's line have; nan where a kind has too few rows for folds.
    ``cost``: of the file.
    """

    parameters: Parameters
    trials: int
    log_loss: float
    calibration_error: float
    cost: Cost


def tuned(
    name: str,
    features: Features,
    right: Rows,
    seed: int,
    *,
    trials: int = TRIALS,
    caps: Caps | None = None,
    sampling: str = "qbc",
    r: float = 0.5,
    committee: str = committees.DEFAULT,
    seconds: float = SECONDS,
    plan: Plan | None = None,
    classes: int | None = None,
    feature: Feature = FEATURES["logits"],
) -> TunedRouter:
    """The best router of the family ``name`` on the router part, within ``caps``.

    ``features``: float32 N×F at the natural rate of errors; ``right``: int N, 1 = the student is
    right. ``sampling``, ``r`` and ``committee`` choose the rows of every fit; a ``plan`` that was
    made with them stands in for the three. ``trials``: at most; ``seconds``: no trial begins, and
    none goes on to its next fold, after these (the first ends in any case); unless they run out,
    the result depends on the seed alone. ``classes`` and ``feature``: what the shipped file will
    take, for its bytes; plain logits otherwise. A family that has no search space is fitted once.
    BadInput for an unknown name, for fewer than one trial, and where nothing tried keeps the caps;
    ValueError where all rows are of one kind.
    """
    check_member("router family", name, FAMILIES)
    if trials < 1:
        raise BadInput(
            "too few trials for a router's search",
            value=trials,
            bound="at least 1",
            remedy="One trial fits the defaults within the caps.",
        )
    if plan is None:
        plan = crossfit.plan(features, right, seed, sampling=sampling, r=r, committee=committee)
    space = SPACES.get(name, Space(FAMILIES[name], {}, lambda trial, caps, width: {}))
    ships = _Ships(classes or features.shape[1], feature)
    search = _Search(space, features, right, seed, plan, caps or Caps(), ships, seconds)
    if name in SPACES and plan.folds:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study(
            sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=_RANDOM_TRIALS)
        )
        study.enqueue_trial(space.start)
        study.optimize(search.judge, n_trials=trials, callbacks=[search.stop_in_time])
    else:
        search.judge(FixedTrial(space.start))
    return search.result(name)


def log_loss(probability: NDArray[np.float64], right: Rows) -> float:
    """The mean of −ln P(what happened), in nats; nan for no rows."""
    if len(right) == 0:
        return math.nan
    happened = np.where(right == 1, probability, 1 - probability)
    return float(-np.mean(np.log(np.maximum(happened, 1e-12))))


class _Ships(NamedTuple):
    """What the shipped file will take."""

    classes: int
    feature: Feature


class _Search:
    """The best of the trials so far."""

    def __init__(
        self,
        space: Space,
        features: Features,
        right: Rows,
        seed: int,
        plan: Plan,
        caps: Caps,
        ships: _Ships,
        seconds: float,
    ) -> None:
        self.space, self.features, self.right, self.seed = space, features, right, seed
        self.plan, self.caps, self.ships = plan, caps, ships
        self.deadline = monotonic() + seconds
        self.best: TunedRouter | None = None
        self.judged = 0
        self.refused: list[Cost] = []

    def judge(self, trial: BaseTrial) -> float:
        """The log-loss of a trial, and more where its file breaks a cap."""
        parameters = self.space.suggest(trial, self.caps, self.features.shape[1])
        fit = partial(self.space.fit, **parameters)

        def in_time(features: Features, right: Rows, seed: int) -> FittedRouter:
            if self.best is not None and monotonic() > self.deadline:
                raise optuna.TrialPruned
            return fit(features, right, seed)

        judged = out_of_fold(in_time, self.features, self.right, self.plan, self.seed)
        self.judged += 1
        line = line_for(judged, self.plan)
        probability = line(judged.score)
        loss = log_loss(probability, judged.right)
        if self.best is not None and not loss < self.best.log_loss:
            return loss
        rows = self.plan.rows
        router = NaturalRouter(fit(self.features[rows], self.right[rows], self.seed), line)
        shipped = router.to_onnx(*self.ships)
        spent = cost(shipped)
        if self.caps.excess(spent) > 1:
            self.refused.append(spent)
            return loss + self.caps.excess(spent)
        if not self._says_the_same(router, shipped):
            return loss + 1
        error = expected_calibration_error(probability, judged.right)
        self.best = TunedRouter(router.router, line, parameters, self.judged, loss, error, spent)
        return loss

    def stop_in_time(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        if monotonic() > self.deadline:
            study.stop()

    def _says_the_same(self, router: NaturalRouter, shipped: onnx.ModelProto) -> bool:
        """Whether the file agrees with the fit on a thousand of the rows, as they are."""
        width = self.features.shape[1]
        # Our rows are features already: a file that computes them from logits is no use here.
        plain = shipped if self.ships == (width, FEATURES["logits"]) else router.to_onnx(width)
        rows = self.features[:: max(1, len(self.features) // _COMPARED_ROWS)]
        try:
            export.check_export(router.score(rows), plain.SerializeToString(), rows)
        except export.ExportMismatch:
            return False
        return True

    def result(self, name: str) -> TunedRouter:
        """The best trial; BadInput where none kept the caps."""
        if self.best is not None:
            return replace(self.best, trials=self.judged)
        if not self.refused:
            raise export.ExportMismatch(f"no file of {name} says what its fit says")
        least = min(self.refused, key=self.caps.excess)
        raise BadInput(
            f"no {name} router keeps the caps",
            value=f"{least.bytes} bytes and {least.microseconds:.0f} µs at the least",
            bound=f"at most {self.caps.bytes} bytes and {self.caps.microseconds:g} µs",
            remedy="Allow more, or leave this family out.",
        )
