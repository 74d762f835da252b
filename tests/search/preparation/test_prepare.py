"""From a job to a search: five disjoint parts, thresholds from limits, the teacher asked once."""

from __future__ import annotations

import itertools
import pickle
from copy import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import search.preparation.prepared
from edge.errors import BadInput
from envs.reward import N2NReward, PaperReward, ThresholdReward, TimedReward
from search.execution.training_context import TrainingContext
from search.job.events import Event, Note, Progress
from search.job.run_folder import RunFolder
from search.job.spec import JobSpec
from search.pipeline import run, sampler_of
from search.preparation.prepare import check_names, prepare
from search.preparation.prepared import Prepared
from search.report.record import PARTS
from search.space.limits import Limits
from search.space.thresholds import limits_of, reward_of
from teachers.distillation.augment import AUGMENTS
from teachers.distillation.training import predict
from tests.search import jobs


def prepared(spec: JobSpec, trusted: bool = False) -> tuple[Prepared, list[Event]]:
    told: list[Event] = []
    steps = prepare(spec, RunFolder(spec.out), trusted)
    while True:
        try:
            told.append(next(steps))
        except StopIteration as end:
            found: Prepared = end.value
            return found, told


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return prepared(jobs.small_job(tmp_path_factory.mktemp("prepare") / "run"))[0]


def test_the_five_parts_share_no_row_and_cover_all(job: Prepared) -> None:
    rows = {part: set(getattr(job.parts, part).tolist()) for part in PARTS}
    assert list(rows) == ["distillation", "router", "validation", "calibration", "test"]
    for one, other in itertools.combinations(rows, 2):
        assert not rows[one] & rows[other], (one, other)
    assert set().union(*rows.values()) == set(range(1797))


def test_what_judges_the_pair_is_what_the_teacher_never_saw(job: Prepared) -> None:
    # the teacher's JSON says "last 900 rows" of 1,797
    assert job.parts.teacher_unseen
    for part in ("validation", "calibration", "test"):
        assert getattr(job.parts, part).min() >= 897
    for part in ("distillation", "router"):
        assert getattr(job.parts, part).max() < 897


def test_workers_are_given_distillation_and_validation_rows_alone(job: Prepared) -> None:
    room = job.training_context(proxy=False)
    np.testing.assert_array_equal(room.distillation_set.rows, job.parts.distillation)
    np.testing.assert_array_equal(
        room.distillation_set.labels, job.data.labels[job.parts.distillation]
    )
    np.testing.assert_array_equal(room.validation_set.rows, job.parts.validation)
    np.testing.assert_array_equal(room.validation_set.labels, job.data.labels[job.parts.validation])
    proxy = job.training_context(proxy=True).distillation_set
    assert len(proxy) == 400
    # rows, labels and answers are cut alike
    where = np.searchsorted(room.distillation_set.rows, proxy.rows)
    np.testing.assert_array_equal(proxy.rows, room.distillation_set.rows[where])
    answers = job.distillation_set.logits  # about images as they are: patches are for finalists
    np.testing.assert_array_equal(proxy.logits, answers[:, where])
    assert room.distillation_set.patches is not None
    assert proxy.patches is None
    np.testing.assert_array_equal(proxy.labels, room.distillation_set.labels[where])


def test_images_exist_once(job: Prepared) -> None:
    for proxy in (True, False):
        room = job.training_context(proxy)
        assert room.distillation_set.images is room.validation_set.images is job.data.images


def test_a_part_is_read_a_batch_at_a_time(job: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search.preparation.prepared, "BATCH_ROWS", 100)
    batches = list(job.inputs("validation"))
    assert [len(batch) for batch in batches] == [100, 100, 70]
    pixels = job.data.images[job.parts.validation]
    np.testing.assert_array_equal(np.concatenate(batches), jobs.GREY8.to_input(pixels))
    np.testing.assert_array_equal(job.labels("validation"), job.data.labels[job.parts.validation])


