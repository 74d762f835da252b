"""The whole path on real data: what ships is what was measured, and can be rebuilt alone."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file

from edge.bundle import load_bundle
from edge.errors import BadInput
from edge.runtime import EdgeRuntime, OnnxTeacher
from edge.session import Session
from envs.compression.cost import cost
from envs.compression.surgery import load
from envs.graph.check import parse_netspec
from routers.models.scores import SCORES
from routers.ranking.ranking import Ranking, fit_and_rank
from search import pipeline
from search.job.events import CandidateDone, Event, Finished, Stage
from search.job.run_folder import RunFolder
from search.job.spec import make_spec
from search.ledger.ledger import Ledger
from search.packaging import package
from search.preparation.prepared import Prepared
from search.report.record import PARTS
from teachers.data.datasets import load_dataset
from teachers.data.splits import hold_out, parse_unseen
from teachers.two_head.two_head import answer, from_bytes
from tests.search import jobs
from tests.search.jobs import FinishedJob
from tests.search.ledger.test_ledger import record


@pytest.fixture(scope="module")
def job() -> FinishedJob:
    return jobs.finished_job()


@pytest.fixture(scope="module")
def test_rows(job: FinishedJob) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    data = load_dataset("digits", jobs.GREY8)
    unseen = parse_unseen(f"last {jobs.UNSEEN}", data.train_rows)
    held = hold_out(data.labels, data.train_rows, unseen=unseen, seed=job.spec.seed)
    return data.images[held.test], data.labels[held.test]


def test_the_stages_come_in_order(job: FinishedJob) -> None:
    stages = [event.name for event in job.events if isinstance(event, Stage)]
    # plain students are trained before the search, and the others of the last round after it
    first, then = ["prepare", "pilots", "train"], ["search", "train", "package", "routers", "test"]
    assert stages == first + then
    done = [event for event in job.events if isinstance(event, CandidateDone)]
    assert [event.number for event in done] == list(range(1, job.spec.budget + 1))
    # the search finds its first two answered: a budget of 8 has room for two plain students
    assert [event.replayed for event in done] == [True] * 2 + [False] * 6
    assert not any(event.reason for event in done)


def test_everything_is_in_its_place(job: FinishedJob) -> None:
    for name in (
        "bundle/manifest.json",
        "bundle/pair.onnx",
        "bundle/student.onnx",
        "bundle/router.onnx",
        "bundle/student.safetensors",
        "bundle/netspec.json",
        "bundle/MODEL_CARD.md",
        "cloud/teacher.onnx",
        "report.html",
        "result.json",
        "ledger.journal",
        "search.safetensors",
        "job.yaml",
    ):
        assert (job.out / name).is_file(), name
    # nothing half-written
    assert not [path for path in job.out.rglob("*") if ".part" in path.name]
    assert json.loads((job.out / "result.json").read_text()) == job.result


def test_the_student_keeps_the_limit_in_what_ships(job: FinishedJob) -> None:
    weights = load_file(job.out / "bundle" / "student.safetensors")
    kb = sum(value.nbytes for value in weights.values()) / 1024
    spec = parse_netspec((job.out / "bundle" / "netspec.json").read_text())
    assert kb == cost(spec).kb == job.result["student"]["kb"]
    assert job.spec.max_kb is not None
    assert kb <= job.spec.max_kb < job.result["teacher"]["kb"] / 4


def test_the_finalists_are_the_best_candidates_and_the_best_of_them_ships(
    job: FinishedJob,
) -> None:
    done = [event for event in job.events if isinstance(event, CandidateDone)]
    plain = {event.key for event in done if event.replayed}
    searched = [event for event in done if event.key not in plain]
    best = sorted(searched, key=lambda event: -event.reward)[: job.spec.finalists]
    finalists = job.result["finalists"]
    assert {row["key"] for row in finalists} == plain | {event.key for event in best}
    assert {row["origin"] for row in finalists} == {"uniform", "largest", "search"}
    assert job.result["student"]["kb"] == finalists[0]["kb"]
    # the target is accuracy: the most accurate on validation ships
    assert finalists[0]["accuracy"] == max(row["accuracy"] for row in finalists)
    for row in finalists:
        low, high = row["expected_interval"]
        assert low <= row["expected"] <= high


def test_the_figures_are_those_of_the_files_that_ship(
    job: FinishedJob, test_rows: tuple[NDArray[np.uint8], NDArray[np.int64]]
) -> None:
    images, labels = test_rows
    bundle = load_bundle(job.out / "bundle")
    runtime = EdgeRuntime(bundle)
    teacher = OnnxTeacher(job.out / "cloud" / "teacher.onnx", bundle.manifest.preprocess, 10)
    answers = runtime.answer(images, teacher)
    student = np.array([answer.decision.label for answer in answers]) == labels
    pair = np.array([answer.label for answer in answers]) == labels
    appealed = np.array([not answer.decision.trusted for answer in answers])
    alone = teacher(bundle.manifest.preprocess.to_input(images)).argmax(1) == labels

    assert job.result["student"]["accuracy"] == pytest.approx(student.mean(), abs=1e-12)
    assert job.result["teacher"]["accuracy"] == pytest.approx(alone.mean(), abs=1e-12)
    assert job.result["pair"]["accuracy"] == pytest.approx(pair.mean(), abs=1e-12)
    assert job.result["pair"]["appeals"] == pytest.approx(appealed.mean(), abs=1e-12)
    assert job.result["pair"]["threshold"] == bundle.manifest.threshold
    assert job.result["rows"]["test"] == len(labels) == 360
    # sane: it has learnt something, and appealing is worth it
    assert student.mean() > 0.8
    assert pair.mean() >= student.mean()


def test_the_threshold_is_fixed_on_the_calibration_rows_that_ship(job: FinishedJob) -> None:
    manifest = load_bundle(job.out / "bundle").manifest
    scores = np.array(manifest.calibration.score)
    assert len(scores) == job.result["rows"]["calibration"]
    share, budget = float((scores < manifest.threshold).mean()), job.spec.appeals
    assert budget is not None
    assert manifest.goal == {"appeals": budget}
    assert share <= budget
    assert share == pytest.approx(job.result["figures"]["calibration.appeals"]["value"], abs=1e-12)
    # the largest such threshold: with any score above it the budget would be broken
    higher = scores[scores >= manifest.threshold].min()
    assert float((scores <= higher).mean()) > budget or share == 0


def test_a_student_is_rebuilt_from_the_bundle_alone(
    job: FinishedJob, test_rows: tuple[NDArray[np.uint8], NDArray[np.int64]]
) -> None:
    bundle = load_bundle(job.out / "bundle")
    spec = parse_netspec(bundle.read("netspec.json").decode())
    weights = load_file(job.out / "bundle" / "student.safetensors")
    module = load(spec, {name: torch.from_numpy(value) for name, value in weights.items()}).eval()
    images = test_rows[0][:64]
    with torch.no_grad():
        rebuilt = module(torch.from_numpy(bundle.manifest.preprocess.to_input(images))).numpy()
    shipped = Session(bundle.read("student.onnx"), "student.onnx")
    inputs = bundle.manifest.preprocess.to_input(images)
    np.testing.assert_allclose(rebuilt, shipped.run(inputs, "logits", (10,)), atol=1e-4)


REBUILD = """
import sys
import numpy as np, torch
from pathlib import Path
from safetensors.torch import load
from edge.bundle import load_bundle
from edge.session import Session
from envs.export.export import to_onnx
from envs.graph.check import parse_netspec
from envs.compression.surgery import load as rebuild

