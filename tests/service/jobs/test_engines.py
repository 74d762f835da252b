"""What is started for a job, and what it means how that ended."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from edge.errors import BadInput
from search.job.spec_file import read_yaml
from service.jobs.engines import ENGINES, Work, check_spec, outcome
from service.jobs.model import Job, Json, State, Wanted
from service.jobs.runner import Exit


def job(kind: str = "search", spec: Json | None = None) -> Job:
    return Job(
        id="job_1", tenant="t", name="n", kind=kind, state=State.CHECKING, spec=spec or {},
        created_at=0.0, created_by="local", updated_at=0.0,
    )  # fmt: skip


@pytest.fixture
def work(tmp_path: Path) -> Work:
    return Work(job(spec={"budget": 4, "max_kb": 20}), tmp_path, tmp_path / "net.onnx", "digits")


class TestSearch:
    def test_a_job_is_the_yaml_file_that_its_user_could_start(self, work: Work) -> None:
        argv = ENGINES["search"](work)
        assert argv[-3:] == ["search", str(work.folder / "job.yaml"), "--json"]
        written = read_yaml(work.folder / "job.yaml")
        assert {name: written[name] for name in ("teacher", "data", "out", "budget", "max_kb")} == {
            "teacher": str(work.teacher), "data": "digits", "out": str(work.run), "budget": 4,
            "max_kb": 20.0,
        }  # fmt: skip

    def test_where_there_is_a_run_it_goes_on(self, work: Work) -> None:
        work.run.mkdir()
        (work.run / "job.yaml").write_text("budget: 4\n")
        assert ENGINES["search"](work)[-1] == "--resume"

    def test_a_folder_of_a_process_that_was_killed_at_once_is_cleared(self, work: Work) -> None:
        work.run.mkdir()
        (work.run / "run.lock").touch()
        assert "--resume" not in ENGINES["search"](work)
        assert not work.run.exists()

    def test_what_is_no_run_is_not_touched(self, work: Work) -> None:
        work.run.mkdir()
        (work.run / "thesis.tex").write_text("mine")
        with pytest.raises(BadInput, match="holds something that is no run"):
            ENGINES["search"](work)
        assert (work.run / "thesis.tex").read_text() == "mine"


class TestRoute:
    def test_works_on_a_copy_of_the_parents_run(self, tmp_path: Path) -> None:
        parent, own = tmp_path / "parent", tmp_path / "own"
        own.mkdir()
        for name, text in (
            ("job.yaml", "budget: 4"), ("result.json", "{}"), ("events.ndjson", "told"),
            ("ledger.journal", "rows"), ("run.lock", ""), ("trained/1.safetensors", "weights"),
        ):  # fmt: skip
            (parent / name).parent.mkdir(exist_ok=True)
            (parent / name).write_text(text)
        work = Work(
            job("route", {"appeals": 0.2, "families": ["svm", "rf"], "portable": False}),
            own, tmp_path / "net.onnx", "digits", parent,
        )  # fmt: skip
        argv = ENGINES["route"](work)
        assert argv[argv.index("route") :] == [
            "route", str(own / "run"), "--replace", "--json", "--families", "svm,rf",
            "--no-portable", "--appeals", "0.2", "--teacher", str(work.teacher),
            "--data", "digits",
        ]  # fmt: skip
        with (own / "run" / "ledger.journal").open("a") as file:
            file.write("more")
        assert (parent / "ledger.journal").read_text() == "rows"
        assert not (own / "run" / "events.ndjson").exists()  # they tell of the parent
        weights = own / "run" / "trained" / "1.safetensors"
        assert weights.stat().st_ino == (parent / "trained" / "1.safetensors").stat().st_ino

    @pytest.mark.parametrize("kind", ["route", "finalize"])
    def test_a_parent_without_a_run_is_refused(self, tmp_path: Path, kind: str) -> None:
        with pytest.raises(BadInput, match="no finished run"):
            ENGINES[kind](Work(job(kind), tmp_path, None, None, tmp_path / "none"))


class TestSpec:
    def test_given_fields_come_back_and_no_others(self) -> None:
        assert check_spec("search", {"max_kb": 20, "seed": None, "data": "digits"}) == {
            "max_kb": 20.0, "data": "digits",
        }  # fmt: skip

    @pytest.mark.parametrize(
        ("kind", "spec", "field"),
        [
            ("search", {"storage": "sqlite:////etc/x.db"}, "storage"),
            ("search", {"warm": ["/runs/theirs"]}, "warm"),
            ("search", {"profile": "/etc/passwd"}, "profile"),
            ("search", {"teacher": "os:system"}, "teacher"),
            ("search", {"data": "/etc"}, "data"),
            ("search", {"out": "/etc"}, "out"),
            ("search", {"teacher_unseen": "/etc/passwd"}, "teacher_unseen"),
            ("search", {"ray": "ray://10.0.0.1:10001"}, "ray"),
            ("search", {"budget": 0}, "budget"),
            ("search", {"bugdet": 3}, "bugdet"),
            ("route", {"budget": 3}, "budget"),
            ("finalize", {"appeals": 0.1}, "appeals"),
        ],
    )
    def test_what_a_request_may_not_say_is_refused_by_its_field(
        self, kind: str, spec: Json, field: str
    ) -> None:
        with pytest.raises(BadInput) as error:
            check_spec(kind, spec)
        assert error.value.field == field

    def test_places_that_name_no_file_are_fine(self) -> None:
        for text in ("last 5000", "50 per class"):
            assert check_spec("search", {"teacher_unseen": text}) == {"teacher_unseen": text}
        allowed = check_spec("search", {"ray": "ray://h:1"}, clusters=("ray://h:1",))
        assert allowed == {"ray": "ray://h:1"}

    def test_an_unknown_kind(self) -> None:
        with pytest.raises(BadInput, match="unknown kind of job"):
            check_spec("mine-bitcoin", {})


#: what the command line prints with --json where something cannot be used
NO = {"error": {"problem": "unknown loss", "message": "unknown loss: got 'x'; expected soft."}}


class TestOutcome:
    @pytest.mark.parametrize(
        ("found", "finished", "state"),
        [
            (Exit(0), True, State.DONE),
            (Exit(3), True, State.DONE),  # a warning stands
            (Exit(None), True, State.DONE),  # nobody saw it end, but its files say so
            (Exit(2, said=NO), False, State.FAILED),
            (Exit(2, said=NO), True, State.FAILED),
            (Exit(127), False, State.FAILED),
            (Exit(1), False, State.QUEUED),
            (Exit(130), False, State.QUEUED),  # somebody stopped it, but not its user
            (Exit(-9), False, State.QUEUED),
            (Exit(None), False, State.QUEUED),
        ],
    )
    def test_by_exit_code(self, found: Exit, finished: bool, state: State) -> None:
        assert outcome(job(), found, finished, progressed=False).state is state

    def test_bad_input_is_told_in_the_engines_own_sentence(self) -> None:
        found = outcome(job(), Exit(2, "exit code 2", NO), False, False)
        assert found.reason == "unknown loss: got 'x'; expected soft."
        assert found.problem == NO["error"]

    @pytest.mark.parametrize("code", [0, 1, 130, -9, None])
    def test_what_its_user_cancelled_is_cancelled_unless_it_was_done(
        self, code: int | None
    ) -> None:
        wanted = replace(job(), wanted=Wanted.CANCEL)
        found = outcome(wanted, Exit(code), finished=code == 0, progressed=False)
        assert found.state is (State.DONE if code == 0 else State.CANCELLED)

    def test_attempts_count_only_while_nothing_is_gained(self) -> None:
        one = replace(job(), max_attempts=3)
        for losses in (1, 2):
            found = outcome(one, Exit(-9, "killed by SIGKILL"), False, progressed=False)
            assert (found.state, found.losses) == (State.QUEUED, losses)
            one = replace(one, losses=losses)
        got_on = outcome(one, Exit(-9), False, progressed=True)
        assert (got_on.state, got_on.losses) == (State.QUEUED, 0)
        over = outcome(one, Exit(-9, "killed by SIGKILL"), False, progressed=False)
        assert over.state is State.FAILED
        assert over.reason == "killed by SIGKILL (its engine ended 3 times without getting on)"

    def test_an_error_of_its_own_is_told_when_it_is_given_up(self) -> None:
        """The driver of a Ray whose raylet is killed ends with 1 too: it is worth another try."""
        said = {"error": {"problem": "the job stopped at an error", "message": "it: stopped"}}
        one = replace(job(), max_attempts=2, losses=1)
        found = outcome(one, Exit(1, "exit code 1", said), False, False)
        assert found.state is State.FAILED
        assert found.reason == "it: stopped (its engine ended 2 times without getting on)"
        assert found.problem == said["error"]


def test_a_problem_is_json() -> None:
    assert json.loads(json.dumps(outcome(job(), Exit(2, "", NO), False, False).problem))
