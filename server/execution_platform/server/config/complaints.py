"""Turns what a model finds wrong into lines that name the place and what to write."""

from __future__ import annotations

import json
import re
import types
import typing
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from execution_platform.server.config.nodes import Fields, Items, Node, Problems, Scalar, nearest, one_of, shown

__all__ = ["validated"]

M = TypeVar("M", bound=BaseModel)

#: What to write where a type is wrong, by the kind of pydantic's error.
_TYPES: Mapping[str, str] = {
    "bool_type": "must be true or false",
    "int_type": "must be a whole number, such as 1000",
    "int_from_float": "must be a whole number, such as 1000",
    "float_type": "must be a number, such as 0.5",
    "decimal_type": "must be a number, such as 0.50",
    "decimal_parsing": "must be a number, such as 0.50, without a currency",
    "finite_number": "must be a finite number",
    "tuple_type": "must be a list, such as [first, second]",
    "frozen_set_type": "must be a list, such as [first, second]",
    "dict_type": "must be a mapping of keys to values",
    "model_type": "must be a mapping of keys to values",
    "string_too_short": "must not be empty",
    "decimal_max_places": "has too many digits behind the point",
}

_BOUNDS: Mapping[str, tuple[str, str]] = {
    "greater_than": ("must be above", "gt"),
    "greater_than_equal": ("must be at least", "ge"),
    "less_than": ("must be below", "lt"),
    "less_than_equal": ("must be at most", "le"),
    "too_long": ("must not have more entries than", "max_length"),
    "string_too_long": ("must not have more characters than", "max_length"),
}

_PATTERNS: Mapping[str, str] = {
    "^[0-9a-f]{64}$": "must be a SHA-256 digest: 64 digits and letters a to f (never the token itself)",
    "^[A-Za-z0-9][A-Za-z0-9_.:+/ -]{0,63}$": "must be 1 to 64 letters, digits, blanks or any of '_.:+/-'",
    "^[A-Za-z0-9_.*-]{1,128}$": "must be 1 to 128 letters, digits, '_', '-' or '.', or '*' for any of them",
}

#: Keys that people write where they do not belong, and what to do instead.
_SECRETS = re.compile(r"(api_?)?key|token|secret|password|credentials?", re.IGNORECASE)


def validated(model: type[M], node: Node, problems: Problems, further_keys: tuple[str, ...] = ()) -> M | None:
    """Return what a value says as a model; None: it is wrong, and `problems` has it all.

    Args:
        model: what it must fit.
        node: the value.
        problems: takes what is wrong.
        further_keys: keys that may be written here besides the model's, for who misspells them.
    """
    if isinstance(node, Scalar) and node.kind == "null" and not _needs_something(model):
        return model()
    if not isinstance(node, Fields):
        problems.add(node, _TYPES["model_type"])
        return None
    try:
        return model.model_validate_json(_json(node, model), strict=True)
    except ValidationError as error:
        for each in error.errors(include_url=False, include_input=False):
            _tell(each, model, node, problems, further_keys)
        return None


def _needs_something(model: type[BaseModel]) -> bool:
    return any(field.is_required() for field in model.model_fields.values())


def _tell(
    error: ErrorDetails, model: type[BaseModel], root: Fields, problems: Problems, further_keys: tuple[str, ...]
) -> None:
    kind, location = error["type"], error["loc"]
    outer, annotation = _follow(root, model, location[:-1])
    last = location[-1] if location else ""
    if kind == "missing":
        problems.add(outer, f"`{last}` is missing")
    elif kind == "extra_forbidden" and isinstance(outer, Fields):
        name = str(last)
        known = [*_written(annotation), *(further_keys if len(location) == 1 else ())]
        problems.at(outer.keys[name], outer.entries[name].path, _unknown(name, known))
    else:
        node, _ = _follow(root, model, location)
        problems.add(node, _what(error, node))


