"""What the teacher says of some rows: asked once, kept on the disk, read from there.

The answers are named by everything that they depend on. They are written as they come, so a job
that was stopped goes on with the chunk at which it stood.
"""

from __future__ import annotations

import copy
import hashlib
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edge.preprocess import Preprocess
from search.job.events import Event, Progress
from search.job.machine import cores
from teachers.data.datasets import Dataset
from teachers.data.image_file import block_rows
from teachers.data.row_file import RowFile, check_room, read_map
from teachers.data.source import Images
from teachers.distillation.augment import AUGMENTS
from teachers.distillation.cutmix import draw_patches, paste
from teachers.distillation.training import Prediction, predict, rows_at_a_time
from teachers.formats.folding import folded
from teachers.formats.manifest import Teacher

#: most rows of the teacher's forward pass between two signs of life; fewer where images are large
CHUNK = 512
#: chunks under way per thread, so that none waits for the disk
AHEAD = 2

T = TypeVar("T")
#: a step of the job that tells of itself and gives a value in the end
Telling = Generator[Event, None, T]


@dataclass(frozen=True)
class Views:
    """Changed versions of every row.

    Attributes:
        augment: a name of :data:`~teachers.distillation.augment.AUGMENTS`.
        draws: what it drew, int16 V×N×D.
        patches: pasted in afterwards (:mod:`teachers.distillation.cutmix`), int32 V×N×6, or None.
    """

    augment: str
    draws: NDArray[np.int16]
    patches: NDArray[np.int32] | None = None

    @property
    def digest(self) -> str:
        """Short and fixed by what is drawn."""
        drawn = self.draws.tobytes()
        if self.patches is not None:
            drawn += self.patches.tobytes()
        return hashlib.sha256(drawn).hexdigest()

    def pixels(
        self, images: Images, rows: NDArray[np.int64], view: int, part: slice
    ) -> NDArray[np.uint8]:
        """The changed images of some neighbouring rows in a view."""
        changed = AUGMENTS[self.augment].apply(images[rows[part]], self.draws[view, part])
        if self.patches is None:
            return changed
        return paste(changed, images, self.patches[view, part])


def draw_views(
    augment: str, views: int, rows: int, pixel_shape: tuple[int, int, int], seed: int
) -> Views:
    """``views`` draws for each of ``rows`` images of shape H×W×C."""
    member = AUGMENTS[augment]
    draws = [
        member.draw(rows, pixel_shape, np.random.default_rng([seed, 3, view]))
        for view in range(views)
    ]
    return Views(augment, np.stack(draws))


def patched(
    views: Views,
    rows: NDArray[np.int64],
    labels: NDArray[np.int64],
    pixel_shape: tuple[int, int, int],
    seed: int,
) -> Views:
    """The same views of ``rows`` with patches of each other pasted in."""
    patches = [
        draw_patches(rows, labels, pixel_shape, np.random.default_rng([seed, 7, view]))
        for view in range(len(views.draws))
    ]
    patches[0][:, 4:] = 0  # so that every row has a view of its own alone
    return replace(views, patches=np.stack(patches))


@dataclass(frozen=True)
class Answers:
    """The teacher's logits V×N×K and, where asked for, features V×N×F: float32, mapped read-only.

    V is 1 for the unchanged images.
    """

    logits: NDArray[np.float32]
    features: NDArray[np.float32] | None


@dataclass(frozen=True)
class _Piece:
    """Some neighbouring rows of one view."""

    view: int
    start: int
    stop: int


