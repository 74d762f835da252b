"""Every candidate that was evaluated, on disk, as an Optuna study in a journal file.

A candidate is *finished* once its trial stands in the journal: one line, appended at once. A
process killed in the middle of that line leaves a torn one, which is cut off at the next opening.
"""

from __future__ import annotations

import fcntl
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from edge.errors import BadInput

STUDY = "understudy"
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


def holds_candidates(path: Path) -> bool:
    """Whether a journal has any finished candidate; it need not exist, nor be open to us."""
    return path.exists() and b'"key"' in path.read_bytes()


class Ledger:
    """The candidates of one job, in the order in which they finished.

    Use it as a context manager: while it is open no other process can open it.
    """

    def __init__(self, path: Path, layers: Sequence[str], pool: Sequence[float]) -> None:
        """Open or create.

        Args:
            path: journal file.
            layers: names of the weight layers, one parameter of a trial each.
            pool: coefficients, the choices of every parameter.

        Raises:
            BadInput: another process has it open.
        """
        self._names = [f"{index:03d}_{name}" for index, name in enumerate(layers)]
        self._pool = tuple(pool)
        self._lock = os.open(path.with_suffix(".lock"), os.O_CREAT | os.O_RDWR, 0o644)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise BadInput(
                "the run is in use",
                value=str(path.parent),
                bound="a run that no other process works on",
                remedy="Wait for the other process, or stop it.",
            ) from None
        _cut_torn_line(path)
        # a killed process leaves Optuna's own lock behind, which would cost the next half a minute
        Path(f"{path}.lock").unlink(missing_ok=True)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(path))),
            study_name=STUDY,
            direction="maximize",
            load_if_exists=True,
        )
        self.records: list[Record] = [_record(trial) for trial in self._study.trials]
        self._by_key = {record.key: record for record in self.records}

    def get(self, key: str) -> Record | None:
        """The record of a candidate, if it is finished."""
        return self._by_key.get(key)

    def add(self, record: Record) -> None:
        """Write a finished candidate; it is on disk when this returns."""
        distribution = CategoricalDistribution(self._pool)
        fields = {name: value for name, value in asdict(record).items() if name not in _NOT_ATTRS}
        self._study.add_trial(
            optuna.trial.create_trial(
                state=TrialState.PRUNED if record.pruned else TrialState.COMPLETE,
                value=record.reward,
                intermediate_values={
                    epoch: accuracy
                    for epoch, accuracy in enumerate(record.curve, 1)
                    if not math.isnan(accuracy)
                },
                params={
                    name: self._pool[action]
                    for name, action in zip(self._names, record.actions, strict=True)
                },
                distributions=dict.fromkeys(self._names, distribution),
                user_attrs=fields | {"actions": list(record.actions), "kb": record.kb},
            )
        )
        self.records.append(record)
        self._by_key[record.key] = record

    def close(self) -> None:
        """Let other processes open it."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self.close()


def _record(trial: optuna.trial.FrozenTrial) -> Record:
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


def _cut_torn_line(path: Path) -> None:
    if not path.exists():
        return
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) != len(content):
        with path.open("r+b") as file:
            file.truncate(len(whole))
