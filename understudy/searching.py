"""``understudy.search``: the whole job from Python, as the command line does it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from edge.errors import BadInput
from edge.files import new_folder
from search.job.run_folder import RunFolder
from search.job.spec import JobSpec, make_spec
from service.cli.environment import needs_search
from service.cli.options import as_values
from understudy.given_data import GivenData, given_data
from understudy.given_teacher import GivenTeacher, is_module, shape_of
from understudy.pixels import Scale
from understudy.runs import Run

if TYPE_CHECKING:
    from torch import nn

    from search.job.events import Event

#: where runs go that nobody gave a folder
RUNS = Path("runs")


def search(
    teacher: str | os.PathLike[str] | nn.Module,
    data: Any,
    max_kb: float | None = None,
    out: str | os.PathLike[str] | None = None,
    *,
    class_names: Sequence[str] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    progress: bool = True,
    **fields: Any,
) -> Run:
    """Search a student and a router for a teacher, and pack them into a bundle.

    Ctrl-C stops it: what is finished is kept, and :meth:`Run.resume` goes on.

    Args:
        teacher: an .onnx or .safetensors file with its JSON beside it, a function of your own
            (``"package.module:function"``), or a trained torch module.
        data: a folder, ``"digits"``, or in memory ``(images, labels)`` or a mapping with ``train``
            and perhaps ``validation`` and ``test``. Images are uint8 pixels, or floats as the
            teacher takes them. What is in memory is kept beside the run, in ``OUT.inputs``.
        max_kb: largest student, KB of fp32 weights.
        out: folder of the run, which must not exist; else a fresh one, ``runs/TEACHER-N``.
        class_names: of a module's outputs, or of labels in memory, in their order.
        mean, std: by channel, with which pixels from 0 to 1 are normalised for a module; floats in
            memory tell them by themselves, and pixels are else taken from 0 to 1.
        progress: show how it goes, on stderr.
        fields: any other field of the job, as in ``understudy config``: ``max_drop``, ``appeals``,
            ``budget``, ``minutes`` …

    Raises:
        BadInput: what cannot be used; nothing is left behind.
        MissingExtra: what a search needs is not installed.
        Unfinished: it stopped at an error that it could not mend.
    """
    needs_search("A search")
    given = Inputs.of(teacher, data, class_names, mean, std)
    folder = free_folder(given.name) if out is None else Path(out)
    values = {"max_kb": max_kb, **as_values(fields), "out": os.fspath(folder)}
    make_spec({"teacher": "teacher.onnx", "data": "data"} | values)  # before anything is written
    with given.kept(folder) as (teacher_path, data_source):
        spec = make_spec({"teacher": teacher_path, "data": data_source} | values)
        carry_out(spec, progress=progress)
    return Run(folder)


def carry_out(
    spec: JobSpec, *, resume: bool = False, progress: bool = True, **how: Any
) -> Mapping[str, Any]:
    """Do a job, or go on with it; its result.

    Args:
        spec: the job.
        resume: whether its folder holds the run.
        progress: show it.
        how: further arguments of :func:`search.pipeline.run`.
    """
    from search.preparation.validate import check_inputs
    from search.space.limits import with_room

    spec = spec if how.get("again") else with_room(spec)
    # the caller's own process: a teacher may be a function of theirs
    check_inputs(spec, resume, trusted=True)
    with RunFolder(spec.out).claimed(spec, new=not resume) as claim:
        from search.pipeline import run  # what can be refused was: this takes seconds

        job = run(spec, resume=resume, claim=claim, trusted=True, **how)
        with closing(cast("Generator[Event, None, None]", job)):
            try:
                return followed(job, progress)
            except KeyboardInterrupt as stop:
                stop.add_note(_how_to_go_on(spec.out))
                raise


def followed(job: Iterator[Any], progress: bool) -> Mapping[str, Any]:
    """A job's result, once it has told everything."""
    from search.job.events import Finished
    from service.cli.progress import show_events, show_result
    from service.cli.streams import console

    result: Mapping[str, Any] | None = None
    if progress:
        err = console(stderr=True, markup=True)
        result = show_events(job, err)
        if result is not None:
            show_result(err, result)
    else:
        for event in job:
            if isinstance(event, Finished):
                result = event.result
    assert result is not None
    return result


def _how_to_go_on(out: str) -> str:
    if not RunFolder(out).begun:
        return "Stopped; nothing had been done yet."
    return (
        f"Stopped; every finished candidate is kept. Go on with: understudy.open({out!r}).resume()"
    )


