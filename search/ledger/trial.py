"""One evaluated candidate, and the Optuna trial that it is written as."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

#: what Optuna has a place of its own for: the value, the state and the intermediate values
_NOT_ATTRS = ("reward", "pruned", "curve")


@dataclass(frozen=True)
class Record:
    """One evaluated candidate.

    Attributes:
        key: digest of the network after rounding; equal for duplicates.
        actions: as first proposed.
        accuracy: on the validation part, by the job's metric; 0 where it failed; where it was
            stopped at a rung, that of the rung.
        reward: under the thresholds in force when it was written.
        parameters, bytes, macs: exact cost.
        seconds: of distillation.
        reason: why it failed; empty where it did not.
        pruned: it was stopped at a rung.
        epochs: of its training; 0 where an earlier version did not write them.
        curve: accuracy after every epoch, nan where it was not measured.
        mode: how its steps ran, such as "bf16 channels_last".
        proposed: proposals that the sampler had made when it arrived; 0 where nobody wrote it.
    """

    key: str
    actions: tuple[int, ...]
    accuracy: float
    reward: float
    parameters: int
    bytes: int
    macs: int
    seconds: float
    reason: str = ""
    pruned: bool = False
    epochs: int = 0
    curve: tuple[float, ...] = ()
    mode: str = ""
    proposed: int = 0

    @property
    def failed(self) -> bool:
        """Whether there is no accuracy at all."""
        return bool(self.reason)

    @property
    def whole(self) -> bool:
        """Whether its training came to its end: only then may it win."""
        return not (self.failed or self.pruned)

    def at(self, epoch: int) -> float | None:
        """Accuracy after an epoch, if it was measured."""
        if epoch > len(self.curve) or math.isnan(self.curve[epoch - 1]):
            return None
        return self.curve[epoch - 1]

    @property
    def kb(self) -> float:
        """Kilobytes of 1,024 bytes."""
        return self.bytes / 1024


def parameter_names(layers: Sequence[str]) -> list[str]:
    """One parameter a layer; the numbers keep them in order and apart."""
    return [f"{index:03d}_{name}" for index, name in enumerate(layers)]


def trial_of(record: Record, names: Sequence[str], pool: Sequence[float]) -> FrozenTrial:
    """A finished trial: coefficients are its parameters, the reward is its value."""
    fields = {name: value for name, value in asdict(record).items() if name not in _NOT_ATTRS}
    return create_trial(
        state=TrialState.PRUNED if record.pruned else TrialState.COMPLETE,
        value=record.reward,
        intermediate_values={
            epoch: accuracy
            for epoch, accuracy in enumerate(record.curve, 1)
            if not math.isnan(accuracy)
        },
        params={name: pool[action] for name, action in zip(names, record.actions, strict=True)},
        distributions=dict.fromkeys(names, CategoricalDistribution(tuple(pool))),
        user_attrs=fields | {"actions": list(record.actions), "kb": record.kb},
    )


def record_of(trial: FrozenTrial) -> Record:
    """What :func:`trial_of` made a trial of."""
    attrs, measured = trial.user_attrs, trial.intermediate_values
    epochs = attrs.get("epochs", 0)
    assert trial.value is not None
    return Record(
        key=attrs["key"],
        actions=tuple(attrs["actions"]),
        accuracy=attrs["accuracy"],
        reward=trial.value,
        parameters=attrs["parameters"],
        bytes=attrs["bytes"],
        macs=attrs["macs"],
        seconds=attrs["seconds"],
        reason=attrs["reason"],
        pruned=trial.state == TrialState.PRUNED,
        epochs=epochs,
        curve=tuple(measured.get(epoch, math.nan) for epoch in range(1, epochs + 1)),
        mode=attrs.get("mode", ""),
        proposed=attrs.get("proposed", 0),
    )
