"""The comparison with peers: sizes are equal, words follow from figures, nothing is done twice."""

from __future__ import annotations

import json
from argparse import ArgumentTypeError
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks import peers
from benchmarks.rivals import sizing, verdict
from benchmarks.rivals.searching import Alone
from benchmarks.rivals.study import Plan
from envs.compression.cost import cost
from envs.compression.moves import Moves
from envs.compression.resolve import compress
from envs.compression.surgery import Inheritance, build
from envs.graph.netspec import NetSpec
from envs.gym.toy import toy_spec
from search.execution.evaluation import Job
from search.execution.worker import Step


@pytest.fixture(scope="module")
def toy() -> NetSpec:
    return toy_spec()


@pytest.fixture(scope="module")
def teacher(toy: NetSpec) -> nn.Module:
    torch.manual_seed(0)
    return build(toy).eval()


@pytest.fixture(scope="module")
def inheritance(toy: NetSpec, teacher: nn.Module) -> Inheritance:
    return Inheritance.of(toy, teacher.state_dict())


class TestLargest:
    """KB in whole numbers, as widths are."""

    def test_it_is_the_largest_that_keeps_the_limit(self) -> None:
        factor = sizing.largest(lambda f: int(100 * f), 37.5, 0.01, 1.0)
        # 37 KB are kept up to the factor .38
        assert 0.38 - 1e-4 < factor < 0.38

    def test_all_is_taken_where_all_fits(self) -> None:
        assert sizing.largest(lambda f: 100 * f, 100, 0.01, 1.0) == 1

    def test_a_pruner_that_gives_up_far_below_does_not_mislead(self) -> None:
        # below a fifth it leaves everything as it is; halving [.01, 1] would never look at .25
        def kb_of(share: float) -> float:
            return 100 * share if share > 0.2 else 100

        assert sizing.largest(kb_of, 24, 0.01, 1.0) == pytest.approx(0.24, abs=1e-4)

    def test_a_size_that_nothing_keeps_is_an_error(self) -> None:
        with pytest.raises(ValueError, match=r"no factor from 0.5 to 1 gives 10.0 KB"):
            sizing.largest(lambda f: 100 * f, 10, 0.5, 1.0)