def _unknown(name: str, known: list[str]) -> str:
    near = nearest(name, known)
    if near:
        return f"unknown key; did you mean {near!r}?"
    if _SECRETS.fullmatch(name):
        return "unknown key; credentials do not belong into this file: set EP_<PROVIDER>_API_KEY"
    return f"unknown key; {one_of(name, known)}"


def _what(error: ErrorDetails, node: Node) -> str:
    kind, context = error["type"], error.get("ctx", {})
    if kind in _BOUNDS:
        words, name = _BOUNDS[kind]
        bound = context[name]
        return f"{words} {bound:g}" if isinstance(bound, float) else f"{words} {bound}"
    if kind == "string_type":
        return _as_text(node)
    if kind in {"enum", "literal_error"}:
        return _one_of(str(context["expected"]), node)
    if kind == "string_pattern_mismatch":
        return _PATTERNS.get(str(context["pattern"]), "is not of the form that is wanted here")
    if kind == "value_error":
        return str(context["error"])
    return _TYPES.get(kind) or error["msg"][:1].lower() + error["msg"][1:]


def _as_text(node: Node) -> str:
    if isinstance(node, Scalar) and node.kind in {"int", "float", "bool"} and shown(node.text):
        return f'must be a text: write "{node.text}", in quotes'
    return "must be a text"


def _one_of(expected: str, node: Node) -> str:
    names = re.findall(r"'([^']+)'", expected)
    if not names:
        return f"must be {expected}"
    text = node.text if isinstance(node, Scalar) else ""
    word = f"{shown(text)} is not known here" if shown(text) else "is not known here"
    return f"{word}; {one_of(text, names)}"


def _follow(node: Node, annotation: Any, location: tuple[int | str, ...]) -> tuple[Node, Any]:
    """Return the value at a location, and what it must be; the last one there is where it goes further than that."""
    for step in location:
        annotation = _inner(annotation, step)
        if isinstance(node, Fields) and isinstance(step, str) and step in node.entries:
            node = node.entries[step]
        elif isinstance(node, Items) and isinstance(step, int) and step < len(node.items):
            node = node.items[step]
        else:
            break
    return node, _bare(annotation)


def _written(model: type[BaseModel]) -> dict[str, Any]:
    """Return what a model's values must be, by their keys in the file."""
    return {field.alias or name: field.annotation for name, field in model.model_fields.items()}


def _bare(annotation: Any) -> Any:
    """Return a type without its notes and without None."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _bare(typing.get_args(annotation)[0])
    if origin in {typing.Union, types.UnionType}:
        kinds = [each for each in typing.get_args(annotation) if each is not type(None)]
        return _bare(kinds[0]) if len(kinds) == 1 else Any
    return annotation


def _inner(annotation: Any, step: int | str) -> Any:
    """Return what a value inside of another must be."""
    annotation = _bare(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return _written(annotation).get(str(step), Any)
    arguments = typing.get_args(annotation)
    if not arguments:
        return Any
    return arguments[1] if typing.get_origin(annotation) is dict else arguments[0]


def _json(node: Node, annotation: Any) -> str:
    """Return a value as JSON for a model: a null is as a missing key, and money is a text that keeps its digits."""
    annotation = _bare(annotation)
    if isinstance(node, Fields):
        return "{" + ", ".join(_pairs(node, annotation)) + "}"
    if isinstance(node, Items):
        return "[" + ", ".join(_json(each, _inner(annotation, 0)) for each in node) + "]"
    return f'"{node.json}"' if annotation is Decimal and node.kind in {"int", "float"} else node.json


def _pairs(node: Fields, annotation: Any) -> Iterator[str]:
    for key, value in node.entries.items():
        inner = _inner(annotation, key)
        if inner is not Any and isinstance(value, Scalar) and value.kind == "null":
            continue
        yield f"{json.dumps(key)}: {_json(value, inner)}"
