"""Every candidate that was evaluated, on disk, as an Optuna study in a journal file.

A candidate is *finished* once its trial stands in the journal: one line, appended at once. A
process killed in the middle of that line leaves a torn one, which is cut off at the next opening.
On request the study lies in a database in place of the journal; the lock is the same file.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from types import TracebackType

import optuna

from edge import made
from edge.errors import BadInput
from search.job.lock import let_go, take
from search.ledger import columns as columns_file
from search.ledger.storage import STUDY as STUDY
from search.ledger.storage import database, is_there, journal, own, shown, study_name, talking_to
from search.ledger.trial import Record as Record
from search.ledger.trial import parameter_names, record_of, trial_of


class Ledger:
    """The candidates of one job, in the order in which they finished.

    Use it as a context manager: while it is open no other process can open it.
    """

    def __init__(
        self,
        path: Path,
        layers: Sequence[str],
        pool: Sequence[float],
        storage: str | None = None,
    ) -> None:
        """Open or create.

        Args:
            path: journal file; with ``storage`` none is written, but lock and columns lie there.
            layers: names of the weight layers, one parameter of a trial each.
            pool: coefficients, the choices of every parameter.
            storage: URL of a database.

        Raises:
            BadInput: another process has it open, or the database cannot be used.
        """
        self._path, self._layers, self._storage = path, tuple(layers), storage
        self._names = parameter_names(layers)
        self._pool = tuple(pool)
        self._lock = take(path.with_suffix(".lock"))
        try:
            optuna.logging.set_verbosity(optuna.logging.WARNING)
            self._study = _from_file(path) if storage is None else _from_database(path, storage)
            with self._talking():
                self.records: list[Record] = [record_of(trial) for trial in self._study.trials]
        except BaseException:
            let_go(self._lock)
            raise
        self._by_key = {record.key: record for record in self.records}
        self._grown = False

    def get(self, key: str) -> Record | None:
        """The record of a candidate, if it is finished."""
        return self._by_key.get(key)

    def add(self, record: Record) -> None:
        """Write a finished candidate; it is on disk when this returns."""
        trial = trial_of(record, self._names, self._pool)
        with self._talking():
            self._study.add_trial(trial)
        self.records.append(record)
        self._by_key[record.key] = record
        self._grown = True

    def _talking(self) -> AbstractContextManager[None]:
        return nullcontext() if self._storage is None else talking_to(self._storage)

    def close(self) -> None:
        """Let other processes open it, and the columns beside it catch up."""
        if self._lock < 0:
            return
        try:
            if self._grown and self._storage is None:
                with suppress(BadInput):
                    columns_file.read_columns(self._path)
            elif self._grown:
                columns = columns_file.Columns.of_records(self.records, self._layers, self._pool)
                columns_file.save(columns_file.place(self._path), columns, {})
        finally:
            let_go(self._lock)
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


def journal_records(path: Path) -> list[Record]:
    """The candidates of a run in its journal, without its lock."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.load_study(study_name=STUDY, storage=journal(path))
    except KeyError:  # stopped before its first line was whole
        return []
    return [record_of(trial) for trial in study.get_trials(deepcopy=False)]


def stored_records(path: Path, storage: str, known: int = 0) -> list[Record]:
    """The candidates of a run in a database, without its lock; none where it holds ``known``.

    Raises:
        BadInput: the database cannot be used, or has no such study.
    """
    if not is_there(storage):  # to connect would make it
        raise _not_there(path, storage)
    store = database(storage)
    with talking_to(storage):
        try:
            study = store.get_study_id_from_name(study_name(path))
        except KeyError:
            raise _not_there(path, storage) from None
        if store.get_n_trials(study) == known:
            return []
        return [record_of(trial) for trial in store.get_all_trials(study, deepcopy=False)]


def _from_file(path: Path) -> optuna.Study:
    _cut_torn_line(path)
    # a killed process leaves Optuna's own lock behind, which would cost the next half a minute
    Path(f"{path}.lock").unlink(missing_ok=True)
    there = path.exists()
    study = optuna.create_study(
        storage=journal(path), study_name=STUDY, direction="maximize", load_if_exists=True
    )
    if not there:
        made.note(path, grows=True)
    return study


def _from_database(path: Path, storage: str) -> optuna.Study:
    store = database(storage)
    with talking_to(storage):
        # whoever names another database by mistake must not begin again with nothing
        if columns_file.place(path).exists():
            try:
                store.get_study_id_from_name(study_name(path))
            except KeyError:
                raise _not_there(path, storage) from None
        study = optuna.create_study(
            storage=store, study_name=study_name(path), direction="maximize", load_if_exists=True
        )
        own(study, path)
    return study


def _not_there(path: Path, storage: str) -> BadInput:
    return BadInput(
        "the run's candidates are not in this database",
        value=f"--storage {shown(storage)}",
        bound=f"the database with the study {study_name(path)}",
        remedy="Name the database that the run was started with.",
    )


def _cut_torn_line(path: Path) -> None:
    if not path.exists():
        return
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) != len(content):
        with path.open("r+b") as file:
            file.truncate(len(whole))
