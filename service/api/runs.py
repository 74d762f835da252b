"""Readers of runs: candidates, re-ranking, router curves, and a bundle that answers images.

Everything is read from a run's folder through the readers that the command line uses, and kept for
as long as its files do not change. None of it loads torch.
"""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from edge.bundle import Bundle, load_bundle
from edge.runtime import EdgeRuntime, OnnxTeacher
from routers.evaluation.intervals import share_upper_bound

T = TypeVar("T")
Json = dict[str, Any]
#: runs, and bundles, that are kept
KEPT = 32
#: points of a curve over appeals
POINTS = 101
#: of the bound on trusted errors
CONFIDENCE = 0.95


class RunReader:
    """What is asked of runs again and again, read once for each state of their files."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, Path], tuple[Any, Any]] = OrderedDict()
        self._lock = threading.Lock()

    def candidates(self, run: Path) -> Json:
        """Every candidate of a run, column by column, for plots.

        Raises:
            BadInput: there is none yet.
        """
        return self._once("candidates", run, _ledger_state, lambda: _columns(self._run(run)))

    def rerank(self, run: Path, given: Mapping[str, Any], top: int = 10) -> Json:
        """The run's candidates under other weights, thresholds and limits.

        Raises:
            BadInput: a value that cannot be used, or a limit that no candidate keeps.
        """
        from search.analysis.rerank import rerank

        found = rerank(self._run(run), given)
        return found.result(top) | {
            "eligible": found.after.eligible.tolist(),
        }

    def csv(self, run: Path) -> str:
        """Every candidate, as a table for a spreadsheet."""
        from search.analysis.csv_export import write_csv

        text = io.StringIO(newline="")
        write_csv(self._run(run), text)
        return text.getvalue()

    def parquet(self, run: Path) -> bytes:
        """The same table as Parquet."""
        import pyarrow as pa
        import pyarrow.csv
        import pyarrow.parquet as pq

        table = pyarrow.csv.read_csv(pa.BufferReader(self.csv(run).encode()))
        sink = io.BytesIO()
        pq.write_table(table, sink)
        return sink.getvalue()

    def deferral(self, run: Path) -> Json:
        """The shipped router's curve over appeals on the calibration rows, with its bounds."""
        return self._once("deferral", run, _bundle_state, lambda: _deferral(self.bundle(run)))

    def bundle(self, run: Path) -> Bundle:
        """The bundle of a finished run, verified."""
        return self._once("bundle", run, _bundle_state, lambda: load_bundle(run / "bundle"))

    def answers(self, run: Path, images: Mapping[str, bytes]) -> list[Json]:
        """What student, router and teacher say of image files, by name.

        Raises:
            BadInput: an image that cannot be used.
        """
        bundle = self.bundle(run)
        manifest = bundle.manifest
        pixels = np.stack([manifest.preprocess.decode(data, name) for name, data in images.items()])
        edge = self._once("runtime", run, _bundle_state, lambda: EdgeRuntime(bundle))
        cloud = self._once("teacher", run, _bundle_state, lambda: _teacher(run, bundle))
        scores = np.sort(np.array(manifest.calibration.score, np.float64))
        teacher = None if cloud is None else cloud(manifest.preprocess.to_input(pixels))
        rows = []
        for row, (name, answer) in enumerate(zip(images, edge.answer(pixels), strict=True)):
            decision = answer.decision
            rank = float(np.searchsorted(scores, decision.score) / max(1, len(scores)))
            rows.append(
                {
                    "image": name,
                    "student": asdict(decision),
                    "rank": rank,
                    "teacher": None if teacher is None else _named(teacher[row], manifest),
                }
            )
        return rows

    def forget(self, run: Path) -> None:
        """Drop what is kept of a run, whose bundle has changed."""
        with self._lock:
            for key in [key for key in self._kept if key[1] == run]:
                del self._kept[key]

    def _run(self, run: Path) -> Any:
        from search.analysis.scored_trials import read_run

        return self._once("run", run, _ledger_state, lambda: read_run(str(run)))

    def _once(self, kind: str, run: Path, state: Callable[[Path], Any], read: Callable[[], T]) -> T:
        now, key = state(run), (kind, run)
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None and kept[0] == now:
                self._kept.move_to_end(key)
                value: T = kept[1]
                return value
        value = read()
        with self._lock:
            self._kept[key] = (now, value)
            self._kept.move_to_end(key)
            while len(self._kept) > 5 * KEPT:
                self._kept.popitem(last=False)
        return value


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def _ledger_state(run: Path) -> Any:
    return tuple(
        _stamp(run / name)
        for name in ("ledger.journal", "ledger.parquet", "facts.json", "result.json", "trained")
    )


