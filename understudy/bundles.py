"""A bundle in Python: it answers images with numpy and ONNX Runtime alone."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from edge.bundle import load_bundle
from edge.errors import BadInput
from edge.manifest import Manifest
from edge.runtime import Answer, Cloud, EdgeRuntime, OnnxTeacher
from edge.session import CHUNK
from understudy.cards import card, rows_of_figures
from understudy.pixels import Pixels, Scale, fitted

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Prediction:
    """The answer for one image.

    Attributes:
        label, class_name, probability: of whoever answered.
        score: the router's, higher for more trust.
        appeal: whether the router wants the teacher asked.
        answered_by: the teacher only where it was asked and replied.
        image: the file, where it was one.
        reason: why the teacher was asked in vain.
    """

    label: int
    class_name: str
    probability: float
    score: float
    appeal: bool
    answered_by: Literal["student", "teacher"] = "student"
    image: str | None = None
    reason: str | None = None


class Bundle:
    """Student, router and threshold, as they ship.

    Args:
        path: its folder.

    Raises:
        BadInput: no bundle, or a damaged one.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._bundle = load_bundle(Path(path))

    @property
    def path(self) -> Path:
        """Its folder."""
        return self._bundle.path

    @property
    def manifest(self) -> Manifest:
        """All that it says of itself."""
        return self._bundle.manifest

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, by label."""
        return self.manifest.class_names

    @property
    def threshold(self) -> float:
        """An image is appealed where its score lies below."""
        return self.manifest.threshold

    @cached_property
    def _runtime(self) -> EdgeRuntime:
        return EdgeRuntime(self._bundle)

    def predict(
        self, images: Any, *, teacher: str | os.PathLike[str] | Cloud | None = None
    ) -> list[Prediction]:
        """Answers for images, in their order.

        Args:
            images: a file, a folder or several of them; Pillow images; or an array or tensor, of
                one image or many, H×W×C or C×H×W: uint8 pixels, or floats as the network takes them
                (scaled and normalised).
            teacher: answers the appeals: an ONNX file such as ``cloud/teacher.onnx`` of a run, or a
                function from inputs N×C×H×W to logits N×K. Without one they are only marked.

        Raises:
            BadInput: an image that cannot be used, or a teacher that does not fit.
        """
        pixels, names = self._pixels(images)
        cloud = self._cloud(teacher)
        answers: list[Answer] = []
        for start in range(0, len(pixels), CHUNK):
            answers += self._runtime.answer(pixels[start : start + CHUNK], cloud)
        return [
            Prediction(
                label=answer.label,
                class_name=answer.class_name,
                probability=answer.probability,
                score=answer.decision.score,
                appeal=not answer.decision.trusted,
                answered_by=answer.answered_by,
                image=name,
                reason=answer.reason,
            )
            for answer, name in zip(answers, names, strict=True)
        ]

    def student(self) -> nn.Module:
        """The student as a torch module, rebuilt from the bundle alone: in eval mode, from
        normalised inputs N×C×H×W to logits N×K, to be looked into or trained on.

        Raises:
            MissingExtra: torch is not installed.
        """
        from service.cli.environment import needs_search

        needs_search("A student as a torch module")
        from safetensors.torch import load as read_tensors

        from envs.compression.surgery import load
        from envs.graph.check import parse_netspec

        spec = parse_netspec(self._bundle.read("netspec.json").decode())
        return load(spec, read_tensors(self._bundle.read("student.safetensors"))).eval()

    def _cloud(self, teacher: str | os.PathLike[str] | Cloud | None) -> Cloud | None:
        if teacher is None or callable(teacher):
            return teacher
        return OnnxTeacher(Path(teacher), self.manifest.preprocess, len(self.class_names))

    def _pixels(self, images: Any) -> tuple[Pixels, list[str | None]]:
        """Pixels N×H×W×C, and the file of each."""
        preprocess = self.manifest.preprocess
        if isinstance(images, str | os.PathLike) or _is_picture(images):
            images = [images]
        if isinstance(images, Iterable) and not hasattr(images, "shape"):
            images = list(images)
            if images and all(isinstance(image, str | os.PathLike) for image in images):
                return self._files([Path(image) for image in images])
            if images and all(map(_is_picture, images)):
                taken = [
                    preprocess.from_image(image, f"number {n}") for n, image in enumerate(images, 1)
                ]
                return np.stack(taken), [None] * len(taken)
            nothing = np.empty((0, *preprocess.pixel_shape), np.uint8)
            pixels = np.concatenate([nothing, *map(self._array, images)])
        else:
            pixels = self._array(images)
        return pixels, [None] * len(pixels)

    def _array(self, given: Any) -> Pixels:
        preprocess = self.manifest.preprocess
        found = fitted(given, preprocess.pixel_shape)
        if found.dtype == np.uint8:
            return found
        scale = Scale(preprocess.mean, preprocess.std)
        plain = max(map(abs, preprocess.mean)) < 0.01 and min(preprocess.std) > 0.95
        if found.size and not plain and 0 <= found.min() <= found.max() <= 1:
            # normalised images have pixels below their mean
            raise BadInput(
                "these floats may be pixels from 0 to 1, or what the network takes",
                value=f"{float(found.min()):.3g} to {float(found.max()):.3g}",
                bound="uint8 pixels, or floats that are normalised with the mean "
                f"{preprocess.mean} and the std {preprocess.std}",
                remedy="Give pixels: (images * 255).round().astype('uint8').",
            )
        return scale.pixels(found)

    def _files(self, paths: list[Path]) -> tuple[Pixels, list[str | None]]:
        from service.cli.places import images_of

        files, _ = images_of(paths)
        decoded = [self.manifest.preprocess.decode(path) for path in files]
        return np.stack(decoded), [str(path) for path in files]

    def __repr__(self) -> str:
        student = self.manifest.student
        return f"Bundle({str(self.path)!r}: {student.kb:,.1f} KB, {len(self.class_names)} classes)"

    def _repr_html_(self) -> str:
        manifest = self.manifest
        figures: Mapping[str, float | None] = {
            name.removeprefix("test."): figure.value
            for name, figure in manifest.figures.items()
            if name.startswith("test.")
        }
        lines = [
            ("student", f"{manifest.student.kb:,.1f} KB"),
            ("router", f"{manifest.router.name}, threshold {manifest.threshold:.6g}"),
            *rows_of_figures(figures),
        ]
        return card(f"Bundle {self.path}", "", lines, list(manifest.warnings))


def _is_picture(value: object) -> bool:
    from PIL.Image import Image

    return isinstance(value, Image)
