"""A trained torch module in memory, written as an ONNX file and the JSON beside it."""

from __future__ import annotations

import copy
import io
import json
import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge import strict
from edge.errors import BadInput
from edge.preprocess import Preprocess
from understudy.pixels import Scale

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor, nn

#: largest difference of a logit between the module and the file, as share of the largest logit
AGREES = 1e-3
OPSET = 18


@dataclass(frozen=True)
class GivenTeacher:
    """A module in memory.

    Attributes:
        module: from normalised images N×C×H×W to logits N×K; it is never changed.
        shape: (C, H, W).
        scale: from pixels to what it takes.
        class_names: empty where nobody names them.
    """

    module: nn.Module
    shape: tuple[int, int, int]
    scale: Scale
    class_names: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Of its class, in small letters."""
        return type(self.module).__name__.lower()

    def write(self, folder: Path) -> Path:
        """Write ``teacher.onnx`` and ``teacher.json``; the former's path.

        Batch norms stay as they are: what a student inherits them from is then what was trained.

        Raises:
            BadInput: it cannot take such images, gives no logits, or cannot be exported.
        """
        module = copy.deepcopy(self.module).cpu().float().eval()
        images = _noise(self.shape)
        logits = _logits(module, images, self.shape)
        classes = max(2, logits.shape[1])
        if self.class_names and len(self.class_names) != classes:
            raise BadInput(
                "the teacher has other classes than are named",
                value=f"{classes} outputs",
                bound=f"{len(self.class_names)}, the names given",
                remedy="Name each output, in their order.",
                field="class_names",
            )
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "teacher.onnx"
        about: dict[str, Any] = {"input": list(self.shape), "classes": classes}
        about |= {"mean": list(self.scale.mean), "std": list(self.scale.std)}
        if self.class_names:
            about["class_names"] = list(self.class_names)
        path.with_suffix(".json").write_text(json.dumps(about, indent=1), encoding="utf-8")
        path.write_bytes(_exported(module, images))
        _check_same(path, images, logits)
        return path


def is_module(teacher: object) -> bool:
    """Whether it is a torch module; torch is not loaded to tell."""
    import sys

    torch = sys.modules.get("torch")
    return torch is not None and isinstance(teacher, torch.nn.Module)


def shape_of(source: str, module: nn.Module) -> tuple[int, int, int]:
    """(C, H, W) of the first image of a data set on the disk, as the module takes it.

    Raises:
        BadInput: there are no data.
    """
    from teachers.data.datasets import open_dataset
    from teachers.data.digits import NAME, SIDE, WHOLE_NAME

    if source in (NAME, WHOLE_NAME):
        return 1, SIDE, SIDE
    try:
        next(iter(open_dataset(source).read(_Look(3, 1, 1, (0.0,) * 3, (1.0,) * 3), 0)))
    except _Seen as seen:
        height, width, grey = seen.height, seen.width, seen.grey
    channels = 1 if grey else 3
    if not _takes(module, (channels, height, width)) and _takes(
        module, (4 - channels, height, width)
    ):
        channels = 4 - channels
    return channels, height, width


class _Seen(Exception):
    def __init__(self, image: Image) -> None:
        self.width, self.height = image.size
        self.grey = image.mode in ("1", "L", "LA")


class _Look(Preprocess):
    """Tells the size of the first image instead of decoding it."""

    def from_image(self, image: Image, name: str) -> Any:
        raise _Seen(image)


def _takes(module: nn.Module, shape: tuple[int, int, int]) -> bool:
    try:
        _logits(copy.deepcopy(module).cpu().float().eval(), _noise(shape), shape)
    except BadInput:
        return False
    return True


def _noise(shape: Sequence[int]) -> Tensor:
    import torch

    return torch.rand(4, *shape, generator=torch.Generator().manual_seed(0))


def _logits(module: nn.Module, images: Tensor, shape: Sequence[int]) -> Tensor:
    import torch

    try:
        with torch.no_grad():
            logits = module(images)
    except Exception as error:  # whatever a stranger's module may raise
        raise BadInput(
            "the teacher cannot take these images",
            value=strict.shorten(f"{type(error).__name__}: {error}", 300),
            bound=f"a module that takes a batch of images {tuple(shape)} (channels, height, width)",
            remedy="Give images as the module takes them.",
            field="teacher",
        ) from error
    if not isinstance(logits, torch.Tensor) or logits.ndim != 2 or len(logits) != len(images):
        found = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise BadInput(
            "the teacher gives no logits",
            value=str(found),
            bound=f"a tensor ({len(images)}, classes) for {len(images)} images",
            remedy="Wrap it in a module that returns the logits alone.",
            field="teacher",
        )
    return logits


def _exported(module: nn.Module, images: Tensor) -> bytes:
    """The module as ONNX, by the older exporter, which keeps batch norms and the names of weights;
    by the newer one where that cannot."""
    import torch

    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the exporter's own internals
            try:
                return _traced(module, images)
            except Exception:
                program = torch.onnx.export(
                    module,
                    (images,),
                    dynamo=True,
                    optimize=False,
                    dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
                    verbose=False,
                )
                assert program is not None
                return bytes(program.model_proto.SerializeToString())
    except Exception as error:
        raise BadInput(
            "the teacher cannot be exported",
            value=strict.shorten(f"{type(error).__name__}: {error}", 300),
            bound="a module that torch.onnx.export can write",
            remedy="Export it yourself, and give the path of the .onnx file.",
            field="teacher",
        ) from error
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _traced(module: nn.Module, images: Tensor) -> bytes:
    import torch

    content = io.BytesIO()
    torch.onnx.export(
        module,
        (images,),
        content,  # type: ignore[arg-type]
        dynamo=False,
        opset_version=OPSET,
        input_names=["image"],
        output_names=["logits"],
        dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}},
        training=torch.onnx.TrainingMode.PRESERVE,
        do_constant_folding=False,
    )
    return content.getvalue()


def _check_same(path: Path, images: Tensor, logits: Tensor) -> None:
    """See that what the product reads back is what was given.

    Raises:
        BadInput: an operator that it does not know, or other logits.
    """
    import torch

    from teachers.formats.formats import load_teacher

    with torch.no_grad():
        found = load_teacher(path).module(images)
    worst = float((found - logits).abs().max() / logits.abs().max().clamp(min=1e-6))
    if not worst < AGREES and logits.shape[1] > 1:
        raise BadInput(
            "the exported teacher gives other logits",
            value=f"a difference of {worst:.2g}",
            bound=f"less than {AGREES:g} of the largest logit",
            remedy="Export it yourself, and give the path of the .onnx file.",
            field="teacher",
        )
