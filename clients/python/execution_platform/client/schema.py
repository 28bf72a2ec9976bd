"""Python types as JSON schemas, and JSON values as values of those types.

Known are: str, int, float, bool, None, Any, Literal, unions, enums, lists, sets, tuples, mappings with text keys,
dataclasses, TypedDicts, datetime, date and UUID, and Annotated with a description (a text) or more of the schema (a
mapping) of any of these. Schema: https://json-schema.org/draft/2020-12
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import inspect
import re
import types
import typing
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Annotated, Any, Literal, TypeAlias, TypeVar, Union, get_args, get_origin

__all__ = [
    "ABSENT",
    "Field",
    "Schema",
    "described_names",
    "from_json",
    "object_from_json",
    "object_schema",
    "type_schema",
]

Schema: TypeAlias = dict[str, Any]

ABSENT: Any = inspect.Parameter.empty
"""Default of a field that must be given."""

_PLAIN: dict[Any, str] = {str: "string", int: "integer", float: "number", bool: "boolean", types.NoneType: "null"}
_WRITTEN: dict[Any, tuple[str, Callable[[str], Any]]] = {
    dt.datetime: ("date-time", dt.datetime.fromisoformat),
    dt.date: ("date", dt.date.fromisoformat),
    uuid.UUID: ("uuid", uuid.UUID),
}
_LISTS = (list, Sequence, Iterable, Collection)
_SETS = (set, frozenset, AbstractSet)
_MAPPINGS = (dict, Mapping)


@dataclasses.dataclass(frozen=True, slots=True)
class Field:
    """One named value of an object: a parameter of a function, or a field of a dataclass or TypedDict."""

    name: str
    annotation: Any = ABSENT
    default: Any = ABSENT
    required: bool = True
    description: str = ""


def type_schema(annotation: Any) -> Schema:
    """Return the JSON schema of a type.

    Raises:
        TypeError: the type has no JSON form that is known here, or contains itself.
    """
    return _schema(annotation, ())


def object_schema(fields: Iterable[Field]) -> Schema:
    """Return the JSON schema of an object with these fields and no others."""
    return _object_schema(fields, ())


def _object_schema(fields: Iterable[Field], inside: tuple[Any, ...]) -> Schema:
    properties: Schema = {}
    required = []
    for field in fields:
        schema = _schema(field.annotation, inside)
        if field.description:
            schema.setdefault("description", field.description)
        if isinstance(field.default, str | int | float):
            schema["default"] = field.default
        properties[field.name] = schema
        if field.required:
            required.append(field.name)
    needed = {"required": required} if required else {}
    return {"type": "object", "properties": properties, **needed, "additionalProperties": False}


def _schema(annotation: Any, inside: tuple[Any, ...]) -> Schema:
    annotation, origin, arguments = _taken_apart(annotation)
    if origin is Annotated:
        return _annotated(arguments, inside)
    if annotation in (Any, object, ABSENT):
        return {}
    if annotation in _PLAIN:
        return {"type": _PLAIN[annotation]}
    if annotation in _WRITTEN:
        return {"type": "string", "format": _WRITTEN[annotation][0]}
    if origin is Literal:
        return _enumerated(list(arguments))
    if origin is Union:
        return {"anyOf": [_schema(each, inside) for each in arguments]}
    if origin in _LISTS or origin in _SETS or origin is tuple:
        return _array(origin, arguments, inside)
    if origin in _MAPPINGS:
        return _mapping(arguments, inside)
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return _enumerated([member.value for member in annotation])
    return _structure(annotation, inside)


def _taken_apart(annotation: Any) -> tuple[Any, Any, tuple[Any, ...]]:
    """Return a type without aliases, what it is made from, and its arguments."""
    if annotation is None:
        return types.NoneType, None, ()
    while True:
        inner = getattr(annotation, "__supertype__", None) or getattr(annotation, "__value__", None)
        if inner is None or isinstance(annotation, enum.Enum):
            break
        annotation = inner
    origin = get_origin(annotation)
    if origin is None and annotation in (*_LISTS, *_SETS, *_MAPPINGS, tuple):
        origin = annotation  # list, written without its items' type
    return annotation, Union if origin is types.UnionType else origin, get_args(annotation)


def _annotated(arguments: tuple[Any, ...], inside: tuple[Any, ...]) -> Schema:
    schema = _schema(arguments[0], inside)
    for note in arguments[1:]:
        if isinstance(note, str):
            schema["description"] = note
        elif isinstance(note, Mapping):
            schema.update(note)
    return schema


def _enumerated(values: list[Any]) -> Schema:
    values = [value.value if isinstance(value, enum.Enum) else value for value in values]
    kinds = {_PLAIN.get(type(value)) for value in values}
    if None in kinds:
        raise TypeError(f"of {values} not every value has a JSON form")
    return {"enum": values} | ({"type": kinds.pop()} if len(kinds) == 1 else {})


def _array(origin: Any, arguments: tuple[Any, ...], inside: tuple[Any, ...]) -> Schema:
    if origin is tuple and arguments and arguments[-1] is not Ellipsis:
        items = [_schema(each, inside) for each in arguments]
        return {"type": "array", "prefixItems": items, "minItems": len(items), "maxItems": len(items)}
    unique = {"uniqueItems": True} if origin in _SETS else {}
    return {"type": "array", "items": _schema(arguments[0] if arguments else Any, inside), **unique}


def _mapping(arguments: tuple[Any, ...], inside: tuple[Any, ...]) -> Schema:
    if not arguments:
        return {"type": "object"}
    if _taken_apart(arguments[0])[0] is not str:
        raise TypeError("a JSON object has text keys only")
    return {"type": "object", "additionalProperties": _schema(arguments[1], inside)}


def _structure(annotation: Any, inside: tuple[Any, ...]) -> Schema:
    fields = _structure_fields(annotation)
    if fields is None:
        raise TypeError(f"{annotation!r} has no JSON schema that is known here")
    if annotation in inside:
        raise TypeError(f"{annotation.__name__} contains itself: give the schema by hand")
    schema = _object_schema(fields, (*inside, annotation))
    if summary := _summary(annotation):
        schema["description"] = summary
    return schema


def _structure_fields(annotation: Any) -> list[Field] | None:
    """Return the fields of a dataclass or TypedDict; None: it is neither."""
    if dataclasses.is_dataclass(annotation) and isinstance(annotation, type):
        hints, said = resolved_hints(annotation), described_names(annotation.__doc__)
        return [
            Field(each.name, hints[each.name], each.default, _is_required(each), said.get(each.name, ""))
            for each in dataclasses.fields(annotation)
            if each.init
        ]
    if typing.is_typeddict(annotation):
        hints, said = resolved_hints(annotation), described_names(annotation.__doc__)
        needed = annotation.__required_keys__
        return [
            Field(name, _unmarked(hint), ABSENT, name in needed, said.get(name, "")) for name, hint in hints.items()
        ]
    return None


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _unmarked(hint: Any) -> Any:
    return get_args(hint)[0] if get_origin(hint) in (typing.Required, typing.NotRequired) else hint


def resolved_hints(subject: Any) -> dict[str, Any]:
    """Return the annotations of a function or class as types.

    Raises:
        TypeError: one of them names what cannot be found from there.
    """
    try:
        return typing.get_type_hints(subject, include_extras=True)
    except NameError as error:
        raise TypeError(f"an annotation of {subject.__name__} cannot be resolved: {error}") from error


def _summary(subject: Any) -> str:
    documentation = inspect.getdoc(subject) or ""
    if documentation.startswith(f"{subject.__name__}(") or subject.__doc__ is None:
        return ""  # made by @dataclass, or inherited
    return " ".join(documentation.split("\n\n")[0].split())


_SECTION = re.compile(r"^(?:Args|Arguments|Parameters|Attributes):\s*$")
_GOOGLE_ENTRY = re.compile(r"^(\s+)\*{0,2}(\w+)\s*(?:\([^)]*\))?:\s+(.*)$")
_SPHINX_ENTRY = re.compile(r"^:param\s+(?:[\w\[\], .|]+\s+)?(\w+):\s*(.*)$")


def described_names(documentation: str | None) -> dict[str, str]:
    """Return what a docstring, in Google's or Sphinx's style, says of each parameter or attribute."""
    said: dict[str, str] = {}
    name, indent, in_section = "", "", False
    for line in inspect.cleandoc(documentation or "").splitlines():
        entry = _GOOGLE_ENTRY.match(line) if in_section else None
        if sphinx := _SPHINX_ENTRY.match(line):
            name, in_section, indent = sphinx[1], False, ""
            said[name] = sphinx[2]
        elif entry and (not indent or entry[1] == indent):
            indent, name = entry[1], entry[2]
            said[name] = entry[3]
        elif line.startswith(" ") and name and line.strip():
            said[name] = f"{said[name]} {line.strip()}".strip()
        elif line.strip() or not in_section:
            in_section, name, indent = bool(_SECTION.match(line)), "", ""
    return said


def from_json(annotation: Any, value: Any, path: str = "") -> Any:
    """Return a decoded JSON value as a value of a type that `type_schema` knows.

    Raises:
        ValueError: the value does not fit; the message names the place.
    """
    annotation, origin, arguments = _taken_apart(annotation)
    if origin is Annotated:
        return from_json(arguments[0], value, path)
    if annotation in (Any, object, ABSENT):
        return value
    if annotation in _PLAIN:
        return _plain(annotation, value, path)
    if annotation in _WRITTEN:
        return _written(annotation, value, path)
    if origin is Literal:
        return _member(arguments, value, path)
    if origin is Union:
        return _first_that_fits(arguments, value, path)
    if origin in _LISTS or origin in _SETS or origin is tuple:
        return _items(origin, arguments, value, path)
    if origin in _MAPPINGS:
        kind = arguments[1] if arguments else Any
        entries = _expect(dict, value, "an object", path)
        return {key: from_json(kind, each, _at(path, key)) for key, each in entries.items()}
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return annotation(_member([member.value for member in annotation], value, path))
    made = object_from_json(_structure_fields(annotation) or [], value, path)
    return annotation(**made)


def object_from_json(fields: Iterable[Field], value: Any, path: str = "") -> dict[str, Any]:
    """Return an object's values by name; fields that are not there are left out where that is allowed.

    Raises:
        ValueError: the value is no object, lacks a field, has an unknown one, or one does not fit.
    """
    given = _expect(dict, value, "an object", path)
    known = {field.name: field for field in fields}
    if unknown := given.keys() - known.keys():
        raise ValueError(f"{_at(path, min(unknown))} is not known; known are: {', '.join(known) or 'none'}")
    if missing := [name for name, field in known.items() if field.required and name not in given]:
        raise ValueError(f"{_at(path, missing[0])} is missing")
    return {name: from_json(known[name].annotation, each, _at(path, name)) for name, each in given.items()}


def _plain(annotation: Any, value: Any, path: str) -> Any:
    if annotation is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if annotation is int and isinstance(value, float) and value.is_integer():
        return int(value)  # models write 3.0 for 3, and in JSON they are the same number
    if type(value) is not annotation:
        raise ValueError(f"{path or 'the value'} is not of type {_PLAIN[annotation]}")
    return value


def _written(annotation: Any, value: Any, path: str) -> Any:
    kind, read = _WRITTEN[annotation]
    try:
        return read(_expect(str, value, "a text", path))
    except ValueError as error:
        raise ValueError(f"{path or 'the value'} is not of the form {kind}") from error


def _member(values: Collection[Any], value: Any, path: str) -> Any:
    for each in values:
        plain = each.value if isinstance(each, enum.Enum) else each
        if plain == value and type(plain) is type(value):
            return each
    raise ValueError(f"{path or 'the value'} is not one of {', '.join(map(repr, values))}")


def _first_that_fits(kinds: Iterable[Any], value: Any, path: str) -> Any:
    faults = []
    for kind in kinds:
        try:
            return from_json(kind, value, path)
        except ValueError as error:
            faults.append(str(error))
    raise ValueError(f"{path or 'the value'} fits none of its types: {'; '.join(faults)}")


def _items(origin: Any, arguments: tuple[Any, ...], value: Any, path: str) -> Any:
    given = _expect(list, value, "a list", path)
    if origin is tuple and arguments and arguments[-1] is not Ellipsis:
        if len(given) != len(arguments):
            raise ValueError(f"{path or 'the value'} has not {len(arguments)} items")
        return tuple(
            from_json(kind, each, f"{path}[{i}]") for i, (kind, each) in enumerate(zip(arguments, given, strict=True))
        )
    kind = arguments[0] if arguments else Any
    items = [from_json(kind, each, f"{path}[{i}]") for i, each in enumerate(given)]
    if origin in _SETS:
        return frozenset(items) if origin is frozenset else set(items)
    return tuple(items) if origin is tuple else items


_Kind = TypeVar("_Kind")


def _expect(kind: type[_Kind], value: Any, name: str, path: str) -> _Kind:
    if not isinstance(value, kind):
        raise ValueError(f"{path or 'the value'} is not {name}")  # noqa: TRY004 - a value that does not fit
    return value


def _at(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
