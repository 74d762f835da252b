"""AppealNet's two-head students against the margin: the file of their answers, and the lines.

The file holds what :mod:`benchmarks.routing.arms` made, on the rows of a pair that nobody has
learnt from: for every arm whether its student is right, its margin, and what its head says. Margins
m are kept as ln((1 + m)/(1 − m)), heads as the logit of q, both to 1/64: the order of rows is all
that matters.

Every arm is judged on the test parts of the study's draws, its own student with the pair's teacher.
AccI (Eq. 14) counts from the *plain* student with its further epochs in all of them, so that a
student that became better or worse under its head is seen to be. A cost is Eq. 15 in MACs, where an
appealed input costs edge and cloud. The black box (Table II) has a teacher that is always right.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from benchmarks.quality import packing
from benchmarks.routing import arms, making
from benchmarks.routing.choice import difference
from benchmarks.routing.contenders import FIGURES, Line
from benchmarks.routing.draws import draw
from benchmarks.routing.pairs import UNSEEN, Pair
from routers.evaluation.intervals import SHARES, figures_of
from routers.evaluation.metrics import appeals_for, auroc, deferral_curve
from routers.selection.labels import student_right

FILE = Path(__file__).resolve().parents[1] / "data" / "two_heads.parquet"
COMMAND = "python benchmarks/routers.py heads"
GRID = 64
#: of lines
KINDS = ("two-head", "black box")

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Contender:
    """An arm and what decides there: its head, or its student's margin."""

    name: str
    arm: str
    head: bool
    black_box: bool = False

    @property
    def kind(self) -> str:
        """Of its lines."""
        return KINDS[self.black_box]


MARGIN = Contender("margin, further epochs", "plain", head=False)
JOINT = Contender("head, joint (Eq. 9)", "white", head=True)
CONTENDERS = (
    MARGIN,
    Contender("head, frozen trunk", "frozen", head=True),
    JOINT,
    Contender("margin of that student", "white", head=False),
)
#: where the teacher is always right, as in the paper's Table II
BLACK_MARGIN = Contender("margin, further epochs", "plain", head=False, black_box=True)
BLACK_JOINT = Contender("head, joint (Eq. 10)", "black", head=True, black_box=True)
BLACK_BOX = (
    BLACK_MARGIN,
    BLACK_JOINT,
    Contender("margin of that student", "black", head=False, black_box=True),
)
LINES = [(contender.kind, contender.name) for contender in (*CONTENDERS, *BLACK_BOX)]


@dataclass(frozen=True, eq=False)
class Arm:
    """One arm on the N unseen rows of its pair, in their order there.

    Attributes:
        right: N of 0 and 1, of its own student.
        margin: N, any increasing function of it.
        trust: N, of its head, likewise; None where it has none.
        about: how it was made.
    """

    right: Rows
    margin: Floats
    trust: Floats | None
    about: dict[str, Any]


def arm_of(logits: NDArray[np.float32], trust: NDArray[np.float32] | None, labels: Rows) -> Arm:
    """An arm as the file holds it, from what its networks say."""
    kept = None if trust is None else _on_grid(trust.astype(np.float64))
    return Arm(student_right(logits, labels), _on_grid(log_margin(logits)), kept, {})


def log_margin(logits: NDArray[np.float32]) -> Floats:
    """ln((1 + m)/(1 − m)) of the margin m between the two largest probabilities, N."""
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    ranked = -np.sort(-powers, axis=1)
    # 1 − m is what the others have and twice the second: no difference of numbers near 1
    missing = 2 * ranked[:, 1] + ranked[:, 2:].sum(axis=1)
    total = ranked.sum(axis=1)
    found: Floats = np.log(2 * total - missing) - np.log(np.maximum(missing, 1e-300))
    return found


def _on_grid(values: Floats) -> Floats:
    return _steps(values) / GRID


