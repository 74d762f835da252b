"""Optuna's own samplers as rivals: TPE, a Gaussian process, and NSGA-II.

Each works on an Optuna study in memory with one integer parameter per layer that has a choice: the
place of its coefficient among the legal ones, which are ordered by size, "remove" first. Settings
that matter are pinned here, because Optuna's defaults have moved before.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, IntDistribution
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, TPESampler
from optuna.samplers.nsgaii import UniformCrossover
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.samplers.base import Observation
from search.samplers.dedup import DedupSampler, uniform
from search.space.space import Actions, Space
from teachers.distillation.checkpoint import Checkpoint

Parents = dict[int, list[int]]
#: of one Optuna sampler: from a seed, and NSGA-II's parents so far
Make = Callable[[int, Parents], BaseSampler]

_OPEN, _CLOSED = 0, 1


class OptunaSampler(DedupSampler):
    """An Optuna study that is asked and told.

    Every question goes to a sampler made for it from the seed and the number of draws before, so
    that the study's trials are all the state there is. Proposals that are out are its RUNNING
    trials.

    Attributes:
        study: one trial per proposal, and per piece of evidence.
    """

    def __init__(
        self,
        space: Space,
        seed: int,
        make: Make,
        *,
        directions: Sequence[Literal["maximize", "minimize"]] = ("maximize",),
        startup: int = 10,
        draws: int = 8,
        evidence: int = 10**9,
    ) -> None:
        """Set up an empty study.

        Args:
            space: of candidates.
            seed: of all draws.
            make: the Optuna sampler.
            directions: one, and what is told is the log of the reward; or two, for accuracy and
                the log of the bytes.
            startup: outcomes before which proposals are drawn evenly.
            draws: questions before an answer beyond the limits, or known already, is mended.
            evidence: trials that a question is answered from: half of them the best, the others
                the last.
        """
        super().__init__(space, seed, draws)
        self.make, self.startup, self.evidence = make, startup, evidence
        self.directions = list(directions)
        self.study = self._empty()
        #: what the model sees during one proposal
        self._shown: Study | None = None
        self.distributions: dict[str, BaseDistribution] = {
            f"{step:03d}": IntDistribution(0, len(choices) - 1)
            for step, choices in enumerate(self.legal)
            if len(choices) > 1
        }
        self.parents: Parents = {}
        self.told = 0
        self._worst = math.inf
        self._out: dict[Actions, list[int]] = {}
        self._attrs = self._first_generation()

    def tell(self, observations: Sequence[Observation]) -> None:
        """Close the trials; what was stopped at a rung counts with the accuracy that it had."""
        for observation in observations:
            self._hear(observation)
            number = self._out[observation.actions].pop(0)
            if not self._out[observation.actions]:
                del self._out[observation.actions]
            values = self._values(observation)
            state = TrialState.FAIL if values is None else TrialState.COMPLETE
            self.study.tell(number, values, state)

    def warm(self, evidence: Sequence[Observation]) -> int:
        """Every outcome becomes a finished trial, as if it had been proposed here."""
        self._know(evidence)
        for observation in evidence:
            self._hear(observation)
            values = self._values(observation)
            if values is not None:
                self._add(observation.actions, values, self._first_generation())
        return len(evidence)

    def _hear(self, observation: Observation) -> None:
        self.told += 1
        if observation.reward > 0 and not observation.failed:
            self._worst = min(self._worst, math.log(observation.reward))

    def _values(self, observation: Observation) -> list[float] | None:
        """What the study is told; None tells it that there is nothing."""
        if len(self.directions) == 2:
            size = math.log2(self.space.cost(observation.actions).bytes)
            return None if observation.failed else [observation.accuracy, size]
        if observation.failed or observation.reward <= 0:
            return self._penalty()
        return [math.log(observation.reward)]

    def _penalty(self) -> list[float]:
        """As bad as the worst so far: a model that hears nothing goes on proposing beside it."""
        return [self._worst if self._worst < math.inf else 0.0]

    def _refused(self, actions: Actions) -> None:
        if len(self.directions) == 1 and self.told >= self.startup:
            self._add(actions, self._penalty())
            if self._shown is not None and self._shown is not self.study:
                self._shown.add_trial(self._trial(actions, self._penalty()))

    def _draw(self, rng: np.random.Generator) -> Actions:
        if self.told < self.startup:
            return uniform(self.space, self.legal, rng)
        if self._shown is None:
            self._shown = self._view()
        study = self._shown
        study.sampler = self.make(int(rng.integers(2**31)), self.parents)
        trial = study.ask(self.distributions)
        # its generation, if NSGA-II gave it one, passes to the proposal that comes of it
        self._attrs = {
            name: value
            for name, value in study.get_trials(deepcopy=False)[trial.number].system_attrs.items()
            if name == _Nsga2.generation_key()
        }
        study.tell(trial, state=TrialState.FAIL)
        return self._actions(trial.params)

    def _proposed(self, actions: Actions) -> None:
        number = self._add(actions, None, self._attrs)
        self._attrs = self._first_generation()
        self._out.setdefault(actions, []).append(number)

    def _new(self) -> Actions:
        self._shown = None  # what was told meanwhile counts
        return super()._new()

    def _add(
        self, actions: Actions, values: Sequence[float] | None, attrs: dict[str, Any] | None = None
    ) -> int:
        self.study.add_trial(self._trial(actions, values, attrs))
        return len(self.study.get_trials(deepcopy=False)) - 1

    def _trial(
        self, actions: Actions, values: Sequence[float] | None, attrs: dict[str, Any] | None = None
    ) -> FrozenTrial:
        return create_trial(
            state=TrialState.RUNNING if values is None else TrialState.COMPLETE,
            values=values,
            params={
                name: int(np.searchsorted(self.legal[int(name)], actions[int(name)]))
                for name in self.distributions
            },
            distributions=self.distributions,
            system_attrs=attrs,
        )

    def _actions(self, params: dict[str, Any]) -> Actions:
        return tuple(
            int(choices[params.get(f"{step:03d}", 0)]) for step, choices in enumerate(self.legal)
        )

    def _first_generation(self) -> dict[str, Any]:
        return {_Nsga2.generation_key(): 0} if len(self.directions) == 2 else {}

    def _empty(self) -> Study:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        return optuna.create_study(directions=self.directions)

    def _view(self) -> Study:
        """The study, or where it is too long a copy with a part of its trials."""
        trials = self.study.get_trials(deepcopy=False)
        closed = [trial for trial in trials if trial.state == TrialState.COMPLETE]
        if len(closed) <= self.evidence:
            return self.study
        ranked = sorted(closed, key=lambda trial: trial.values[0], reverse=True)
        best = {trial.number for trial in ranked[: self.evidence // 2]}
        rest = [trial.number for trial in closed if trial.number not in best]
        chosen = best | set(rest[len(best) - self.evidence :])
        view = self._empty()
        view.add_trials(
            trial for trial in trials if trial.number in chosen or trial.state == TrialState.RUNNING
        )
        return view

    def save(self) -> Checkpoint:
        trials = [
            trial
            for trial in self.study.get_trials(deepcopy=False)
            if trial.state != TrialState.FAIL
        ]
        rows = {trial.number: row for row, trial in enumerate(trials)}
        blank = [math.nan] * len(self.directions)
        generations = [trial.system_attrs.get(_Nsga2.generation_key(), -1) for trial in trials]
        out = {a: [rows[number] for number in numbers] for a, numbers in self._out.items()}
        return Checkpoint(
            {
                "actions": np.array(
                    [self._actions(trial.params) for trial in trials], np.int16
                ).reshape(len(trials), len(self.legal)),
                "values": np.array([trial.values or blank for trial in trials], np.float64),
                "generations": np.array(generations, np.int32),
                "known": self.known.to_array(),
            },
            {
                "drawn": self.drawn,
                "told": self.told,
                "worst": None if self._worst == math.inf else self._worst,
                "queue": self.queue,
                "stale": self.stale,
                "out": [[list(actions), numbers] for actions, numbers in out.items()],
                "parents": [
                    [generation, [rows[number] for number in numbers]]
                    for generation, numbers in self.parents.items()
                ],
            },
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        arrays, meta = checkpoint.arrays, checkpoint.meta
        self.study = self._empty()
        key = _Nsga2.generation_key()
        for row, values, generation in zip(
            arrays["actions"], arrays["values"], arrays["generations"], strict=True
        ):
            actions = tuple(map(int, row))
            known = None if np.isnan(values).any() else values.tolist()
            attrs = {key: int(generation)} if generation >= 0 else {}
            self.study.add_trial(self._trial(actions, known, attrs))
        self.known.from_array(arrays["known"])
        self.drawn, self.stale, self.told = meta["drawn"], meta["stale"], meta["told"]
        self._worst = math.inf if meta["worst"] is None else meta["worst"]
        self.queue = [tuple(actions) for actions in meta["queue"]]
        self._out = {tuple(actions): list(numbers) for actions, numbers in meta["out"]}
        self.parents = {generation: list(numbers) for generation, numbers in meta["parents"]}


class _Nsga2(NSGAIISampler):
    """Optuna's, with the parents of every generation kept where a checkpoint finds them."""

    def __init__(self, parents: Parents, **settings: Any) -> None:
        super().__init__(**settings)
        self._parents = parents

    @classmethod
    def generation_key(cls) -> str:
        """Attribute of a trial that holds its generation."""
        return cls._get_generation_key()

    def select_parent(self, study: Study, generation: int) -> list[FrozenTrial]:
        if generation not in self._parents:
            chosen = super().select_parent(study, generation)
            self._parents[generation] = [trial.number for trial in chosen]
        trials = study.get_trials(deepcopy=False)
        return [trials[number] for number in self._parents[generation]]