class Asker:
    """Asks a teacher about a data set.

    Args:
        teacher: on the processor.
        data: its rows.
        folder: for the answers.
        tap: the module whose input counts as features.
        gpu: ask on a graphics processor, if there is one.
    """

    def __init__(
        self, teacher: Teacher, data: Dataset, folder: Path, tap: str, *, gpu: bool = False
    ) -> None:
        self.teacher, self.data, self.folder, self.tap = teacher, data, folder, tap
        self.device = "cuda" if gpu and torch.cuda.is_available() else "cpu"
        self.batch = rows_at_a_time(data.images.shape[1:], self.device)

    def answers(
        self,
        part: str,
        rows: NDArray[np.int64],
        *,
        features: bool = False,
        precision: str = "fp32",
        views: Views | None = None,
    ) -> Telling[Answers]:
        """What the teacher says of ``rows``, or of ``views`` of them; ``part`` is their name.

        Raises:
            BadInput: the disk lacks the room.
        """
        about = [self.teacher.fingerprint, self.data.digest, precision, str(features)]
        if views is not None:
            about += [views.augment, views.digest]
        key = hashlib.sha256(" ".join(about).encode() + rows.tobytes()).hexdigest()[:16]
        kinds = ("logits", "features") if features else ("logits",)
        paths = {kind: self.folder / f"{part}-{key}.{kind}.npy" for kind in kinds}
        if not all(path.exists() for path in paths.values()):
            yield from self._write(part, rows, paths, precision, views)
        stored = {kind: read_map(path) for kind, path in paths.items()}
        return Answers(stored["logits"], stored.get("features"))

    def _write(
        self,
        part: str,
        rows: NDArray[np.int64],
        paths: dict[str, Path],
        precision: str,
        views: Views | None,
    ) -> Telling[None]:
        count = 1 if views is None else len(views.draws)
        total = count * len(rows)
        text = f"teacher answers the {part} part"
        with ExitStack() as open_files:
            files = {
                kind: open_files.enter_context(RowFile(path, (count, len(rows)), np.float32))
                for kind, path in paths.items()
            }
            todo = _left(_pieces(count, len(rows), self.chunk), files.values())
            done = total - sum(piece.stop - piece.start for piece in todo)
            yield Progress(done, total, text)
            for piece, said in self._ask(rows, todo, "features" in files, precision, views):
                blocks = {kind: getattr(said, kind) for kind in files}
                if piece is todo[0]:
                    width = sum(block.shape[1] for block in blocks.values())
                    check_room(self.folder, 4 * width * (total - done), "the teacher's answers")
                for kind, file in files.items():
                    file.append(blocks[kind])
                done += piece.stop - piece.start
                yield Progress(done, total, text)
            for file in files.values():
                file.finish()

    def ask_again(self, images: Images, preprocess: Preprocess) -> NDArray[np.float32]:
        """Logits N×K about pixels N×H×W×C, prepared in another way; not kept."""
        module = copy.deepcopy(self.teacher.module).to(self.device)
        said = predict(
            module,
            images,
            preprocess,
            precision="fp32",
            device=self.device,
            batch_size=self.batch,
        )
        return said.logits

    @property
    def chunk(self) -> int:
        """Rows at a time: a multiple of a batch, so that a chunk's answers are always the same."""
        fit = min(CHUNK, block_rows(self.data.images.shape[1:]))
        return max(self.batch, fit // self.batch * self.batch)

    def _ask(
        self,
        rows: NDArray[np.int64],
        pieces: list[_Piece],
        features: bool,
        precision: str,
        views: Views | None,
    ) -> Iterator[tuple[_Piece, Prediction]]:
        """The teacher's answers to the pieces, in their order.

        One thread per core works on a piece of its own: one network shared by all cores stalls at
        every layer as soon as another process wants one of them.
        """
        threads = cores() if self.device == "cpu" else 1
        idle: SimpleQueue[nn.Module] = SimpleQueue()
        preprocess = self.teacher.manifest.preprocess
        few = torch.from_numpy(preprocess.to_input(self.data.images[rows[:4]]))
        network = folded(self.teacher.module, few, self.tap)
        for _ in range(threads):
            idle.put(copy.deepcopy(network).to(self.device))

        def ask(piece: _Piece) -> tuple[_Piece, Prediction]:
            part = slice(piece.start, piece.stop)
            if views is None:
                images = self.data.images[rows[part]]
            else:
                images = views.pixels(self.data.images, rows, piece.view, part)
            module = idle.get()
            try:
                return piece, predict(
                    module,
                    images,
                    preprocess,
                    tap=self.tap if features else None,
                    precision=precision,
                    device=self.device,
                    batch_size=self.batch,
                )
            finally:
                idle.put(module)

        pool = ThreadPoolExecutor(threads, "teacher", torch.set_num_threads, (1,))
        under_way: deque[Future[tuple[_Piece, Prediction]]] = deque()
        with self._exact() if precision == "fp32" else nullcontext():
            try:
                for piece in pieces:
                    under_way.append(pool.submit(ask, piece))
                    if len(under_way) > AHEAD * threads:
                        yield under_way.popleft().result()
                while under_way:
                    yield under_way.popleft().result()
            finally:
                pool.shutdown(cancel_futures=True)

    def _exact(self) -> AbstractContextManager[None]:
        """fp32 that is fp32: a GPU would round what it convolves to 10 bits."""
        if self.device == "cpu":
            return nullcontext()
        flags: AbstractContextManager[None] = torch.backends.cudnn.flags(
            enabled=True, allow_tf32=False
        )
        return flags


def _pieces(views: int, rows: int, chunk: int) -> Iterator[_Piece]:
    for view in range(views):
        for start in range(0, rows, chunk):
            yield _Piece(view, start, min(start + chunk, rows))


def _left(pieces: Iterable[_Piece], files: Iterable[RowFile]) -> list[_Piece]:
    """The pieces that some file lacks; the files go on before the first of them."""
    files = list(files)
    left: list[_Piece] = []
    whole, at = min(file.rows for file in files), 0
    for piece in pieces:
        size = piece.stop - piece.start
        if left or at + size > whole:
            left.append(piece)
        else:
            at += size
    for file in files:
        file.go_on_after(at)
    return left


def telling(steps: Generator[int, None, T], total: int, text: str) -> Telling[T]:
    """Steps that yield how much is done, as a step of the job."""
    while True:
        try:
            done = next(steps)
        except StopIteration as end:
            value: T = end.value
            return value
        yield Progress(done, total, text)