def pack(pairs: Sequence[Pair], out: Path = making.OUT, file: Path = FILE) -> None:
    """Write the file from the pairs whose arms are all finished."""
    columns: dict[str, list[Any]] = {}
    about: dict[str, dict[str, Any]] = {}
    for pair in pairs:
        if not arms.finished(pair.name, out):
            continue
        labels = pair.labels[pair.of(*UNSEEN)]
        columns.setdefault("pair", []).extend([pair.name] * len(labels))
        about[pair.name] = {arm: arms.about(pair.name, arm, out) for arm in arms.ARMS}
        for name in arms.ARMS:
            said = arms.answers(pair.name, name, out)
            arm = arm_of(said["logits"], said.get("trust"), labels)
            columns.setdefault(f"{name}_right", []).append(arm.right.astype(bool))
            columns.setdefault(f"{name}_margin", []).append(_steps(arm.margin))
            if arm.trust is not None:
                columns.setdefault(f"{name}_trust", []).append(_steps(arm.trust))
    if not about:
        raise FileNotFoundError(f"no arm is finished in {out}; train them: {COMMAND}")
    lost = set(_pairs(file)) - set(about)
    if lost:
        raise FileNotFoundError(
            f"{', '.join(sorted(lost))}: in {file}, but not finished in {out}; {COMMAND}"
        )
    # the trunk stays as it was, and what its student says is in the file of pairs
    del columns["frozen_right"], columns["frozen_margin"]
    named = pa.array(columns.pop("pair")).dictionary_encode()
    table = {name: pa.array(np.concatenate(parts)) for name, parts in columns.items()}
    meta = {"command": COMMAND, "grid": GRID, "pairs": about}
    packing.write(file, {"pair": named, **table}, {b"understudy": json.dumps(meta).encode()})


def _pairs(file: Path) -> list[str]:
    """Pairs of the file, if there is one."""
    if not file.exists():
        return []
    meta = json.loads(pq.read_schema(file).metadata[b"understudy"])
    return list(meta["pairs"])


def _steps(values: Floats) -> NDArray[np.int16]:
    return np.clip(np.rint(values * GRID), -(2**15), 2**15 - 1).astype(np.int16)


def read(pair: Pair, file: Path = FILE) -> dict[str, Arm]:
    """The arms of a pair; none where the file has not heard of it."""
    if not file.exists():
        return {}
    table = pq.read_table(file)
    meta = json.loads(table.schema.metadata[b"understudy"])
    if pair.name not in meta["pairs"]:
        return {}
    mine = table.filter(pc.equal(table["pair"], pair.name))
    places = pair.of(*UNSEEN)
    of_trunk = arm_of(pair.logits[places], None, pair.labels[places])

    def column(name: str) -> Floats | None:
        if name not in mine.column_names:
            return None
        found: Floats = mine[name].to_numpy().astype(np.float64) / meta["grid"]
        return found

    found = {}
    for name, about in meta["pairs"][pair.name].items():
        margin = column(f"{name}_margin")
        if margin is None:
            found[name] = Arm(of_trunk.right, of_trunk.margin, column(f"{name}_trust"), about)
            continue
        right = mine[f"{name}_right"].to_numpy().astype(np.int64)
        found[name] = Arm(right, margin, column(f"{name}_trust"), about)
    return found


def made_of(file: Path = FILE) -> str:
    """What lines of two-head students depend on beside pair and seed."""
    return hashlib.sha256(file.read_bytes()).hexdigest()[:12] if file.exists() else ""


def lines(pair: Pair, seed: int, file: Path = FILE) -> Iterator[Line]:
    """The lines of all contenders on one draw's test part; none where the file has no arms."""
    found = read(pair, file)
    if not found:
        return
    places = np.searchsorted(pair.of(*UNSEEN), draw(pair, seed).test)
    teacher = pair.teacher_right[pair.of(*UNSEEN)][places]
    for contender in (*CONTENDERS, *BLACK_BOX):
        truth = np.ones_like(teacher) if contender.black_box else teacher
        yield _line(pair, found, seed, contender, places, truth)


def _line(
    pair: Pair,
    found: dict[str, Arm],
    seed: int,
    contender: Contender,
    places: Rows,
    teacher: Rows,
) -> Line:
    own, score = _of(found, contender, places)
    plain, margin = _of(found, MARGIN, places)
    figures: dict[str, float | None] = {**figures_of(score, own, teacher, FIGURES)}
    # the plain student with its further epochs is where every gap begins
    curve, gap = deferral_curve(score, own, teacher), teacher.mean() - plain.mean()
    figures |= {
        f"appeals_for_acc_i_{share}": appeals_for(curve, plain.mean() + share / 100 * gap)
        for share in SHARES
    }
    macs = [pair.about["macs"], found[contender.arm].about["teacher_macs"]]
    return {
        "pair": pair.name,
        "seed": seed,
        "router": contender.name,
        "kind": contender.kind,
        "made_of": made_of(),
        "student": float(own.mean()),
        "teacher": float(teacher.mean()),
        **figures,
        "auroc": auroc(score, own),
        "macs": macs,
        "difference": difference(score, margin, own, teacher, seed, plain),
    }


def _of(found: dict[str, Arm], contender: Contender, places: Rows) -> tuple[Rows, Floats]:
    arm = found[contender.arm]
    score = arm.trust if contender.head else arm.margin
    assert score is not None
    return arm.right[places], score[places]
