"""The job's fields as command-line options, so that both are one list."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
from pydantic import BaseModel

from edge.errors import BadInput
from search.job.choices import CHOICES
from search.job.spec import JobSpec, fields, make_spec, overridden
from search.job.spec_file import read_yaml

#: of ``--strict``, wherever there is one
STRICT_HELP = "End with exit code 3 where a warning stands."
#: of latency and of routers, which a ledger does not know
_ELSEWHERE = ("max_ms", "gamma", "l0", "max_pair_kb")
#: fields that a candidate's reward follows from, and the limits that it has to keep
REWARD_FIELDS = tuple(
    name
    for group, name, *_ in fields()
    if (group == "Reward" or name.startswith("max_") or name == "proxy_gain")
    and name not in _ELSEWHERE
)


def takes_job(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command one option per field of the job in place of its ``**options``.

    An option that is not given is None and leaves the YAML file's value, or the default, alone.
    """
    return takes_fields(JobSpec.model_fields, defaults=True)(command)


def takes_fields(
    names: Iterable[str], defaults: bool = False, model: type[BaseModel] = JobSpec
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """As :func:`takes_job`, for some fields of the job, or of another typed object.

    ``defaults`` are told in the help.
    """

    def give(command: Callable[..., None]) -> Callable[..., None]:
        given = [
            parameter
            for parameter in inspect.signature(command, eval_str=True).parameters.values()
            if parameter.kind is not inspect.Parameter.VAR_KEYWORD
        ]
        command.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [*given, *(_option(model, name, defaults) for name in names)]
        )
        command.__annotations__ = {
            parameter.name: parameter.annotation
            for parameter in command.__signature__.parameters.values()  # type: ignore[attr-defined]
        }
        return command

    return give


def _option(model: type[BaseModel], name: str, defaults: bool) -> inspect.Parameter:
    info = model.model_fields[name]
    about = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    kinds = get_args(info.annotation) or (info.annotation,)
    flag = "--" + name.replace("_", "-")
    many = info.annotation is not None and "tuple" in str(info.annotation)
    kind: Any = str if many else next(k for k in kinds if k is not type(None))
    told = defaults and not (info.is_required() or info.default in (None, ()))
    default: Any = info.default if told else False
    option = typer.Option(
        *((f"{flag}/--no-{flag[2:]}",) if kind is bool else (flag,)),
        help=(info.description or "") + (" Comma-separated." if many else ""),
        metavar=_choices(name, many),
        rich_help_panel=str(about["group"]) if "group" in about else None,
        show_default=False if default is False else str(",".join(default) if many else default),
    )
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[kind | None, option],
    )


def _choices(name: str, many: bool) -> str | None:
    """What stands behind an option that takes names of a set."""
    names = CHOICES.get(name)
    if names is None:
        return None
    return ",".join(names) if many else f"[{'|'.join(names)}]"


def job_values(job: Path | None, resume: bool, options: Mapping[str, Any]) -> JobSpec:
    """The job of a YAML file (or, with ``resume``, of the run itself) under the options given.

    Raises:
        BadInput: a value that cannot be used.
    """
    values: dict[str, Any] = {} if job is None else read_yaml(job)
    chosen = as_values(options)
    if resume:
        values = _stored(chosen.get("out") or values.get("out")) | values
    return make_spec(overridden(values, chosen))


def as_values(options: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of the job from the options that were given; lists are written with commas."""
    chosen = {name: value for name, value in options.items() if value is not None}
    for name in ("pool", "protect", "families", "warm", "allowed_hosts"):
        if isinstance(chosen.get(name), str):
            chosen[name] = tuple(part.strip() for part in chosen[name].split(",") if part.strip())
    return chosen


def _stored(out: Any) -> dict[str, Any]:
    from search.job.run_folder import RunFolder

    if not out:
        raise BadInput(
            "--resume does not know which run",
            value=None,
            bound="the folder of a run",
            remedy="Give --out.",
        )
    return RunFolder(str(out)).stored_job().model_dump()