def tpe(space: Space, seed: int) -> OptunaSampler:
    """Tree-structured Parzen estimators (Bergstra et al. 2011) of all layers together.

    Proposals that are out count as bad (constant liar), which keeps a batch apart. Beyond 1,000
    trials a question is answered from half the best and half the last.
    """

    def make(draw: int, _: Parents) -> BaseSampler:
        return TPESampler(
            n_startup_trials=1,
            n_ei_candidates=24,
            multivariate=True,
            group=False,
            constant_liar=True,
            seed=draw,
        )

    return OptunaSampler(space, seed, make, evidence=1000)


def gp(space: Space, seed: int) -> OptunaSampler:
    """A Gaussian process (Matérn 5/2, one length scale per layer) and log expected improvement.

    Noise is fitted. Proposals that are out are integrated over (qLogEI). Fitting takes the cube of
    the trials, so beyond 100 a question is answered from half the best and half the last.
    """

    def make(draw: int, _: Parents) -> BaseSampler:
        return GPSampler(
            n_startup_trials=1,
            deterministic_objective=False,
            warn_independent_sampling=False,
            seed=draw,
        )

    return OptunaSampler(space, seed, make, draws=1, evidence=100)


def nsga2(space: Space, seed: int, *, population: int = 12) -> OptunaSampler:
    """NSGA-II (Deb et al. 2002) on two objectives: accuracy up, the log of the bytes down.

    It looks for the whole front, not for the reward. What failed is no member of any generation,
    nor is a draw beyond the limits.

    Args:
        space: of candidates.
        seed: of all draws.
        population: members of a generation; Optuna's 50 would leave two for 100 candidates.
    """

    def make(draw: int, parents: Parents) -> BaseSampler:
        return _Nsga2(
            parents,
            population_size=population,
            mutation=None,
            mutation_prob=None,
            crossover=UniformCrossover(0.5),
            crossover_prob=0.9,
            seed=draw,
        )

    return OptunaSampler(
        space, seed, make, directions=("maximize", "minimize"), startup=population, draws=20
    )
