"""Values made again from what JSON has of them."""

from collections.abc import Hashable, Mapping
from functools import cache
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import attrs

from proxy.daemon.control.protocol import NotUnderstoodError

T = TypeVar("T")


def decoded(kind: type[T], structure: object) -> T:
    """Return the value that `attrs.asdict` made ``structure`` of.

    Fields that a later version has added are left out.

    Args:
        kind: an attrs class whose fields are of type ``str``, ``int``, ``float``, ``bool``, such a
            class, ``None`` or one of these, ``tuple[T, ...]`` of these or ``dict[str, T]``.
        structure: what came.

    Raises:
        NotUnderstoodError: it is no such value.
    """
    if not isinstance(structure, Mapping):
        raise NotUnderstoodError(f"has no {kind.__name__} where one belongs")
    known: Any = kind  # an attrs class, which a type variable cannot say
    types = _types(known)
    values = {}
    for field in attrs.fields(known):
        if field.name in structure:
            values[field.name] = _value(types[field.name], structure[field.name], field.name)
        elif field.default is attrs.NOTHING:
            raise NotUnderstoodError(f"lacks {field.name}")
    return kind(**values)


@cache
def _types(kind: Hashable) -> dict[str, Any]:
    return get_type_hints(kind)


def _value(kind: Any, value: object, name: str) -> Any:
    if get_origin(kind) is UnionType:
        if value is None:
            return None
        kind = next(each for each in get_args(kind) if each is not type(None))
    if attrs.has(kind):
        return decoded(kind, value)
    if get_origin(kind) is tuple and isinstance(value, list):
        return tuple(_value(get_args(kind)[0], each, name) for each in value)
    if get_origin(kind) is dict and isinstance(value, dict):
        return {each: _value(get_args(kind)[1], it, name) for each, it in value.items()}
    if kind is float and type(value) is int:
        return float(value)
    if kind in (str, int, float, bool) and type(value) is kind:
        return value
    raise NotUnderstoodError(f"has something else for {name} than belongs there")