bundle = load_bundle(sys.argv[1])
spec = parse_netspec(bundle.read("netspec.json").decode())
student = rebuild(spec, load(bundle.read("student.safetensors")))
images = np.random.default_rng(0).normal(size=(64, *spec.input_shape)).astype(np.float32)

def said(model):
    return Session(model, "student").run(images, "logits", (spec.classes,))

with torch.no_grad():
    found = student.eval()(torch.from_numpy(images)).numpy()
np.testing.assert_allclose(found, said(bundle.read("student.onnx")), atol=1e-4)

labels = torch.from_numpy(found.argmax(1) * 0)
optimiser = torch.optim.SGD(student.train().parameters(), lr=0.01)
for rows in torch.arange(64).split(16):
    optimiser.zero_grad()
    loss = torch.nn.functional.cross_entropy(student(torch.from_numpy(images)[rows]), labels[rows])
    loss.backward()
    optimiser.step()
again = said(to_onnx(student, spec.input_shape))
with torch.no_grad():
    found = student.eval()(torch.from_numpy(images)).numpy()
np.testing.assert_allclose(found, again, atol=1e-4)
print("moved", float(np.abs(again - said(bundle.read("student.onnx"))).max()))
"""


def test_another_process_trains_it_on_from_the_bundle_alone(
    job: FinishedJob, tmp_path: Path
) -> None:
    shutil.copytree(job.out / "bundle", tmp_path / "bundle")
    done = subprocess.run(
        [sys.executable, "-c", REBUILD, str(tmp_path / "bundle")],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[1]) > 0.01


def test_the_graph_that_ships_decides_as_its_parts_do(
    job: FinishedJob, test_rows: tuple[NDArray[np.uint8], NDArray[np.int64]]
) -> None:
    bundle = load_bundle(job.out / "bundle")
    manifest = bundle.manifest
    student, router = (
        Session(bundle.read(info.file), info.file) for info in (manifest.student, manifest.router)
    )
    logits = student.run(manifest.preprocess.to_input(test_rows[0]), "logits", (10,))
    scores = router.run(logits, "score", ()).astype(np.float64)

    decisions = EdgeRuntime(bundle).decide(test_rows[0])
    assert [decision.label for decision in decisions] == logits.argmax(1).tolist()
    trusted = [decision.trusted for decision in decisions]
    assert trusted == (scores >= manifest.threshold).tolist()


def test_a_finished_run_is_packed_again_with_another_router_and_goal(
    job: FinishedJob, tmp_path: Path
) -> None:
    shutil.copytree(job.out, tmp_path / "run")
    (tmp_path / "run" / "bundle" / "notes.txt").write_text("tried on the porch camera")
    asked = {"out": str(tmp_path / "run"), "families": (), "appeals": None, "accuracy": 0.9}
    spec = make_spec(job.spec.model_dump() | asked)

    events = list(pipeline.run(spec, resume=True, again=True))

    stages = [event.name for event in events if isinstance(event, Stage)]
    assert stages == ["prepare", "train", "package", "routers", "test"]
    assert "was trained before" in next(
        event.detail for event in events if isinstance(event, Stage) and event.name == "train"
    )
    before, after = (load_bundle(out / "bundle") for out in (job.out, tmp_path / "run"))
    assert after.manifest.goal == {"accuracy": 0.9}
    assert after.manifest.figures["calibration.pair_accuracy"].value >= 0.9  # type: ignore[operator]
    assert after.read("student.onnx") == before.read("student.onnx")
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["pair"]["threshold"] == after.manifest.threshold
    assert result["candidates"] == job.result["candidates"]
    assert result["student"]["accuracy"] == job.result["student"]["accuracy"]
    # the job had opened the test part once
    assert [e.detail for e in events if isinstance(e, Stage)][-1] == "360 rows, seen 2 times"
    assert (job.result["test_seen"], result["test_seen"]) == (1, 2)
    assert "seen 2 times" in result["caveats"][-1]
    assert not any("seen" in caveat for caveat in job.result["caveats"])
    # what somebody put beside the bundle's files is still there
    assert (tmp_path / "run" / "bundle" / "notes.txt").read_text() == "tried on the porch camera"


def test_another_router_is_put_beside_the_first(job: FinishedJob, tmp_path: Path) -> None:
    root = tmp_path / "run"
    shutil.copytree(job.out, root)
    names = ("job.yaml", "result.json", "report.html", "bundle/manifest.json", "bundle/pair.onnx")
    before = {name: (root / name).read_bytes() for name in names}
    asked = {"out": str(root), "families": (), "appeals": 0.4}
    spec = make_spec(job.spec.model_dump() | asked)
    for number in (2, 3):
        *_, last = pipeline.run(spec, resume=True, again=True, beside=True)
        assert isinstance(last, Finished)
        assert last.result["bundle"] == str(root / f"bundle-{number}")
        assert last.result["test_seen"] == number
        assert load_bundle(root / f"bundle-{number}").manifest.goal == {"appeals": 0.4}
        assert json.loads((root / f"result-{number}.json").read_text()) == last.result
        assert (root / f"report-{number}.html").is_file()
        assert "appeals: 0.4" in (root / f"job-{number}.yaml").read_text()
    assert {name: (root / name).read_bytes() for name in names} == before


def test_the_bundle_says_what_an_appeal_costs(job: FinishedJob) -> None:
    manifest = load_bundle(job.out / "bundle").manifest
    assert manifest.teacher.macs == job.result["teacher"]["macs"] > manifest.student.macs


def test_the_result_ranks_every_router_on_the_validation_part(job: FinishedJob) -> None:
    ranking = job.result["ranking"]
    names = [row["name"] for row in ranking["routers"]]
    assert names[0] == job.result["router"]["name"]
    assert sorted(names) == sorted([*SCORES, *job.spec.families])
    for row in ranking["routers"]:
        if row["reason"]:
            assert "area" not in row
        else:
            assert ranking["oracle_area"] >= row["area"] >= row["area_low"]
            assert row["accuracy_at_10"] <= 1


def test_a_head_of_the_students_own_ships_inside_its_graph(
    job: FinishedJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def head_wins(*arguments: Any, **options: Any) -> Ranking:
        ranked = fit_and_rank(*arguments, **options)
        (head,) = [row for row in ranked.rows if row.kind == "head"]
        assert 0 < head.area <= ranked.oracle_area
        return replace(ranked, winner=head)

    monkeypatch.setattr(package, "fit_and_rank", head_wins)
    shutil.copytree(job.out, tmp_path / "run")
    asked = {"out": str(tmp_path / "run"), "families": (), "two_head": "frozen"}
    spec = make_spec(job.spec.model_dump() | asked)
    assert list(pipeline.run(spec, resume=True, again=True))

    bundle = load_bundle(tmp_path / "run" / "bundle")
    router = bundle.manifest.router
    assert (router.name, router.kind, router.input) == ("two_head", "head", "builtin")
    assert router.file == "student.onnx"
    assert "router.onnx" not in bundle.manifest.files
    # the trunk was frozen, so the student answers as it did; the score is its own
    images = np.zeros((3, 8, 8, 1), np.uint8)
    inputs = bundle.manifest.preprocess.to_input(images)
    before = Session(load_bundle(job.out / "bundle").read("student.onnx"), "before")
    graph = Session(bundle.read("student.onnx"), "after")
    expected = before.run(inputs, "logits", (10,))
    np.testing.assert_allclose(graph.run(inputs, "logits", (10,)), expected, atol=1e-5)
    score = graph.run(inputs, "score", ())
    decisions = EdgeRuntime(bundle).decide(images)
    assert [decision.score for decision in decisions] == pytest.approx(score.tolist())
    assert [d.trusted for d in decisions] == (score >= bundle.manifest.threshold).tolist()
    spec_of = parse_netspec(bundle.read("netspec.json").decode())
    rebuilt = from_bytes(spec_of, bundle.read("two_head.safetensors"))
    found = answer(rebuilt, images, bundle.manifest.preprocess)
    np.testing.assert_allclose(found.score, score, atol=1e-5)


def test_every_figure_names_its_part(job: FinishedJob) -> None:
    manifest = load_bundle(job.out / "bundle").manifest
    assert set(job.result["figures"]) == set(manifest.figures)
    assert job.result["part"] == "test"
    for name, figure in manifest.figures.items():
        part, _, what = name.partition(".")
        assert what
        assert figure.part == part
        assert part in PARTS
        assert figure.rows == job.result["rows"][part]
        assert job.result["figures"][name]["part"] == part
    card = (job.out / "bundle" / "MODEL_CARD.md").read_text()
    (head,) = [line for line in card.splitlines() if line.startswith("| figure |")]
    columns = [cell.strip() for cell in head.strip("|").split("|")][1:]
    assert columns == ["validation", "calibration", "test"]
    row = next(line for line in card.splitlines() if line.startswith("| Student alone |"))
    cells = [cell.strip() for cell in row.strip("|").split("|")][1:]
    assert cells == [f"{manifest.figures[f'{p}.student_accuracy'].value:.2%}" for p in columns]


def test_the_report_is_one_page_with_the_figures(job: FinishedJob) -> None:
    page = (job.out / "report.html").read_text()
    assert page.count("<svg") >= 5
    assert "http-equiv" not in page
    assert "<script" not in page
    for owner in ("student", "pair"):
        assert f"{100 * job.result[owner]['accuracy']:.2f}" in page


def test_a_finished_run_is_not_run_again(job: FinishedJob) -> None:
    with pytest.raises(BadInput, match="the run is finished"):
        next(pipeline.run(job.spec, resume=True))


def test_what_was_paid_for_survives_a_later_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is full when the bundle is written must not cost the whole search."""

    def fails_late(prepared: Prepared, folder: RunFolder, *_: object) -> Iterator[Event]:
        layers = [layer.node for layer in prepared.space.layers]
        with Ledger(folder.ledger, layers[:3], prepared.moves.pool) as ledger:
            ledger.add(record(1))
        yield Stage("package")
        raise BadInput("disk full", value="0 bytes", bound="some", remedy="Make room.")

    def fails_early(prepared: Prepared, folder: RunFolder, *_: object) -> Iterator[Event]:
        with Ledger(folder.ledger, ["one"], prepared.moves.pool):
            yield Stage("search")
            raise BadInput("no Ray", value="auto", bound="a cluster", remedy="Start one.")

    for work, survives in ((fails_late, True), (fails_early, False)):
        out = tmp_path / work.__name__
        monkeypatch.setattr(pipeline, "_work", work)
        with pytest.raises(BadInput, match="disk full|no Ray"):
            list(pipeline.run(jobs.small_job(out)))
        assert out.exists() is survives
