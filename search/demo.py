"""The demo: the main job on real data that install with the project, in a minute or two.

scikit-learn's digits are 1,797 scanned digits of 8×8 pixels. A small CNN is trained on the first
of them; the rest it never sees, so every figure of the pair is honest.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from edge.preprocess import Preprocess
from envs.compression.cost import cost
from search.job.events import Event, Stage
from search.job.run_folder import RunFolder
from search.job.spec import JobSpec, make_spec
from search.pipeline import run
from teachers.data.datasets import Dataset, load_dataset
from teachers.data.digits import WHOLE_NAME
from teachers.distillation.training import train_classifier
from teachers.formats import zoo
from teachers.formats.description import understand
from teachers.formats.formats import load_teacher, save_teacher
from teachers.formats.manifest import TeacherManifest

UNSEEN = 900
EPOCHS = 25
SAMPLES = 12


def demo_spec(out: Path, teacher: Path, seed: int, max_kb: float) -> JobSpec:
    """The demo's job: a student of at most a twentieth of the teacher's KB."""
    return make_spec(
        {
            "teacher": str(teacher),
            "data": WHOLE_NAME,  # whatever lies in the folder where the demo is started
            "out": str(out),
            "seed": seed,
            "max_kb": max_kb,
            "budget": 16,
        }
    )


def run_demo(out: str | Path, seed: int = 0) -> Iterator[Event]:
    """Train a teacher, search, and write sample images to try the bundle on.

    Raises:
        BadInput: the folder exists.
    """
    out = Path(out)
    with RunFolder(out).claimed() as claim:
        yield Stage("teacher", f"a small CNN on all but the last {UNSEEN} of 1,797 digits")
        teacher = digits_teacher(out / "teacher" / "digits.safetensors", seed)
        kb = cost(understand(load_teacher(teacher)).network).kb
        yield from run(demo_spec(out, teacher, seed, round(kb / 20, 1)), claim=claim)
        _write_samples(load_dataset(WHOLE_NAME, _preprocess()), out / "samples")


def _preprocess() -> Preprocess:
    # mean and standard deviation of the first 897 images, what the teacher trains on
    return Preprocess(1, 8, 8, mean=(0.3075,), std=(0.3770,))


def digits_teacher(path: str | Path, seed: int = 0) -> Path:
    """Train a small CNN on the digits before the last 900, and write it; takes a few seconds.

    Args:
        path: of the ``.safetensors`` file; its JSON is written beside it.
        seed: of its initial weights and the order of rows.

    Returns:
        the path.
    """
    path = Path(path)
    preprocess = _preprocess()
    data = load_dataset(WHOLE_NAME, preprocess)
    torch.manual_seed(seed)
    module = zoo.build("small_cnn", input_shape=preprocess.input_shape, classes=10)
    seen = data.train_rows - UNSEEN
    images, labels = _shifted(data.images[:seen], data.labels[:seen])
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # for a network this small a second thread only waits
    try:
        train_classifier(
            module,
            images,
            labels,
            preprocess,
            epochs=EPOCHS,
            batch_size=64,
            learning_rate=3e-3,
            seed=seed,
        )
    finally:
        torch.set_num_threads(threads)
    manifest = TeacherManifest(
        "small_cnn", preprocess, data.class_names, unseen=f"last {UNSEEN} rows"
    )
    save_teacher(module, manifest, path)
    return path


def _shifted(
    images: NDArray[np.uint8], labels: NDArray[np.int64]
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The images and their copies moved by one pixel up, down, left and right."""
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    height, width = images.shape[1:3]
    moves = ((1, 1), (0, 1), (2, 1), (1, 0), (1, 2))
    copies = [padded[:, top : top + height, left : left + width] for top, left in moves]
    return np.concatenate(copies), np.tile(labels, len(moves))


def _write_samples(data: Dataset, folder: Path) -> None:
    """A few of the last rows as PNG files, named by their class."""
    folder.mkdir(parents=True, exist_ok=True)
    for row in range(len(data.labels) - SAMPLES, len(data.labels)):
        name = f"{row}-is-{data.class_names[data.labels[row]]}.png"
        Image.fromarray(np.squeeze(data.images[row], -1)).save(folder / name)