def _bundle_state(run: Path) -> Any:
    return _stamp(run / "bundle" / "manifest.json")


def _columns(run: Any) -> Json:
    from search.analysis.scored_trials import standings

    found = standings(run, run.spec)
    columns = run.columns
    reached = found.reached
    order = found.order
    return {
        "teacher": {"kb": run.facts.kb, "accuracy": run.facts.accuracy},
        "limits": {
            name: getattr(run.spec, name) for name in ("max_kb", "max_macs", "max_drop", "target")
        },
        "setting": found.setting(),
        "layers": list(columns.layers),
        "number": list(range(1, len(columns) + 1)),
        "key": list(map(str, columns.key)),
        "kb": np.round(columns.kb, 4).tolist(),
        "macs": columns.macs.tolist(),
        "accuracy": _numbers(columns.accuracy),
        "expected": _numbers(found.expected),
        "measured": _numbers(reached),
        "reward": _numbers(found.rewards),
        "failed": columns.failed.tolist(),
        "whole": columns.whole.tolist(),
        "reason": list(map(str, columns.reason)),
        "coefficients": np.round(columns.coefficients, 4).tolist(),
        "winner": int(order[0]) if len(order) else None,
    }


def _numbers(values: NDArray[Any]) -> list[float | None]:
    return [round(float(value), 6) if np.isfinite(value) else None for value in values]


def _deferral(bundle: Bundle) -> Json:
    manifest = bundle.manifest
    kept = manifest.calibration
    score = np.array(kept.score, np.float64)
    student = np.array(kept.student_right, np.float64)
    teacher = np.array(kept.teacher_right, np.float64)
    rows = len(score)
    if not rows:
        return {"rows": 0}
    counts = np.unique(np.linspace(0, rows, POINTS).round().astype(int))
    by_score, gain = np.argsort(score, kind="stable"), teacher - student
    best = np.argsort(-gain, kind="stable")

    def curve(order: NDArray[Any]) -> list[float]:
        total = np.concatenate([[0.0], np.cumsum(gain[order])])
        accuracy: list[float] = ((student.sum() + total[counts]) / rows).round(6).tolist()
        return accuracy

    wrong = np.concatenate([np.cumsum((1 - student[by_score])[::-1])[::-1], [0.0]])
    kept_rows = np.maximum(rows - counts, 1)
    sorted_scores = score[by_score]
    thresholds = [
        float(sorted_scores[min(count, rows - 1)]) if count < rows else None for count in counts
    ]
    share = counts / rows
    return {
        "rows": rows,
        "router": asdict(manifest.router),
        "goal": dict(manifest.goal),
        "threshold": manifest.threshold,
        "appeals_now": float((score < manifest.threshold).mean()),
        "appeals": share.round(6).tolist(),
        "accuracy": curve(by_score),
        "oracle": curve(best),
        "random": (student.mean() + share * gain.mean()).round(6).tolist(),
        "trusted_error_upper": [
            round(share_upper_bound(int(errors), int(left), CONFIDENCE), 6) if left else None
            for errors, left in zip(wrong[counts], rows - counts, strict=True)
        ],
        "trusted_error": (wrong[counts] / kept_rows).round(6).tolist(),
        "thresholds": thresholds,
        "student_accuracy": float(student.mean()),
        "teacher_accuracy": float(teacher.mean()),
    }


def _teacher(run: Path, bundle: Bundle) -> OnnxTeacher | None:
    path = run / "cloud" / "teacher.onnx"
    if not path.is_file():
        return None
    manifest = bundle.manifest
    return OnnxTeacher(path, manifest.preprocess, len(manifest.class_names))


def _named(logits: NDArray[np.float32], manifest: Any) -> Json:
    exact = logits.astype(np.float64)
    probability = np.exp(exact - exact.max())
    label = int(exact.argmax())
    return {
        "label": label,
        "class_name": manifest.class_names[label],
        "probability": float(probability[label] / probability.sum()),
    }