@dataclass(frozen=True)
class Inputs:
    """Teacher and data, by their places or in memory."""

    teacher: str | GivenTeacher
    data: str | GivenData

    @classmethod
    def of(
        cls,
        teacher: Any,
        data: Any,
        class_names: Sequence[str] | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> Inputs:
        """What was given, checked as far as that needs no time."""
        placed = isinstance(data, str | os.PathLike)
        given: str | GivenData = os.fspath(data) if placed else given_data(data, class_names)
        if isinstance(teacher, str | os.PathLike):
            for name, value in (("mean", mean), ("std", std)):
                if value is not None:
                    raise _not_for_files(name, value)
            if class_names is not None and placed:
                raise _not_for_files("class_names", list(class_names))
            return cls(os.fspath(teacher), given)
        if not is_module(teacher):
            raise BadInput(
                "this is no teacher",
                value=type(teacher).__name__,
                bound="the path of an .onnx or .safetensors file, or a torch module",
                remedy="Give one of these.",
                field="teacher",
            )
        names = tuple(map(str, class_names or ()))
        shape = shape_of(given, teacher) if isinstance(given, str) else given.shape
        scale = Scale.plain(shape[0]) if isinstance(given, str) else None
        if mean is not None or std is not None:
            plain = Scale.plain(shape[0])
            scale = Scale(tuple(mean or plain.mean), tuple(std or plain.std))
        if scale is None:
            assert isinstance(given, GivenData)
            scale = given.scale
        return cls(GivenTeacher(teacher, shape, scale, names), given)

    @property
    def name(self) -> str:
        """What a folder is called after."""
        if isinstance(self.teacher, GivenTeacher):
            return self.teacher.name
        return Path(self.teacher.rpartition(":")[2]).stem or "run"

    @contextmanager
    def kept(self, run: Path) -> Iterator[tuple[str, str]]:
        """Places of teacher and data: what is in memory is written beside the run, and removed
        again where the run is refused.

        Raises:
            BadInput: something lies there already.
        """
        if isinstance(self.teacher, str) and isinstance(self.data, str):
            yield self.teacher, self.data
            return
        if run.exists():
            RunFolder(run).check(make_spec({"teacher": "t", "data": "d", "out": str(run)}), False)
        beside = inputs_of(run)
        try:
            with new_folder(beside) as draft:
                self.write(draft)
        except OSError as error:
            raise BadInput(
                "what was given in memory cannot be kept beside the run",
                value=f"{beside} ({error.strerror})",
                bound="a path that is free, on a disk with room",
                remedy="Choose another folder for the run.",
                field="out",
            ) from None
        try:
            yield self._places(beside)
        except BaseException:
            if not run.exists():
                shutil.rmtree(beside, ignore_errors=True)
            raise

    def write(self, folder: Path, arrays: bool = False) -> tuple[str, str]:
        """Write what is in memory into a folder; places of teacher and data.

        Args:
            folder: where.
            arrays: data as one .npz file, for which NumPy is enough, in place of a folder.
        """
        if isinstance(self.teacher, GivenTeacher):
            self.teacher.write(folder)
        places = self._places(folder)
        if isinstance(self.data, GivenData):
            if not arrays:
                self.data.write(Path(places[1]), self.scale)
                return places
            return places[0], str(self.data.write_arrays(folder / "data.npz", self.scale))
        return places

    def _places(self, folder: Path) -> tuple[str, str]:
        teacher = self.teacher if isinstance(self.teacher, str) else str(folder / "teacher.onnx")
        data = self.data if isinstance(self.data, str) else str(folder / "data")
        return teacher, data

    @property
    def scale(self) -> Scale:
        """From pixels to what the teacher takes."""
        if isinstance(self.teacher, GivenTeacher):
            return self.teacher.scale
        assert isinstance(self.data, GivenData)
        if self.data.is_pixels:
            return self.data.scale
        from teachers.formats.formats import check_teacher

        preprocess = check_teacher(self.teacher, trusted=True).preprocess
        return Scale(preprocess.mean, preprocess.std)


def inputs_of(run: Path) -> Path:
    """The folder beside a run that holds what was given in memory."""
    return run.with_name(f"{run.name}.inputs")


def free_folder(name: str, where: Path = RUNS) -> Path:
    """``runs/NAME-1``, ``runs/NAME-2``, …: the first that does not exist."""
    number = 1
    while (found := where / f"{name}-{number}").exists() or inputs_of(found).exists():
        number += 1
    return found


def _not_for_files(name: str, value: object) -> BadInput:
    return BadInput(
        f"{name!r} belongs to a module, or to arrays, in memory",
        value=value,
        bound="the JSON beside a teacher's file",
        remedy=f"Write {name!r} into that JSON.",
        field=name,
    )
