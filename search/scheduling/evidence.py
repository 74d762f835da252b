"""What earlier runs found out, as outcomes that a sampler can begin with.

Reading a run needs no lock and changes nothing, so it may still be going on. What was read is kept
in the new run's folder: a resumed search begins with the same evidence, whatever has become of the
earlier runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge.files import write_bytes
from search.job.events import Event, Note
from search.job.run_folder import RunFolder
from search.job.spec import JobSpec
from search.ledger.ledger import journal_records, stored_records
from search.samplers import Observation, Sampler
from search.scheduling.warm import check_teacher_of, differences, earlier_run
from search.space.space import Actions, Space
from search.space.teacher_stats import read_facts
from search.space.training_plan import PROXY_ROWS
from teachers.distillation.checkpoint import Checkpoint


class Found(NamedTuple):
    """A candidate of an earlier run: figures that hold under any thresholds.

    ``epochs`` are counted in those of the present job's proxy: by the images that were seen.
    """

    key: str
    actions: Actions
    accuracy: float
    epochs: float
    failed: bool
    pruned: bool


def warm_up(
    sampler: Sampler, space: Space, spec: JobSpec, teacher: str, folder: RunFolder
) -> Iterator[Event]:
    """Give a fresh sampler the evidence of ``spec.warm``, and tell of it.

    Args:
        sampler: of this job; it has proposed nothing yet.
        space: of this job.
        spec: of this job.
        teacher: its teacher's fingerprint.
        folder: of this job's run.

    Raises:
        BadInput: an earlier run is of another teacher.
    """
    if not spec.warm:
        return
    if folder.evidence.exists():
        found = _kept(folder.evidence)
    else:
        found = []
        for name in spec.warm:
            check_teacher_of(name, teacher)
            earlier = earlier_run(name)
            other = differences(earlier, spec)
            if other:
                yield Note(f"{name} came to its accuracies with another {', '.join(other)}")
            rows = read_candidates(RunFolder(name), earlier)
            scale = _images(RunFolder(name), earlier) / _own_images(space, spec)
            found += [one._replace(epochs=one.epochs * scale) for one in rows]
        found = _legal(found, space)
        _keep(found, folder.evidence)
    used = sampler.warm(outcomes_of(found, space))
    if used:
        yield Note(f"the search begins with what earlier runs say of {used} candidates")
    elif found:
        yield Note(
            f"{spec.sampler} learns from proposals of its own alone: --warm changes nothing",
            warning=True,
        )


def begun_with(folder: RunFolder, space: Space) -> list[tuple[float, float]]:
    """KB and expected accuracy of what a run began with, where it was trained to the end."""
    if not folder.evidence.exists():
        return []
    whole = [one for one in _kept(folder.evidence) if not (one.failed or one.pruned)]
    return [
        (space.cost(outcome.actions).kb, outcome.accuracy) for outcome in outcomes_of(whole, space)
    ]


def read_candidates(folder: RunFolder, job: JobSpec) -> list[Found]:
    """All finished candidates of a run, in the order in which they finished."""
    if job.storage is None:
        records = journal_records(folder.ledger)
    else:
        records = stored_records(folder.ledger, job.storage)
    return [
        Found(
            record.key,
            record.actions,
            record.accuracy,
            record.epochs,
            record.failed,
            record.pruned,
        )
        for record in records
    ]


def _own_images(space: Space, spec: JobSpec) -> int:
    if space.expectation is not None:
        return space.expectation.images
    return spec.proxy_rows or PROXY_ROWS


def _images(folder: RunFolder, job: JobSpec) -> int:
    """That a candidate of a run saw in an epoch: fewer than it asked for, where rows are few."""
    if folder.facts.exists():
        return read_facts(folder).images
    return job.proxy_rows or PROXY_ROWS


def outcomes_of(found: list[Found], space: Space) -> list[Observation]:
    """Rewards under the job's own thresholds. Of several runs the one that trained a network
    furthest says what it is, the last of equals."""
    space.costs([candidate.actions for candidate in found])
    best: dict[str, Found] = {}
    for candidate in found:
        before = best.get(candidate.key)
        if before is None or _standing(candidate) >= _standing(before):
            best[candidate.key] = candidate
    return [_outcome(candidate, space) for candidate in best.values()]


def _standing(found: Found) -> int:
    return 0 if found.failed else 1 if found.pruned else 2


def _outcome(found: Found, space: Space) -> Observation:
    if found.failed:
        return Observation(found.actions, 0.0, 0.0, failed=True, key=found.key)
    expected = space.expected(found.accuracy, found.epochs)
    reward = space.reward_of(found.actions, expected)
    return Observation(found.actions, expected, reward, pruned=found.pruned, key=found.key)


def _legal(found: list[Found], space: Space) -> list[Found]:
    """Those that may be proposed here too: other layers may be protected."""
    steps = np.arange(len(space.masks))
    return [one for one in found if space.masks[steps, one.actions].all()]


def _keep(found: list[Found], path: Path) -> None:
    arrays: dict[str, NDArray[Any]] = {
        "actions": np.array([one.actions for one in found], np.int16),
        "accuracies": np.array([one.accuracy for one in found], np.float64),
        "epochs": np.array([one.epochs for one in found], np.float64),
        "failed": np.array([one.failed for one in found], np.uint8),
        "pruned": np.array([one.pruned for one in found], np.uint8),
    }
    write_bytes(path, Checkpoint(arrays, {"keys": [one.key for one in found]}).to_bytes())


def _kept(path: Path) -> list[Found]:
    kept = Checkpoint.from_bytes(path.read_bytes())
    columns = [
        kept.arrays[name] for name in ("actions", "accuracies", "epochs", "failed", "pruned")
    ]
    return [
        Found(
            key,
            tuple(map(int, actions)),
            float(accuracy),
            float(epochs),
            bool(failed),
            bool(pruned),
        )
        for key, actions, accuracy, epochs, failed, pruned in zip(
            kept.meta["keys"], *columns, strict=True
        )
    ]
