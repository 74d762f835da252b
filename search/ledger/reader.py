"""The candidates of any run, for readers: from its journal, or from a database."""

from __future__ import annotations

from search.job.run_folder import RunFolder
from search.ledger.columns import Columns, load, no_candidates, place, read_columns, save
from search.space.teacher_stats import Facts


def columns_of(folder: RunFolder, storage: str | None, facts: Facts) -> Columns:
    """All finished candidates of a run, wherever its ledger is.

    Raises:
        BadInput: there are none yet, or the ledger cannot be read.
    """
    if storage is None:
        return read_columns(folder.ledger)
    # Optuna and the database's driver take a second
    from search.ledger.ledger import stored_records

    path = place(folder.ledger)
    stored = load(path)
    known = 0 if stored is None else len(stored[0])
    records = stored_records(folder.ledger, storage, known)
    if records:
        columns = Columns.of_records(records, facts.layers, facts.pool)
        save(path, columns, {})
        return columns
    if stored is None:
        raise no_candidates(folder.ledger)
    return stored[0]
