"""A job written down: as YAML, and as the command line that does it."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import yaml

from edge.errors import BadInput
from search.job.spec import JobSpec, fields


def read_yaml(path: Path) -> dict[str, Any]:
    """The keys of a YAML file, unchecked.

    Raises:
        BadInput: no file, no YAML, or not a mapping.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadInput(
            "no such job file",
            value=str(path),
            bound="a YAML file",
            remedy="Write one with `understudy config > job.yaml`.",
        ) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BadInput(
            f"the job file {path} cannot be read",
            value=" ".join(str(error).split())[:200],
            bound="YAML: one `key: value` a line",
            remedy="Compare it with `understudy config`.",
        ) from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise BadInput(
            f"the job file {path} is not a list of settings",
            value=type(data).__name__,
            bound="YAML: one `key: value` a line",
            remedy="Compare it with `understudy config`.",
        )
    return {str(key): value for key, value in data.items() if value is not None}


def to_yaml(spec: JobSpec | None = None) -> str:
    """The job as commented YAML; without one, every default, fields without a default open."""
    lines: list[str] = []
    group = ""
    for section, name, help_, default in fields():
        if section != group:
            lines += ["", f"# --- {section}"] if group else [f"# --- {section}"]
            group = section
        value = default if spec is None else getattr(spec, name)
        lines.append(f"# {help_}")
        if value is ...:
            lines.append(f"# {name}:")
        elif value is None:
            lines.append(f"{name}: null")
        else:
            plain = list(value) if isinstance(value, tuple) else value
            lines.append(f"{name}: {json.dumps(plain)}")
    return "\n".join(lines) + "\n"


def command_of(spec: JobSpec) -> str:
    """The command line that does this job: what is not the default, and no more."""
    words = ["understudy", "search"]
    for _, name, _, default in fields():
        value = getattr(spec, name)
        if value == default:
            continue
        flag = "--" + name.replace("_", "-")
        if isinstance(value, bool):
            words.append(flag if value else f"--no-{flag[2:]}")
        else:
            words += [flag, ",".join(map(str, value)) if isinstance(value, tuple) else str(value)]
    return shlex.join(words)
