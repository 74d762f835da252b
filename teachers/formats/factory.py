"""A teacher made by a Python function, ``package.module:function``.

Importing a module runs it. So this form is for those who call the library or the command line
with code of their own, never for what a service receives.
"""

from __future__ import annotations

import hashlib
import re
from importlib import import_module
from typing import TYPE_CHECKING, Any

from edge import strict
from edge.errors import BadInput
from teachers.formats.manifest import Teacher, TeacherManifest

if TYPE_CHECKING:
    from torch import nn

SPELLING = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)
GIVES = "(torch.nn.Module, TeacherManifest), or a Teacher"


def is_factory(text: str) -> bool:
    """Whether a text is spelled ``package.module:function``."""
    return SPELLING.fullmatch(text) is not None


def load(name: str, *, trusted: bool) -> Teacher:
    """Call the factory ``name`` without arguments and take what it gives, in eval mode.

    The fingerprint is the SHA-256 of the state dict: names, types, shapes and bytes.

    Raises:
        BadInput: the caller does not trust it, it cannot be imported, it raises, it gives
            something else, or its weights are not finite.
    """
    if not trusted:
        raise BadInput(
            "a teacher made by Python code runs that code",
            value=repr(strict.shorten(name)),
            bound="a file ending in .onnx or .safetensors, or trusted=True from the caller",
            remedy="Where the code is your own, allow it; else export the teacher as a file.",
        )
    found = _called(name)
    if isinstance(found, Teacher):
        found = (found.module, found.manifest)
    module, manifest = _parts(name, found)
    # float32 on the CPU like teachers from files, whatever the factory was trained in
    module = module.cpu().float().eval()
    return Teacher(manifest, module, _fingerprint(name, module), name.rpartition(":")[2])


def _called(name: str) -> Any:
    module, _, function = name.partition(":")
    try:
        return getattr(import_module(module), function)()
    except Exception as error:
        raise BadInput(
            f"the teacher's factory {name} failed",
            value=strict.shorten(f"{type(error).__name__}: {error}", 200),
            bound=f"a function without arguments that gives {GIVES}",
            remedy="Check that the module can be imported from here, and call the function once.",
        ) from error


def _parts(name: str, found: Any) -> tuple[nn.Module, TeacherManifest]:
    from torch import nn

    if isinstance(found, tuple) and len(found) == 2:
        module, manifest = found
        if isinstance(module, nn.Module) and isinstance(manifest, TeacherManifest):
            return module, manifest
    raise BadInput(
        f"the teacher's factory {name} gives something else",
        value=strict.shorten(
            [type(part).__name__ for part in found] if isinstance(found, tuple) else type(found)
        ),
        bound=GIVES,
        remedy="Return the module and its manifest (teachers.formats.manifest.TeacherManifest).",
    )


def _fingerprint(name: str, module: nn.Module) -> str:
    import torch

    digest = hashlib.sha256()
    for key, tensor in module.state_dict().items():
        if not isinstance(tensor, torch.Tensor):
            continue
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise BadInput(
                f"the tensor {key} of the teacher from {name} is not finite",
                value="NaN or infinite values",
                bound="finite float32 weights",
                remedy="Train the teacher again.",
            )
        digest.update(f"{key}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()