def test_thresholds_from_limits_worked_by_hand(tmp_path: Path) -> None:
    job = jobs.small_job(tmp_path / "run", target="balanced")
    limits = {"max_kb": 50.0, "max_drop": 0.02}
    # a teacher of 400 KB at 97 %: C0 = 1 − 50/400 = .875, A0 = .97 − .02 = .95
    reward = reward_of(job.model_copy(update=limits), teacher_kb=400, teacher_accuracy=0.97)
    assert isinstance(reward, ThresholdReward)
    assert [reward.c0, reward.a0] == pytest.approx([0.875, 0.95], abs=1e-12)
    assert (reward.alpha, reward.beta, reward.rho) == (20, 15, 0.1)

    # without a size limit C0 = .95; a drop of more than there is leaves 0
    loose = job.model_copy(update={"max_kb": None, "max_drop": 1.0})
    settings = reward_of(loose, 400, 0.97).settings
    assert (settings["c0"], settings["a0"]) == (0.95, 0.0)
    # a limit above the teacher's size asks for nothing
    assert reward_of(job.model_copy(update={"max_kb": 500.0}), 400, 0.97).settings["c0"] == 0
    # what the job names itself stands
    named = job.model_copy(update={"c0": 0.5, "a0": 0.6, "reward": "paper", "alpha": 1.0})
    assert reward_of(named, 400, 0.97) == PaperReward(alpha=1.0, beta=15.0, c0=0.5, a0=0.6)
    # a drop that nobody names bends the reward at one point, and is no limit
    silent = job.model_copy(update={"max_drop": None, "max_macs": 5e6})
    assert reward_of(silent, 400, 0.97).settings["a0"] == pytest.approx(0.96)
    assert limits_of(silent, 0.97) == Limits(max_kb=90, max_macs=5e6)
    assert limits_of(job.model_copy(update=limits), 0.97).min_accuracy == pytest.approx(0.95)
    # N2N knows the teacher alone; a latency factor multiplies it
    n2n = job.model_copy(update={"reward": "n2n", "gamma": 2.0, "max_ms": 4.0})
    assert reward_of(n2n, 400, 0.97) == TimedReward(N2NReward(0.97), 2.0, 4.0)
    assert reward_of(n2n.model_copy(update={"l0": 3.0}), 400, 0.97).settings["l0"] == 3


def test_the_thresholds_are_told(tmp_path: Path) -> None:
    found, told = prepared(jobs.small_job(tmp_path / "run", target="balanced"))
    note, plan = [event.text for event in told if isinstance(event, Note)]
    assert plan == str(found.plan)
    assert "target balanced" in note
    assert f"C0 {1 - 90 * 1024 / found.space.teacher_cost.bytes:.4f} (90 KB)" in note
    assert f"A0 {found.teacher_accuracy - 0.01:.4f}" in note
    assert f"on {len(found.parts.validation)} validation rows" in note


def test_the_teacher_is_asked_once(tmp_path: Path) -> None:
    spec = jobs.small_job(tmp_path / "run")
    first, told = prepared(spec)
    again, then = prepared(spec)
    assert any(isinstance(event, Progress) for event in told)
    assert not any(isinstance(event, Progress) for event in then)
    np.testing.assert_array_equal(again.distillation_set.logits, first.distillation_set.logits)
    assert again.teacher_accuracy == first.teacher_accuracy


def test_what_is_beyond_memory_is_mapped_and_gives_the_same_job(
    job: Prepared, tmp_path: Path
) -> None:
    spec = jobs.small_job(tmp_path / "run", memory_gb=1e-4)  # 100 KB; the digits take 115
    mapped, told = prepared(spec)
    assert any(isinstance(event, Note) and "more than" in event.text for event in told)
    assert mapped.data.file is not None
    assert mapped.data.file.missing() is None
    assert mapped.data.digest == job.data.digest
    np.testing.assert_array_equal(mapped.distillation_set.logits, job.distillation_set.logits)
    room: TrainingContext = pickle.loads(pickle.dumps(mapped.training_context(proxy=True)))  # noqa: S301
    np.testing.assert_array_equal(room.distillation_set.images, job.data.images)
    # on resumption there may be memory enough
    again, then = prepared(spec.model_copy(update={"memory_gb": None}))
    assert again.data.file is None
    assert not any(isinstance(event, Progress) for event in then)


def test_a_broken_image_beyond_memory_leaves_nothing_behind(tmp_path: Path) -> None:
    for label, row in itertools.product(range(10), range(12)):
        path = tmp_path / "data" / str(label) / f"{row:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8), 20 * row, np.uint8)).save(path)
    path.write_bytes(b"no image")  # the last of them; only the first are looked at beforehand
    spec = jobs.small_job(
        tmp_path / "run", data=str(tmp_path / "data"), memory_gb=0, teacher_unseen="none"
    )
    with pytest.raises(BadInput, match=r"9/11\.png"):
        list(run(spec))
    assert [found.name for found in tmp_path.iterdir()] == ["data"]


def test_views_are_answered_for_the_winner_alone(tmp_path: Path) -> None:
    found, _ = prepared(jobs.small_job(tmp_path / "run", views=2, precision="fp32", mix="none"))
    assert found.training_context(proxy=True).distillation_set.draws is None
    distillation_set = found.training_context(proxy=False).distillation_set
    assert distillation_set.draws is not None
    assert distillation_set.draws.shape == (2, len(distillation_set), 2)
    assert distillation_set.logits.shape == (2, len(distillation_set), 10)
    # the teacher saw what the student will see
    view = AUGMENTS["shift"].apply(
        distillation_set.images[distillation_set.rows], distillation_set.draws[1]
    )
    said = predict(found.teacher.module, view, jobs.GREY8).logits
    np.testing.assert_allclose(distillation_set.logits[1], said, atol=1e-5)
    assert (distillation_set.draws[0] != distillation_set.draws[1]).any()


