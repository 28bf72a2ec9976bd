"""What the pages of the providers say is so, and every provider has one."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from google.protobuf import json_format
from tests.docs.answers import ANSWERERS
from tests.docs.asked import BLOCK_FIELDS, LOST_BY_NOBODY, NOT_SENT, REQUEST_FIELDS, SAMPLES, request_of
from tests.docs.askers import ASKERS
from tests.docs.mapping import codes_in, covering, disagreements, rows_of, unheard
from tests.docs.pages import ROOT, blocks_of

from execution_platform.adapters.registry import Registry
from execution_platform.adapters.spi import ProviderSpec
from execution_platform.v1 import chat_pb2

FOLDER = ROOT / "docs/providers"
INDEX = FOLDER / "index.md"
SPECS = Registry.discover().specs()
SECTIONS = ("credentials", "models", "options", "what maps where", "known gaps")
FIELDS = [field for field in (*REQUEST_FIELDS, *BLOCK_FIELDS) if field not in NOT_SENT]


def page_of(spec: ProviderSpec) -> Path:
    """Return where a provider's page is."""
    return FOLDER / f"{spec.name.replace('_', '-')}.md"


def values_in(cell: str) -> set[str]:
    """Return the names of an enum's values that are marked as code."""
    return {code for code in codes_in(cell) if code.isupper()}


def name_of(spec: ProviderSpec) -> str:
    """Return a provider's name for the report."""
    return spec.name


@pytest.mark.parametrize("spec", SPECS, ids=name_of)
def test_every_provider_has_a_page(spec: ProviderSpec) -> None:
    """Each provider's page says which API is spoken, has the five sections, each with content, and is in the index."""
    assert page_of(spec).exists(), f"write {page_of(spec).relative_to(ROOT)}"
    text = page_of(spec).read_text()
    assert re.search(r"^API: \S", text, re.MULTILINE)
    parts = re.split(r"^## (.*)$", text, flags=re.MULTILINE)
    sections = dict(zip((head.lower() for head in parts[1::2]), parts[2::2], strict=True))
    assert [section for section in SECTIONS if not sections.get(section, "").strip()] == []
    assert f"]({page_of(spec).name})" in INDEX.read_text()


@pytest.mark.parametrize("spec", SPECS, ids=name_of)
def test_every_setting_of_a_provider_is_on_its_page(spec: ProviderSpec) -> None:
    """Each variable that a provider reads is named on its page."""
    text = page_of(spec).read_text()
    names = [option.name for option in spec.options]
    if spec.needs_key or spec.name not in {"local", "scripted"}:
        names += ["api_key", "base_url"]
    missing = [name for name in names if f"`EP_{spec.name.upper()}_{name.upper()}`" not in text]
    assert missing == []


@pytest.mark.parametrize("spec", SPECS, ids=name_of)
def test_requests_of_a_page_are_requests(spec: ProviderSpec) -> None:
    """Each JSON block of a provider's page is a chat with that provider, whose options are JSON objects."""
    requests = [block for block in blocks_of(page_of(spec)) if block.language == "json"]
    assert requests or any(block.language in {"sh", "python"} for block in blocks_of(page_of(spec)))
    for block in requests:
        request = json_format.Parse(block.code, chat_pb2.ChatRequest())
        assert request.model.partition("/")[0] == spec.name, block
        for options in request.provider_options:
            assert options.provider in {spec.name, spec.family}, block
            assert isinstance(json.loads(options.options_json), dict), block


def test_every_field_has_a_sample() -> None:
    """For each field of the contract that may reach a provider there is a request that has it."""
    assert sorted(set(FIELDS) ^ SAMPLES.keys()) == []


def test_what_no_provider_is_told() -> None:
    """The index names the fields that are the platform's own."""
    named = set(codes_in(INDEX.read_text()))
    tops = {field.split(".")[0] if field.startswith("routing") else field for field in NOT_SENT}
    assert sorted(tops - named) == []


@pytest.mark.parametrize("name", ASKERS)
def test_every_field_is_on_the_page(name: str) -> None:
    """Each field of the contract that may reach a provider is in the tables of each provider's page."""
    rows = rows_of(FOLDER / f"{name}.md", "asked with")
    assert [field for field in FIELDS if covering(rows, field) is None] == []
    known = {path for field in FIELDS for path in _parents(field)}
    assert sorted({path for row in rows for path in codes_in(row[0])} - known) == []


@pytest.mark.parametrize("name", ASKERS)
def test_fields_go_where_the_page_says(name: str) -> None:
    """What the tables say of fields is what requests to all known models show: places in the body, and notices."""
    assert list(disagreements(rows_of(FOLDER / f"{name}.md", "asked with"), ASKERS[name])) == []


@pytest.mark.parametrize("name", sorted(ASKERS.keys() - {"scripted"}))
def test_nothing_is_lost_in_silence(name: str) -> None:
    """A field that a provider is not told of gives a notice, unless no caller loses anything by it."""
    assert [field for field in unheard(ASKERS[name]) if field not in LOST_BY_NOBODY] == []


@pytest.mark.parametrize("name", ANSWERERS)
def test_ends_are_what_the_page_says(name: str) -> None:
    """Each word for an answer's end becomes the reason that the page says, and every reason is there."""
    rows = rows_of(FOLDER / f"{name}.md", "ended with")
    wrong = [
        f"{word} is {ANSWERERS[name].reason_of(word)}"
        for row in rows
        for word in codes_in(row[0])
        if ANSWERERS[name].reason_of(word) not in values_in(row[1])
    ]
    assert wrong == []
    assert {reason for row in rows for reason in values_in(row[1])} == ANSWERERS[name].named("FINISH_REASON")


@pytest.mark.parametrize("name", ANSWERERS)
def test_usage_is_what_the_page_says(name: str) -> None:
    """Each number of the provider's changes the items that the page says, and every kind of item is there."""
    rows = rows_of(FOLDER / f"{name}.md", "used")
    changed = {path: ANSWERERS[name].kinds_changed(path) for row in rows for path in codes_in(row[0])}
    said = {path: values_in(row[1]) for row in rows for path in codes_in(row[0])}
    assert changed == said
    assert set().union(*said.values()) == ANSWERERS[name].named("USAGE_KIND")


@pytest.mark.parametrize("name", ANSWERERS)
def test_errors_are_what_the_page_says(name: str) -> None:
    """Each failure of the page becomes the reason that the page says."""
    rows = rows_of(FOLDER / f"{name}.md", "failed with")
    assert rows
    wrong = []
    for row in rows:
        status, *codes = codes_in(row[0])
        message = re.search(r'"([^"]+)"', row[0])
        for code in codes or [""]:
            reason = ANSWERERS[name].failure_of(int(status), code, message[1] if message else "")
            if f"`{reason}`" not in row[1]:
                wrong.append(f"{row[0]}: {code or status} is {reason}")
    assert wrong == []


def test_the_tables_notice_what_is_wrong() -> None:
    """A row that names another place or another notice than there is, is told."""
    request = request_of({}, "anthropic")
    assert request.messages
    rows = [["`sampling.top_k`", "`top_q`", ""], ["`sampling.top_p`", "`top_p`", "`PARAM_DROPPED`"]]
    found = list(disagreements(rows, ASKERS["anthropic"]))
    assert [line.partition(":")[0] for line in found] == ["`sampling.top_k`", "`sampling.top_k`"]


def _parents(field: str) -> list[str]:
    parts = field.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts) + 1)]
