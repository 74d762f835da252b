"""The page for when something is wrong: each line is provoked, and its words are what is said."""

from __future__ import annotations

import ast
import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import util
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import typer
from numpy.typing import NDArray

from edge.errors import BadInput, MissingExtra, Unfinished
from edge.preprocess import Preprocess
from envs.gym.toy import toy_spec
from envs.reward import ThresholdReward
from routers.calibration.calibrate import CalibrationRows
from routers.calibration.goals import Accuracy, Appeals, Goal, calibrate
from search import packing
from search.job import lock
from search.job.choices import CHOICES
from search.job.claim import LOCK, claimed, taken
from search.job.events import Event, Note
from search.job.run_folder import RunFolder
from search.job.spec import JobSpec, make_spec
from search.opening.pilots import fly
from search.packaging import measure
from search.packaging.sense import Blind, PartSeen, sense_of
from search.pipeline import _refuse_finished
from search.preparation.teacher_check import check_teacher_sense
from search.preparation.validate import check_inputs
from search.report.result import _broken
from search.space.limits import MEASURES, Limits, with_room
from search.space.space import Space
from service.cli.environment import needs_search
from service.cli.main import app
from teachers.data.class_names import fit_classes
from teachers.data.copies import find_copies
from teachers.data.datasets import open_dataset
from teachers.data.part_checks import check_unseen, part_remarks
from teachers.data.source import Remark, Table
from teachers.data.splits import hold_out
from teachers.formats.manifest import TeacherManifest, parse_manifest, read_json
from tests.search.conftest import HALVES
from tests.search.runs import invented_run
from tests.search.schools import CHANCE, MOVES, School, pretended
from tests.teachers import onnx_graphs

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
ROOMS = ("edge", "envs", "routers", "search", "service", "teachers")
Rows = NDArray[np.int64]


# -- the page ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """One line: ``name`` of the warning, or the quote of a refusal; what is ``said``; the rest."""

    name: str
    said: str
    remedy: str


def lines(title: str) -> list[Line]:
    section = re.split(r"^## ", PAGE, flags=re.MULTILINE)
    (text,) = (part for part in section if part.startswith(title))
    rows = [row.strip("| ").split(" | ") for row in text.splitlines() if row.startswith("| ")][1:]
    return [Line(row[0].strip("`"), row[-3].strip("`"), row[-1]) for row in rows]


WARNINGS, REFUSALS = lines("Warnings"), lines("Refusals")


def assert_said(quote: str, text: str) -> None:
    """The pieces of a quote, between its gaps, stand in the text in that order."""
    place = 0
    for piece in filter(None, (piece.strip() for piece in quote.split("…"))):
        found = text.find(piece, place)
        assert found >= 0, f"{piece!r} is not in {text!r}"
        place = found + len(piece)


# -- the names that the code knows ---------------------------------------------------------------


