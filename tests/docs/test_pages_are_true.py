"""What pages say of the code and of each other."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
from tests.docs.pages import PAGES, ROOT, prose_of

from execution_platform.adapters.registry import Registry
from execution_platform.server.config.settings import Settings

WRITTEN = [*PAGES, ROOT / "CONTRIBUTING.md"]
#: Variables that no setting of the server is: the client's, an example's, and a prefix.
OTHERS = {"EP_TARGET", "EP_TOKEN", "EP_TLS", "EP_CA", "EP_CERT", "EP_KEY"}


def name_of(page: Path) -> str:
    """Return a page's name for the report."""
    return str(page.relative_to(ROOT))


def anchors_of(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", WRITTEN, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    """Each relative link of the page names a file of the repository, and a heading in it where it says one."""
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose_of(page)):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        if not linked.exists() or (anchor and anchor not in anchors_of(linked)):
            broken.append(target)
    assert broken == []


def test_every_page_is_linked() -> None:
    """Each page of docs/ is linked from another one, so that readers find it."""
    linked = {
        (page.parent / target.partition("#")[0]).resolve()
        for page in WRITTEN
        for target in re.findall(r"\]\(([^)\s]+)\)", prose_of(page))
        if "://" not in target
    }
    assert [name_of(page) for page in sorted((ROOT / "docs").rglob("*.md")) if page not in linked] == []


@pytest.mark.parametrize("page", WRITTEN, ids=name_of)
def test_settings_that_a_page_names_exist(page: Path) -> None:
    """Each EP_ variable of the page is a setting of the server, of one of its providers or of the client."""
    known = OTHERS | {f"EP_{name.upper()}" for name in Settings.model_fields}
    for spec in Registry.discover().specs():
        names = ["api_key", "base_url", *(option.name for option in spec.options)]
        known |= {f"EP_{spec.name.upper()}_{name.upper()}" for name in names}
    named = set(re.findall(r"\bEP_[A-Z][A-Z0-9_]*[A-Z0-9]\b", page.read_text()))
    examples = {name for name in named if name.startswith(("EP_ACME_", "EP_ALERT_"))}
    assert named - known - examples == set()


def test_generated_parts_are_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tables that the code decides say what it says now."""
    monkeypatch.syspath_prepend(ROOT / "docs")
    made: dict[Path, str] = importlib.import_module("generate").made()
    assert [name_of(page) for page, text in made.items() if page.read_text() != text] == [], "run `make docs`"


def test_the_example_of_settings_changes_nothing() -> None:
    """Every line of .env.example is empty or a comment."""
    lines = (ROOT / ".env.example").read_text().splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == []
