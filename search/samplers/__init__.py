"""Who proposes candidates: an open set with one contract, :class:`search.samplers.base.Sampler`.

A new member is one file here and one line in :data:`SAMPLERS`.
"""

from __future__ import annotations

from collections.abc import Callable

from search.samplers.base import Observation as Observation
from search.samplers.base import Sampler as Sampler
from search.samplers.random import RandomSampler as RandomSampler
from search.space.space import Space

SamplerFactory = Callable[..., Sampler]


def _reinforce(space: Space, seed: int, **options: float) -> Sampler:
    from search.samplers.reinforce import Reinforce

    return Reinforce(
        space,
        seed,
        learning_rate=options["agent_rate"],
        units=int(options["agent_units"]),
        baseline_decay=options["baseline_decay"],
    )


def _evolution(space: Space, seed: int, **_: float) -> Sampler:
    from search.samplers.evolution import Evolution

    return Evolution(space, seed)


def _of_optuna(name: str) -> SamplerFactory:
    def make(space: Space, seed: int, **_: float) -> Sampler:
        from search.samplers import optuna_samplers

        made: Sampler = getattr(optuna_samplers, name)(space, seed)
        return made

    return make


def _model_based(agent: bool = True, mutation: bool = True, probe: bool = True) -> SamplerFactory:
    def make(space: Space, seed: int, **options: float) -> Sampler:
        from search.samplers.model_based import ModelBased, Settings
        from search.samplers.policy_trainer import PolicyTraining

        own = {"units": int(options["agent_units"])} if "agent_units" in options else {}
        own |= {"updates": int(options["imagined"])} if "imagined" in options else {}
        probes = int(options.get("probes", Settings.probes)) if probe else 0
        policy_training = PolicyTraining(**own)
        return ModelBased(
            space, seed, Settings(agent, mutation, probes=probes, policy_training=policy_training)
        )

    return make


#: every member takes the space, the seed and the agent's options, and uses those that it knows
SAMPLERS: dict[str, SamplerFactory] = {
    "model-based": _model_based(),
    "model-based-no-agent": _model_based(agent=False),
    "model-based-no-mutation": _model_based(mutation=False),
    "model-based-no-probe": _model_based(probe=False),
    "reinforce": _reinforce,
    "random": lambda space, seed, **_: RandomSampler(space, seed),
    "evolution": _evolution,
    "tpe": _of_optuna("tpe"),
    "nsga2": _of_optuna("nsga2"),
    "gp": _of_optuna("gp"),
}
