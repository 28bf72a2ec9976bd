"""Whatever is in a file, it is read or refused with lines: nothing else comes of it."""

from __future__ import annotations

import json
from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st
from tests.server.personas.reading import KNOWN, problems_of

from execution_platform.server.config.document import parse
from execution_platform.server.config.nodes import Fields, Items, Node, Problems, Scalar
from execution_platform.server.config.personas import PersonaSettings, PlatformConfiguration
from execution_platform.server.config.spelling import WRITTEN_ONLY

WORDS = ["a", "b", "openai", "opnai", "openai/gpt-4", "fast", "tools", "vision", "weighted", "eu", "1s", "", "blind"]
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.sampled_from(WORDS)
)
PERSONA_KEYS = [*PersonaSettings.model_fields, *WRITTEN_ONLY, "model", "tokens_per_min", "name", "x y"]


def values(keys: list[str]) -> st.SearchStrategy[Any]:
    """Values of some levels, whose mappings have these keys."""
    return st.recursive(
        SCALARS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(keys), inner, max_size=4),
        max_leaves=12,
    )


PERSONAS = st.dictionaries(st.sampled_from(["a", "b", "c"]), values(PERSONA_KEYS), max_size=3)
FILES = st.fixed_dictionaries(
    {},
    optional={
        "personas": PERSONAS,
        **{name: values([*PERSONA_KEYS, "openai", "openai/x"]) for name in PlatformConfiguration.model_fields},
    },
)


def plain(node: Node | None) -> Any:
    """Return what a tree says, as Python has it."""
    match node:
        case Fields():
            return {key: plain(value) for key, value in node.entries.items()}
        case Items():
            return [plain(value) for value in node]
        case Scalar():
            return json.loads(node.json)
        case None:
            return None


@given(FILES | PERSONAS)
def test_every_file_is_read_or_refused(content: dict[str, Any]) -> None:
    """A file of known and unknown keys with any values gives a configuration or lines that begin with its name."""
    for file, text in (("p.json", json.dumps(content)), ("p.yaml", yaml.safe_dump(content))):
        problems = problems_of((file, text))
        assert [line for line in problems if not line.startswith(f"{file}:")] == []


@given(st.binary(max_size=200) | st.text(alphabet="{}[]:,&*!<>|-?#'\"\\ \n\tab01", max_size=60).map(str.encode))
def test_every_byte_is_read_or_refused(data: bytes) -> None:
    """Bytes of any kind give a tree or a problem, as YAML and as JSON."""
    for file in ("p.yaml", "p.json", "p"):
        problems = Problems()
        assert parse(file, data, problems) is not None or problems


@given(values(["a", "b c", "ä", "1", "true"]))
def test_what_is_read_is_what_was_written(content: Any) -> None:
    """The tree of JSON, and of YAML that another writer made, says what was written."""
    for file, text in (("p.json", json.dumps(content)), ("p.yaml", yaml.safe_dump(content, allow_unicode=True))):
        problems = Problems()
        assert plain(parse(file, text.encode(), problems)) == content
        assert not problems


def test_the_names_are_known() -> None:
    """The words that these tests play with are partly names of this server, and partly not."""
    known = KNOWN.providers() | set(KNOWN.aliases)
    assert {word in known for word in WORDS} == {True, False}
