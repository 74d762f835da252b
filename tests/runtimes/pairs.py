"""Every pair that can ship, by what it is made of: small ones, made in seconds and kept.

A cell names the number format, the router, the features of a fitted one, whether it is portable,
and the format in which the teacher was handed in, from which the student is described, compressed
and exported as in a job. Students are not trained: what is compared is arithmetic.
"""

from __future__ import annotations

import atexit
import itertools
import json
import shutil
import tempfile
import warnings
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from edge.preprocess import Preprocess
from envs.compression.layers import anatomy
from envs.compression.moves import Moves
from envs.compression.resolve import compress
from envs.compression.surgery import Inheritance
from envs.export.export import to_onnx
from envs.export.quantise import to_int8
from routers.models.families import FAMILIES
from routers.models.scores import SCORES
from routers.onnx import export
from routers.onnx.features import FEATURES
from routers.onnx.pair import merge
from routers.onnx.standard import standard
from teachers.formats import zoo
from teachers.formats.description import understand
from teachers.formats.formats import load_teacher, save_teacher
from teachers.formats.manifest import TeacherManifest
from teachers.two_head.two_head import TwoHead, two_head_to_onnx
from tests.routers.rows import student as invented

CLASSES, ROWS = 5, 300
PREPROCESS = Preprocess(1, 8, 8, mean=(0.3,), std=(0.4,))
SHAPE = PREPROCESS.input_shape
HEAD = "two_head"

FORMATS = ("safetensors", "onnx", "torchscript")
#: int7: seven bits for weights, as where a processor has no products of eight
PRECISIONS = ("fp32", "int8", "int7")
ROUTERS = (*SCORES, *FAMILIES, HEAD)
#: fewer and smaller than the defaults, which say the same in more bytes
SMALL: dict[str, dict[str, int]] = {
    "rf": {"trees": 8, "depth": 5}, "et": {"trees": 8, "depth": 5}, "gbdt": {"trees": 12},
    "xgb": {"trees": 12}, "svm": {}, "knn": {},
}  # fmt: skip


class Cell(NamedTuple):
    """What a pair is made of."""

    precision: str
    router: str
    features: str
    portable: bool
    format: str

    def __str__(self) -> str:
        return "-".join(str(value) for value in (*self[:3], "portable" * self[3], self[4]) if value)


def every_cell() -> list[Cell]:
    """All that differ: scores and heads look at no features, and a head ships in fp32."""
    cells = itertools.product(PRECISIONS, ROUTERS, FEATURES, (False, True), FORMATS)
    found = {canonical(Cell(*cell)): None for cell in cells}
    return list(found)


def canonical(cell: Cell) -> Cell:
    """The same cell without choices that do nothing in it."""
    if cell.router not in FAMILIES:
        cell = cell._replace(features="", portable=False)
    return cell._replace(precision="fp32") if cell.router == HEAD else cell


def pairwise(cells: Sequence[Cell]) -> list[Cell]:
    """Few cells, in which every two choices that occur together in one do so."""
    left = {pair for cell in cells for pair in _pairs(cell)}
    chosen = list[Cell]()
    while left:
        best = max(cells, key=lambda cell: len(left & _pairs(cell)))
        chosen.append(best)
        left -= _pairs(best)
    return chosen


def _pairs(cell: Cell) -> set[tuple[tuple[int, object], tuple[int, object]]]:
    return set(itertools.combinations(enumerate(cell), 2))


def pair_of(cell: Cell) -> bytes:
    """The merged file of a cell; half of some images are trusted."""
    student, router = parts_of(cell)
    return merge(student, router, threshold_of(cell), {"router": cell.router}, "A pair of tests.")


def parts_of(cell: Cell) -> tuple[bytes, bytes | None]:
    """Student and router of a cell; the student alone where it has a score of its own."""
    if cell.router == HEAD:
        return students(cell.format)[HEAD], None
    router = fitted(cell.router, cell.features, cell.portable)
    return students(cell.format)[cell.precision], router