def test_views_need_an_augmentation(tmp_path: Path) -> None:
    spec = jobs.small_job(tmp_path / "run", views=2, augment="none")
    with pytest.raises(BadInput, match="views 2, augment none; expected .*shift, flip_shift"):
        check_names(spec)


def test_nobody_says_what_the_teacher_never_saw(tmp_path: Path) -> None:
    found, told = prepared(jobs.small_job(tmp_path / "run", teacher_unseen="none"))
    assert not found.parts.teacher_unseen
    warnings = [event.text for event in told if isinstance(event, Note) and event.warning]
    assert len(warnings) == 1
    assert "--teacher-unseen" in warnings[0]


def test_changed_inputs_are_noticed(tmp_path: Path) -> None:
    spec = jobs.small_job(tmp_path / "run")
    folder = RunFolder(spec.out)
    folder.create(spec, {"teacher": "1" * 64, "data": "2" * 64})
    with pytest.raises(BadInput, match="the teacher changed since the run began"):
        folder.create(spec, {"teacher": "3" * 64, "data": "2" * 64})


def test_what_cannot_be_reached_is_refused_before_a_folder_is_made(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no student can be that small"):
        prepared(jobs.small_job(tmp_path / "run", max_kb=0.01))
    assert not (tmp_path / "run").exists()


def test_protected_layers_and_the_criterion_reach_the_search(tmp_path: Path) -> None:
    spec = jobs.small_job(tmp_path / "run", protect=("conv2", "fc"), criterion="bn_scale")
    found, _ = prepared(spec)
    assert [layer.node for layer in found.space.layers] == [
        "conv1", "conv2", "conv3", "conv4", "fc",
    ]  # fmt: skip
    # one action, the last one, which keeps the layer
    legal = found.space.masks.sum(axis=1)
    assert legal.tolist() == [18, 1, 18, 18, 1]
    assert found.space.masks[:, -1].tolist() == [1] * 5
    for proxy in (True, False):
        assert found.training_context(proxy).criterion == "bn_scale"
        assert found.training_context(proxy).moves.protect == ("conv2", "fc")


def test_a_pattern_that_protects_nothing_is_refused_before_a_folder_is_made(
    tmp_path: Path,
) -> None:
    with pytest.raises(BadInput, match="matches no layer: got 'conv9'; expected .*conv1, conv2"):
        prepared(jobs.small_job(tmp_path / "run", protect=("conv1", "conv9")))
    assert not (tmp_path / "run").exists()


def test_a_teacher_from_a_function_is_for_those_who_trust_it(tmp_path: Path) -> None:
    spec = jobs.small_job(tmp_path / "run", teacher="tests.search.factories:digits")
    with pytest.raises(BadInput, match="runs that code"):
        prepared(spec)
    found, _ = prepared(spec, trusted=True)
    assert found.teacher.name == "digits"
    assert found.parts.teacher_unseen


def test_what_is_left_out_of_a_teacher_is_told(tmp_path: Path) -> None:
    spec = jobs.small_job(tmp_path / "run", teacher="tests.search.factories:digit_probabilities")
    _, told = prepared(spec, trusted=True)
    notes = [event.text for event in told if isinstance(event, Note)]
    assert any("softmax" in note for note in notes)


def test_a_run_goes_on_under_its_own_terms(tmp_path: Path) -> None:
    spec = jobs.small_job(tmp_path / "run")
    folder = RunFolder(spec.out)
    folder.create(spec, {})
    assert folder.stored_job() == spec
    folder.check(spec.model_copy(update={"budget": 99, "workers": 1}), resume=True)
    with pytest.raises(BadInput, match="--resume cannot change 'seed'") as caught:
        folder.check(spec.model_copy(update={"seed": 7}), resume=True)
    assert caught.value.value == 7
    with pytest.raises(BadInput, match="the output folder exists"):
        folder.check(spec, resume=False)


def test_images_of_another_size_are_resized_on_request(tmp_path: Path) -> None:
    found, _ = prepared(jobs.small_job(tmp_path / "run", resize=True))
    assert found.teacher.manifest.preprocess == replace(jobs.GREY8, resize=True)


def test_a_job_s_sampler_may_probe_its_students(job: Prepared) -> None:
    space, room = copy(job.space), job.training_context(proxy=True)
    for probes in (0, 3):
        spec = job.spec.model_copy(update={"sampler": "model-based", "probes": probes})
        sampler_of(spec, space, room)
        assert (space.probe is not None) == bool(probes)
    assert space.probe is not None
    (promise,) = space.probe(np.array([space.smallest]))
    assert 0 <= promise < 1
