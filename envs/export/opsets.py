"""Two ONNX models that are to become one: the versions of operators that both understand."""

from __future__ import annotations

import onnx
from onnx import ModelProto, version_converter

from envs.export.tidy import STANDARD, declare, domains_of, nodes_of


def agreed(first: ModelProto, second: ModelProto) -> tuple[ModelProto, ModelProto]:
    """Both models, declaring what they use, every domain in one version.

    A domain that both use in different versions is settled on one in which no operator of either
    means anything else; of the standard domain the older model is converted where there is none.

    Raises:
        ValueError: there is no such version.
    """
    first, second = _copy(first), _copy(second)
    for domain in sorted(domains_of(first) & domains_of(second)):
        one, two = _version(first, domain), _version(second, domain)
        if one == two:
            continue
        shared = next((v for v in _by_choice(one, two) if _means_same(first, domain, v)
                       and _means_same(second, domain, v)), None)  # fmt: skip
        if shared is None:
            if domain:
                raise _apart(domain, one, two)
            shared = max(one, two)
            first, second = _converted(first, shared), _converted(second, shared)
        for model in (first, second):
            _set(model, domain, shared)
    versions = {"": max(_version(first, ""), _version(second, ""))}
    for model in (first, second):
        versions |= {name: _version(model, name) for name in domains_of(model)}
    for model in (first, second):
        declare(model, {name: version for name, version in versions.items() if name or version})
    return first, second


def _by_choice(one: int, two: int) -> list[int]:
    """The newer of two versions, the older, and those between."""
    low, high = sorted((one, two))
    return [high, low, *range(high - 1, low, -1)]


def _means_same(model: ModelProto, domain: str, version: int) -> bool:
    """Whether no operator that the model uses differs between its version and this one."""
    now = _version(model, domain)
    used = {node.op_type for node in nodes_of(model) if _domain(node.domain) == domain}
    return now == version or all(
        _since(name, domain, now) == _since(name, domain, version) for name in used
    )


def _since(operator: str, domain: str, version: int) -> object:
    """The version that an operator has been the same since; itself where ONNX does not know it."""
    try:
        schema = onnx.defs.get_schema(operator, version, domain)
    except onnx.defs.SchemaError:
        return operator, version
    return (schema.since_version, schema.deprecated)


def _converted(model: ModelProto, version: int) -> ModelProto:
    now = _version(model, "")
    if now == version:
        return model
    try:
        return version_converter.convert_version(model, version)
    except Exception as error:  # the converter's errors share no class of their own
        raise _apart("", now, version) from error


def _version(model: ModelProto, domain: str) -> int:
    """The version that a model declares; 0 where it declares none."""
    return max((i.version for i in model.opset_import if _domain(i.domain) == domain), default=0)


def _set(model: ModelProto, domain: str, version: int) -> None:
    for item in model.opset_import:
        if _domain(item.domain) == domain:
            item.version = version


def _domain(name: str) -> str:
    return "" if name == STANDARD else name


def _copy(model: ModelProto) -> ModelProto:
    copied = ModelProto()
    copied.CopyFrom(model)
    return copied


def _apart(domain: str, one: int, two: int) -> ValueError:
    return ValueError(
        f"the two files use versions {one} and {two} of the operators {domain or STANDARD}, and "
        "no version means the same to both"
    )