def names_in(tree: ast.AST) -> Iterator[str]:
    """Of warnings: ``name`` of a Note, the second argument of a Remark, and constants."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id="Note"), keywords=keywords):
                yield from (text for k in keywords if k.arg == "name" for text in texts(k.value))
            case ast.Call(func=ast.Name(id="Remark"), args=[_, name]):
                yield from texts(name, r"[a-z]+(-[a-z]+)*")
            case ast.FunctionDef(name="name"):
                for part in ast.walk(node):
                    if isinstance(part, ast.Return) and part.value is not None:
                        yield from texts(part.value)
            case ast.Assign(targets=[ast.Tuple()], value=ast.Tuple(elts=parts)):
                yield from itertools.chain.from_iterable(map(texts, parts))


def texts(node: ast.expr, pattern: str = r"[a-z]+(-[a-z]+)+") -> Iterator[str]:
    """The names among the literal texts of an expression."""
    for part in ast.walk(node):
        if (
            isinstance(part, ast.Constant)
            and isinstance(part.value, str)
            and re.fullmatch(pattern, part.value)
        ):
            yield part.value


def known() -> set[str]:
    files = [file for room in ROOMS for file in (ROOT / room).rglob("*.py")]
    found = {name for file in files for name in names_in(ast.parse(file.read_text("utf-8")))}
    # two families are put together from parts
    limits = (*MEASURES, "max_pair_kb", "max_drop")
    found |= {f"{limit.replace('_', '-')}-not-kept" for limit in limits}
    causes = re.findall(
        r'"(\w+ order|mean and std)"', (ROOT / "search/preparation/mends.py").read_text("utf-8")
    )
    return found | {f"teacher-{cause.replace(' ', '-')}" for cause in causes}


def test_every_named_warning_is_on_the_page_and_no_other() -> None:
    named = [line.name for line in WARNINGS]
    assert len(named) == len(set(named))
    assert set(named) == known()


# -- what is told to do exists -------------------------------------------------------------------


def commands() -> Mapping[str, set[str]]:
    """Every command and its options."""
    group = cast(Any, typer.main.get_command(app))
    return {
        name: {option for parameter in command.params for option in parameter.opts}
        | {option for parameter in command.params for option in parameter.secondary_opts}
        for name, command in group.commands.items()
    }


def test_what_the_page_says_to_do_can_be_done() -> None:
    every = commands()
    options = set().union(*every.values())
    for line in (*WARNINGS, *REFUSALS):
        for code in re.findall(r"`([^`]+)`", line.remedy):
            asked = re.findall(r"--[a-z0-9-]+", code)
            if command := re.match(r"understudy (\w+)", code):
                assert command[1] in every, code
                assert set(asked) <= every[command[1]], code
            assert set(asked) <= options, code
            for option, value in re.findall(r"--([a-z-]+) (\w+)", code):
                assert value in CHOICES.get(option.replace("-", "_"), (value,)), code
    assert "--strict" in options


def test_keys_of_a_json_that_the_page_names_are_read() -> None:
    said = {"input": [3, 6, 6], "classes": 2, "class_names": ["a", "b"], "mean": [0, 0, 0],
            "std": [1, 1, 1], "arch": "onnx", "channel_order": "BGR",
            "accuracy": {"test": 0.9}}  # fmt: skip
    assert parse_manifest(said, "t.json").channel_order == "BGR"
    shown = {
        code for line in (*WARNINGS, *REFUSALS) for code in re.findall(r"`(\w+)`", line.remedy)
    }
    assert shown <= set(said)
    assert {"mean", "std", "class_names", "accuracy", "arch"} <= shown


# -- how each is provoked ------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """An empty folder that we are in, and a way to put other parts in place."""

    folder: Path
    patch: pytest.MonkeyPatch

    @property
    def run(self) -> RunFolder:
        return RunFolder(self.folder / "run")

    def job(self, **values: Any) -> JobSpec:
        return make_spec({"teacher": "t.onnx", "data": "d", "out": str(self.run.root)} | values)


Told = Sequence[Note | Remark]
RNG = np.random.default_rng(0)
#: eight corners of the cube of colours, in turn, on 400 small images
COLOURS = ("black", "blue", "green", "cyan", "red", "pink", "yellow", "white")
BITS = np.array(list(itertools.product((0, 1), repeat=3)))
LABELS = np.arange(400) % 8
PIXELS = np.clip(
    64 + 128 * BITS[LABELS][:, None, None] + RNG.normal(0, 20, (400, 6, 6, 3)), 0, 255
).astype(np.uint8)
TRAINED = Preprocess(3, 6, 6, mean=(0.5,) * 3, std=(0.25,) * 3)


def teacher(
    *,
    labels: Rows = LABELS,
    preprocess: Preprocess = TRAINED,
    channels: tuple[int, ...] = (0, 1, 2),
    outputs: tuple[int, ...] = tuple(range(8)),
    bend: Callable[[NDArray[np.float32]], NDArray[np.float32]] = lambda logits: logits,
    rows: int = 400,
    **about: Any,
) -> list[Note]:
    """What is told of a network that names the nearest colour, with one thing wrong."""

    def ask(pixels: NDArray[np.uint8], prepared: Preprocess) -> NDArray[np.float32]:
        values = (pixels / 255 - prepared.mean) / prepared.std
        near = values.mean((1, 2))[:, None, list(channels)] - (2 * BITS - 1)
        return bend(-(near**2).sum(2)[:, list(outputs)].astype(np.float32))

    manifest, asked = TeacherManifest("mine", preprocess, COLOURS, **about), np.arange(rows)
    answers = ask(PIXELS[asked], preprocess)
    return list(check_teacher_sense(manifest, COLOURS, PIXELS, labels, asked, answers, ask))


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    shares = np.exp(logits)
    return np.asarray(shares / shares.sum(1, keepdims=True))


def wrong(share: float) -> Rows:
    """Labels of which this share is another."""
    moved = np.random.default_rng(1).random(400) < share
    return (LABELS + moved * np.random.default_rng(2).integers(1, 8, 400)) % 8


def only_right(rows: int) -> Rows:
    """Labels of which the first few are right, and the others are not."""
    moved = np.arange(400) >= rows
    return (LABELS + moved * np.random.default_rng(3).integers(1, 8, 400)) % 8


def parts(train: Rows, test: Rows, darker: float = 1.0) -> list[Remark]:
    labels = np.concatenate([train, test]).astype(np.int64)
    images = RNG.integers(60, 120, (len(labels), 4, 4, 1)).astype(np.uint8)
    images[len(train) :] = images[len(train) :] * darker
    held = hold_out(labels, len(train), unseen=None, seed=0)
    return list(part_remarks(images, labels, held, [f"class {i}" for i in range(10)]))


def every_image_twice() -> list[Remark]:
    copies = find_copies(np.repeat(PIXELS[:50], 2, axis=0))
    found = copies.remark(np.repeat(LABELS[:50], 2), 0, 0, np.arange(0))
    return [found] if found else []


def table(names: tuple[str, ...]) -> Table:
    rows = np.repeat(np.arange(len(names)), 2)
    return Table("pictures", rows, names, len(rows), lambda look, start: iter(()), lambda: "")


def seen(rows: int, student: float, teacher: float) -> PartSeen:
    blind = Blind(rows, rows / 10, (0.09 * rows) ** 0.5)
    return PartSeen(rows, round(student * rows), round(teacher * rows), blind, blind)


def figures(test: PartSeen, validation: PartSeen) -> list[Note]:
    return sense_of({"validation": validation, "test": test}, unseen=True)


def threshold(goal: Goal, score: Sequence[float]) -> list[Note]:
    """Of a student that is right on 6 of 10 rows, and a teacher on 9."""
    student_right = np.array([0, 0, 1, 0, 1, 0, 1, 1, 1, 1])
    teacher_right = np.array([1, 1, 0, 1, 1, 1, 1, 1, 1, 1])
    rows = CalibrationRows(np.array(score, np.float32), student_right, teacher_right)
    found = calibrate(goal, rows, nearest=True)
    return [Note(found.warning, warning=True, name=found.name)]


def notes(events: Iterable[Event]) -> list[Note]:
    return [event for event in events if isinstance(event, Note)]


def pilots(of_large: float) -> list[Note]:
    """Plain students at chance, and one as large as the teacher that reaches ``of_large``."""
    job = pretended(toy_spec())
    large = tuple(MOVES.keep for _ in job.space.layers)
    return notes(fly(job, School(lambda _, actions: of_large if actions == large else CHANCE)))


def fails(*_: Any, **__: Any) -> Any:
    raise RuntimeError("boom")


def packed_with_less(place: Place) -> list[Note]:
    def ship(prepared: Any, *_: Any) -> Iterator[Event]:
        if prepared.spec.int8:
            raise RuntimeError("boom")
        yield Note("shipped")

    @dataclass(frozen=True)
    class Job:
        spec: JobSpec

    place.patch.setattr(packing, "ship", ship)
    place.run.root.mkdir()
    return notes(packing.packed(cast(Any, Job(place.job())), (), {}, place.run, 1))


def no_report(place: Place) -> list[Note]:
    place.patch.setattr(packing, "write_report", fails)
    place.run.root.mkdir()
    return notes(packing.reported(place.run, cast(Any, None)))


def pair_and_parts(place: Place) -> list[Note]:
    says = SimpleNamespace(run_all=lambda inputs, _: {"trusted": np.zeros(len(inputs), bool)})
    place.patch.setattr(measure, "Session", lambda *_: says)
    rows: Any = SimpleNamespace(score=np.ones(4, np.float32))
    return notes(measure.compared(b"", np.zeros((4, 1, 2, 2), np.float32), rows, 0.5))


def broken(limit: str) -> Callable[[Place], Told]:
    def provoke(place: Place) -> Told:
        (found,) = _broken({limit: {"limit": 1.0, "value": 2.0, "kept": False}})
        return [Note(found["text"], warning=True, name=found["name"])]

    return provoke


TEN, MANY = np.arange(600) % 10, np.arange(1000) % 10
PROVOKED: dict[str, Callable[[Place], Told]] = {
    "teacher-near-chance": lambda _: teacher(labels=only_right(5), rows=20),
    "teacher-below-stated": lambda _: teacher(labels=wrong(0.3), accuracy={"test": 0.98}),
    "teacher-class-order": lambda _: teacher(outputs=(0, 2, 1, 3, 4, 5, 6, 7)),
    "teacher-mean-and-std": lambda _: teacher(
        preprocess=Preprocess(3, 6, 6, mean=(0.0, 0.5, 0.5), std=(0.25,) * 3)
    ),
    "teacher-channel-order": lambda _: teacher(channels=(2, 1, 0)),
    "teacher-gives-probabilities": lambda _: teacher(bend=softmax),
    "class-names-differ": lambda _: list(
        fit_classes(table(("barres", "carrés")), 2, ["bars", "squares"]).remarks
    ),
    "few-rows-per-class": lambda _: parts(np.arange(80) % 10, np.arange(0)),
    "class-shares-differ": lambda _: parts(MANY, np.repeat(np.arange(10), [91] + [10] * 9)),
    "brightness-differs": lambda _: parts(TEN, TEN, darker=0.5),
    "duplicates": lambda _: every_image_twice(),
    "pilots-at-chance": lambda _: pilots(of_large=0.9),
    "student-at-chance": lambda _: figures(seen(1000, 0.11, 0.9), seen(1000, 0.11, 0.9)),
    "student-far-below-teacher": lambda _: figures(seen(1000, 0.7, 0.9), seen(1000, 0.7, 0.9)),
    "validation-far-above-test": lambda _: figures(seen(1000, 0.8, 0.8), seen(1000, 0.95, 0.8)),
    "goal-not-reached": lambda _: threshold(Accuracy(0.99), [*range(10)]),
    "budget-unspent": lambda _: threshold(Appeals(0.2), [0] * 4 + [1] * 6),
    "pair-and-parts-differ": pair_and_parts,
    "packed-with-less": packed_with_less,
    "no-report": no_report,
    "max-kb-not-kept": broken("max_kb"),
    "max-pair-kb-not-kept": broken("max_pair_kb"),
    "max-macs-not-kept": broken("max_macs"),
    "max-ms-not-kept": broken("max_ms"),
    "max-drop-not-kept": broken("max_drop"),
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.chdir(tmp_path)
    return Place(tmp_path, monkeypatch)


@pytest.mark.parametrize("line", WARNINGS, ids=lambda line: line.name)
def test_a_warning_says_what_the_page_says(line: Line, place: Place) -> None:
    told = {note.name: note.text for note in PROVOKED[line.name](place)}
    assert_said(line.said, told[line.name])


def claim_again(place: Place) -> None:
    with claimed(place.run.root, lambda _: True):
        raise taken(place.run.root)


def exists(place: Place) -> None:
    place.run.root.mkdir()
    place.run.check(place.job(), resume=False)


def in_use(place: Place) -> None:
    with lock.held(place.folder / LOCK):
        lock.take(place.folder / LOCK)


def begun(place: Place) -> RunFolder:
    return invented_run(place.folder / "run", [(10.0, 0.8), (20.0, 0.9)]).folder


def finished(place: Place) -> None:
    place.run.root.mkdir()
    place.run.result.write_text(json.dumps({"candidates": 8}))
    _refuse_finished(place.job(budget=8), place.run)


def other_rate(place: Place) -> None:
    with place.run.claimed(place.job()):
        place.run.check(place.job(learning_rate=0.5), resume=True)


def changed(what: str) -> Callable[[Place], object]:
    def provoke(place: Place) -> None:
        place.run.root.mkdir()
        place.run.create(place.job(), {what: "0" * 64})
        place.run.create(place.job(), {what: "1" * 64})

    return provoke


def moved(place: Place) -> None:
    with place.run.claimed(place.job()):
        place.run.create(place.job(), {})
        check_inputs(place.run.stored_job(), resume=True)


def other_operator(place: Place) -> None:
    made = onnx_graphs.model([onnx_graphs.node("Det", "x", "y")], {})
    onnx_graphs.imported(made, (3, 8, 8))


def digits_beside(place: Place) -> None:
    (place.folder / "digits").mkdir()
    (place.folder / "digits" / "train.parquet").touch()
    open_dataset("digits")


def last_rows_of_folders(place: Place) -> None:
    labels = np.repeat(np.arange(10), 100)
    check_unseen(labels, 1000, np.arange(800, 1000), (*COLOURS, "grey", "brown"))


def repeated_test_table(place: Place) -> None:
    images = np.concatenate([PIXELS[:200], PIXELS[:50]])
    labels = np.concatenate([LABELS[:200], LABELS[:50]])
    hold_out(labels, 200, unseen=None, seed=0, copies=find_copies(images))


def limited(**limits: float) -> Callable[[Place], object]:
    return lambda _: Space(toy_spec(), HALVES, ThresholdReward(), Limits(**limits))


def without_ray(place: Place) -> None:
    place.patch.setattr(util, "find_spec", lambda _: None)
    needs_search("A search")


def stopped(place: Place) -> None:
    with packing.nothing_lost(begun(place)):
        fails()


REFUSED: dict[str, Callable[[Place], object]] = {
    "the output folder exists: got": exists,
    "the output folder exists, and a job": claim_again,
    "the run is in use": in_use,
    "there is no run": lambda place: place.run.stored_job(),
    "the run is finished": finished,
    "--resume cannot change": other_rate,
    "the teacher changed": changed("teacher"),
    "the data changed": changed("data"),
    "the run's teacher is not where": moved,
    "teacher … has no manifest": lambda place: read_json(place.folder / "t.onnx"),
    "is of an unsupported operator": other_operator,
    "the teacher's answers have nothing": lambda _: teacher(labels=RNG.permutation(LABELS)),
    "the class names of data": lambda _: fit_classes(table(("ant", "cow")), 2, ["ant", "bee"]),
    "the classes of data": lambda _: fit_classes(table(("un", "deux", "trois")), 2, ["one", "two"]),
    "data not found": lambda _: open_dataset("nowhere"),
    "two data sets": digits_beside,
    "the rows that the teacher has not seen": last_rows_of_folders,
    "is a copy of other rows": repeated_test_table,
    "'max_drop' of the job": lambda place: place.job(max_drop=1),
    "no student can be that small": limited(max_kb=0.001),
    "no student keeps these limits": limited(max_kb=0.001, max_macs=1),
    "the limit on the pair": lambda place: with_room(place.job(max_pair_kb=0.01)),
    "students learn nothing": lambda _: pilots(of_large=CHANCE),
    "needs packages": without_ray,
    "The job stopped": stopped,
}


@pytest.mark.parametrize("line", REFUSALS, ids=lambda line: line.said[:40])
def test_a_refusal_says_what_the_page_says(line: Line, place: Place) -> None:
    (provoke,) = (provoke for start, provoke in REFUSED.items() if line.said.startswith(start))
    with pytest.raises((BadInput, MissingExtra, Unfinished)) as caught:
        provoke(place)
    assert_said(line.said, str(caught.value))


def test_everything_that_is_provoked_is_on_the_page() -> None:
    assert set(PROVOKED) == {line.name for line in WARNINGS}
    for start in REFUSED:
        assert [line.said for line in REFUSALS if line.said.startswith(start)], start