@cache
def threshold_of(cell: Cell) -> float:
    """Between two scores of images, where it is widest apart near the middle.

    Runtimes round differently, and a threshold at a score would ask for a coin.
    """
    _, scores = parts_say(cell, images(ROWS, seed=1))
    ordered = np.sort(scores.astype(np.float64))
    middle = ordered[ROWS // 3 : 2 * ROWS // 3]
    at = int(np.argmax(np.diff(middle)))
    return float((middle[at] + middle[at + 1]) / 2)


def parts_say(
    cell: Cell, inputs: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Logits and scores of the parts, run one after the other in ONNX Runtime."""
    student, router = parts_of(cell)
    session = export._session(student)
    if router is None:
        logits, score = session.run(["logits", "score"], {"image": inputs})
        return logits, score
    (logits,) = session.run(["logits"], {"image": inputs})
    return logits, export.run(router, logits)


def images(rows: int, seed: int) -> NDArray[np.float32]:
    """Smooth noise, prepared as a network is fed."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (rows, 4, 4, 1)).astype(np.uint8)
    return PREPROCESS.to_input(coarse.repeat(2, axis=1).repeat(2, axis=2))


def poisoned(rows: int, seed: int) -> NDArray[np.float32]:
    """Images with NaN or infinity: in one pixel, in several, or in all."""
    rng = np.random.default_rng(seed)
    found = images(rows, seed)
    flat = found.reshape(rows, -1)
    for row, values in enumerate(flat):
        poison = (np.nan, np.inf, -np.inf)[row % 3]
        many = (1, 7, flat.shape[1])[row // 3 % 3]
        values[rng.choice(flat.shape[1], many, replace=False)] = poison
    return found


@cache
def students(format: str) -> dict[str, bytes]:
    """Files of a student, compressed from a teacher of that format: by precision, and headed."""
    described = understand(load_teacher(teacher(format)))
    spec, weights = described.network, described.teacher.module.state_dict()
    moves = Moves((0.0, 0.3, 1.0), "o")
    actions = [1] * (len(anatomy(spec).layers) - 1) + [2]
    made = compress(spec, moves, actions)
    module = Inheritance.of(spec, weights).student(made, 0).eval()
    last = module.get_submodule(anatomy(made.spec).layers[-1].node)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        # logits of all classes that spread alike, as a trained student's do
        said = module(torch.from_numpy(images(64, 2)))
        scale = 3 / said.std(0)
        last.weight.mul_(scale[:, None])  # type: ignore[operator]
        last.bias.copy_((last.bias - said.mean(0)) * scale)  # type: ignore[operator]
        headed = TwoHead(module, anatomy(made.spec).layers[-1].node).eval()
        headed.head.weight.normal_(generator=generator)
    plain = to_onnx(module, SHAPE)
    seen = [images(64, 3)]
    return {
        "fp32": plain,
        "int8": to_int8(plain, seen),
        "int7": to_int8(plain, seen, reduce_range=True),
        HEAD: two_head_to_onnx(headed, SHAPE),
    }


@cache
def fitted(router: str, features: str, portable: bool) -> bytes:
    """The file of a router, fitted on invented rows where it is a family."""
    if router in SCORES:
        return bytes(SCORES[router].to_onnx(CLASSES).SerializeToString())
    rows = invented(240, CLASSES, seed=5)
    look, right = FEATURES[features], (rows.logits.argmax(1) == rows.labels).astype(np.int64)
    family = FAMILIES[router](look.compute(rows.logits), right, 0, **SMALL[router])
    model = family.to_onnx(CLASSES, look)
    return bytes((standard(model) if portable else model).SerializeToString())


@cache
def teacher(format: str) -> Path:
    """A small CNN in a file of that format, with its JSON beside it."""
    torch.manual_seed(0)
    network = zoo.build("small_cnn", input_shape=SHAPE, classes=CLASSES).eval()
    names = tuple(f"class {i}" for i in range(CLASSES))
    manifest = TeacherManifest("small_cnn", PREPROCESS, names)
    path = _folder() / f"{format}.{'safetensors' if format == 'safetensors' else 'onnx'}"
    if format == "safetensors":
        save_teacher(network, manifest, path)
        return path
    path.with_suffix(".json").write_text(json.dumps(manifest.to_json()))
    example = torch.zeros(2, *SHAPE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's exporters warn of themselves
        if format == "onnx":
            torch.onnx.export(network, (example,), path, dynamo=True, verbose=False)
        else:
            torch.onnx.export(network, (example,), path, dynamo=False)
    return path


@cache
def _folder() -> Path:
    """A folder that goes when the tests end."""
    folder = Path(tempfile.mkdtemp(prefix="understudy-pairs-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