class TestSizes:
    @pytest.mark.parametrize("ratio", [1.5, 4, 20])
    def test_no_uniform_student_lies_between_ours_and_the_limit(
        self, toy: NetSpec, inheritance: Inheritance, ratio: float
    ) -> None:
        limit = cost(toy).kb / ratio
        found = sizing.uniform(inheritance, limit)
        # widths of 10 and 20 change at odd fortieths: these are all uniform students there are
        every = [cost(sizing.scaled(toy, [1.0] * 5, step / 80).spec).kb for step in range(1, 81)]
        assert found.cost.kb == max(kb for kb in every if kb <= limit)
        assert found.module(torch.zeros(1, *toy.input_shape)).shape == (1, 2)

    def test_a_factor_of_one_leaves_a_found_shape_as_it_was(self, toy: NetSpec) -> None:
        moves = Moves((0.0, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0), "o")
        # stem .4, inner removed, outer kept (the stem sets its width), down .1, head kept
        actions = (4, 0, 7, 2, 7)
        shape = [moves.pool[action] for action in actions]
        found = sizing.scaled(toy, shape, 1.0)
        assert found.spec.to_json() == compress(toy, moves, actions).spec.to_json()

    def test_a_shape_is_widened_up_to_the_limit_and_keeps_its_form(
        self, toy: NetSpec, inheritance: Inheritance
    ) -> None:
        # 4 channels, inner removed, 1 channel; twice as wide: 8 and 2
        shape = [0.4, 0.0, 1.0, 0.1, 1.0]
        limit = cost(sizing.scaled(toy, shape, 2.0).spec).kb
        wide = sizing.widened(inheritance, shape, limit)
        widths = {node.name: node.shape[0] for node in wide.spec.nodes}
        assert "inner" not in widths
        assert (widths["stem"], widths["down"], widths["head"]) == (8, 2, 2)
        assert wide.cost.kb == limit

    def test_what_cannot_grow_any_more_stays_below_the_limit(
        self, toy: NetSpec, inheritance: Inheritance
    ) -> None:
        shape = [1.0, 0.0, 1.0, 1.0, 1.0]
        wide = sizing.widened(inheritance, shape, cost(toy).kb)
        assert wide.factor == 1
        assert wide.cost == cost(sizing.scaled(toy, shape, 1.0).spec)
        assert wide.cost.kb < cost(toy).kb

    @pytest.mark.parametrize("everywhere", [False, True])
    def test_torch_pruning_keeps_the_limit_the_classes_and_the_weights(
        self,
        toy: NetSpec,
        teacher: nn.Module,
        everywhere: bool,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        pytest.importorskip("torch_pruning")
        monkeypatch.setattr(sizing, "HALVINGS", 4)  # enough for layers of 20 channels
        limit = cost(toy).kb / 2
        found = sizing.pruned(toy, teacher, limit, everywhere)
        assert 0.8 * limit < found.cost.kb <= limit
        assert found.spec.classes == 2
        kept, theirs = (
            module.get_submodule("stem").state_dict()["weight"].numpy()
            for module in (found.module, teacher)
        )
        assert len(kept) < len(theirs) == 10
        assert all((theirs == one).all((1, 2, 3)).any() for one in kept)


class TestWords:
    """Three seeds: t = 4.3027, so an interval reaches 4.3027 · s / √3 = 2.4841 s to each side."""

    @pytest.mark.parametrize(
        ("leads", "low", "high", "word"),
        [
            ([0.01, 0.02, 0.03], -0.004841, 0.044841, "tied"),
            ([0.019, 0.02, 0.021], 0.017516, 0.022484, "won"),
            ([-0.019, -0.02, -0.021], -0.022484, -0.017516, "lost"),
        ],
    )
    def test_the_interval_decides(
        self, leads: list[float], low: float, high: float, word: str
    ) -> None:
        found = verdict.interval(leads)
        assert found == pytest.approx((np.mean(leads), low, high), abs=1e-6)
        assert verdict.word(found) == word

    def test_one_seed_decides_nothing(self) -> None:
        assert verdict.word(verdict.interval([0.5])) == "undecided"


def row(way: str, seed: int, test: float, **changed: Any) -> dict[str, Any]:
    """A finished training at 50 times fewer KB."""
    return {
        "data": "mnist",
        "ratio": 50.0,
        "seed": seed,
        "way": way,
        "setting": Plan(100, 2, 10, Path("x")).setting(way),
        "limit_kb": 100.0,
        "kb": 99.0,
        "macs": 10**6,
        "factor": 1.0,
        "validation": test,
        "test": test,
        "reason": "",
        "teacher_test": 0.99,
        "seconds": 1.0,
    } | changed


class TestReport:
    ROWS = (
        row("uniform", 1, 0.94),
        row("uniform", 0, 0.92),
        row("uniform", 2, 0.80),
        # 4 % too small on one seed
        row("torch-pruning", 0, 0.90, kb=96.0),
        row("torch-pruning", 1, 0.90),
        row("searched", 0, 0.91, factor=1.25),
        row("searched", 1, 0.93),
        row("as-found", 0, 0.5, kb=60.0),
    )

    def entries(self) -> dict[str, dict[str, Any]]:
        return {entry["way"]: entry for entry in verdict.compare(self.ROWS)}

    def test_a_loss_is_called_a_loss(self) -> None:
        uniform = self.entries()["uniform"]
        # a point behind on both seeds that ours has, though ahead of the mean over all three
        assert uniform["ours_less_theirs"] == pytest.approx(-0.01)
        assert (uniform["pairs"], uniform["verdict"]) == (2, "lost")
        assert uniform["seeds"] == 3
        assert uniform["accuracy"] == pytest.approx((0.92 + 0.94 + 0.80) / 3, abs=1e-6)
        told = "\n".join(verdict.lines(verdict.compare(self.ROWS)))
        assert "  lost" in told
        assert "2 comparisons of ours with a rival: 1 lost, 1 tied" in told

    def test_sizes_that_are_not_equal_are_said(self) -> None:
        entries = self.entries()
        assert entries["torch-pruning"]["kb"] == [96, 99]
        assert entries["torch-pruning"]["notes"] == ["up to 4% below the limit"]
        assert entries["uniform"]["notes"] == []
        assert entries["searched"]["notes"] == ["found, then widened by 1.25, 1.00"]

    def test_our_own_rows_have_no_verdict(self) -> None:
        entries = self.entries()
        assert list(entries) == ["searched", "as-found", "uniform", "torch-pruning"]
        assert "verdict" not in entries["searched"]
        assert "verdict" not in entries["as-found"]

    def test_what_diverged_counts_and_is_said(self) -> None:
        (entry,) = verdict.compare([row("uniform", 0, 0.0, reason="Diverged: a loss")])
        assert entry["accuracy"] == 0
        assert entry["notes"] == ["1 diverged, which counts as 0"]


class TestResuming:
    PLAN = Plan(100, 2, 10, Path("x"))

    def left(self, done: list[dict[str, Any]]) -> list[tuple[float, int, str]]:
        ways = ["searched", "uniform"]
        tasks = peers.tasks(self.PLAN, ["mnist"], [5.0, 50.0], [0, 1], ways, done)
        return [(task.ratio, task.seed, task.way) for task in tasks]

    def test_small_students_come_first_and_a_seed_is_done_at_once(self) -> None:
        assert self.left([]) == [
            (ratio, seed, way)
            for ratio in (50, 5)
            for seed in (0, 1)
            for way in ("searched", "uniform")
        ]

    def test_what_is_done_is_not_done_again(self) -> None:
        done = [row("searched", 0, 0.9), row("as-found", 0, 0.9), row("uniform", 1, 0.9)]
        assert self.left(done)[:2] == [(50, 0, "uniform"), (50, 1, "searched")]
        assert len(self.left(done)) == 6

    def test_another_training_is_another_student(self) -> None:
        longer = [row("uniform", 0, 0.9, setting="100 rows x 3 epochs")]
        assert len(self.left(longer)) == 8

    def test_a_larger_budget_leaves_the_rivals_as_they_are(self) -> None:
        larger = Plan(100, 2, 20, Path("x"))
        assert larger.setting("uniform") == self.PLAN.setting("uniform")
        assert larger.setting("searched") != self.PLAN.setting("searched")

    def test_options_make_another_training(self) -> None:
        def setting(way: str, *options: tuple[str, Any]) -> str:
            return Plan(100, 2, 10, Path("x"), options).setting(way)

        assert setting("uniform", ("gpus", 0.1)) == setting("uniform")
        assert setting("uniform", ("proxy_rows", 9)) == setting("uniform")
        assert setting("searched", ("proxy_rows", 9)) != setting("searched")
        assert setting("uniform", ("probes", 0)) == setting("uniform")
        assert setting("searched", ("probes", 0)) != setting("searched")
        one, other = ("augment", "none"), ("loss", "none")
        assert setting("uniform", one, other) == setting("uniform", other, one)
        assert setting("uniform", ("augment", "none")) != setting("uniform")
        assert setting("uniform", ("sampler", "gp")) == setting("uniform")
        assert setting("searched", ("sampler", "gp")) != setting("searched")
        assert peers._option("augment=flip_shift") == ("augment", "flip_shift")
        assert peers._option("gpus=.1") == ("gpus", 0.1)
        assert peers._option("pool=[0, 1]") == ("pool", (0, 1))
        with pytest.raises(ArgumentTypeError, match="budget follows"):
            peers._option("budget=3")

    def test_a_torn_line_is_none(self, tmp_path: Path) -> None:
        file = tmp_path / "trained.jsonl"
        whole = json.dumps(row("uniform", 0, 0.9))
        file.write_text(whole + "\n" + whole[:30])
        assert peers.finished(file) == [json.loads(whole)]
        assert peers.finished(tmp_path / "none") == []


class Fake:
    """A trainer whose candidates need two epochs; that of actions (0,) fails.

    Attributes:
        examined: epochs after which somebody looked.
        closed: trainings that were let go.
    """

    def __init__(self) -> None:
        self.examined: list[int] = []
        self.closed = 0

    def begin(self, actions: tuple[int, ...], state: bytes | None) -> FakeTraining:
        return FakeTraining(self, actions, 0 if state is None else int(state))


class FakeTraining:
    def __init__(self, owner: Fake, actions: tuple[int, ...], done: int) -> None:
        self.owner, self.actions, self.done = owner, actions, done

    def epoch(self, examine: bool) -> Step:
        if self.actions == (0,):
            raise RuntimeError("no")
        self.done += 1
        if examine:
            self.owner.examined.append(self.done)
        return Step(
            self.done, 2, 0.1, self.done / 10 if examine else None, 1.0, done=self.done == 2
        )

    def save(self) -> bytes:
        return str(self.done).encode()

    def weights(self) -> dict[str, Any]:
        raise NotImplementedError

    def close(self) -> None:
        self.owner.closed += 1


class TestAlone:
    def test_a_candidate_that_fails_does_not_end_the_search(self) -> None:
        fake = Fake()
        evaluator = Alone(fake)
        for actions in ((0,), (1,)):
            evaluator.submit(Job(actions, 2))
        failed, trained = evaluator.wait(), evaluator.wait()
        assert failed is not None
        assert trained is not None
        assert (failed.actions, failed.reason) == ((0,), "RuntimeError: no")
        assert (trained.accuracy, trained.epochs, trained.state) == (0.2, 2, None)
        assert evaluator.wait() is None
        assert (fake.examined, fake.closed) == ([2], 2)

    def test_a_pilot_pauses_and_goes_on(self) -> None:
        fake = Fake()
        evaluator = Alone(fake)
        evaluator.submit(Job((1,), 1))
        first = evaluator.wait()
        assert first is not None
        assert (first.accuracy, first.epochs) == (0.1, 1)
        evaluator.submit(Job((1,), 2, first.state))
        last = evaluator.wait()
        assert last is not None
        assert (last.accuracy, last.epochs, last.state) == (0.2, 2, None)
        assert (fake.examined, fake.closed) == ([1, 2], 2)
