"""Whose a credential is: a tenant's, or one of its projects'."""

from __future__ import annotations

from decimal import Decimal

from tests.server.personas.reading import read

from execution_platform.server.config.personas import LimitSettings
from execution_platform.server.limits.scopes import Scopes

OWN, SITE, OTHER = ("a" * 64, "b" * 64, "c" * 64)

FILE = f"""
version: 1
tenants:
  acme:
    key_sha256: [{OWN}]
    projects:
      site: {{key_sha256: [{SITE}]}}
    limits: {{requests_per_min: 1}}
"""


def scopes(*, budgets: bool = False) -> Scopes:
    """What the file says."""
    configuration = read(FILE).configuration
    return Scopes(lambda: configuration, budgets=budgets)


def test_key_of_a_project_is_its_tenants_too() -> None:
    """A project's key belongs to the project and to its tenant, the tenant's own key to no project."""
    known = scopes()
    assert (known.tenant(SITE), known.project(SITE)) == ("acme", "site")
    assert (known.tenant(OWN), known.project(OWN)) == ("acme", "")
    assert (known.tenant(OTHER), known.project(OTHER)) == ("default", "")
    assert (known.tenant(""), known.project("")) == ("default", "")


def test_limits_of_a_tenant_hold_for_its_projects() -> None:
    """A chat with a project's key falls under its tenant's limits."""
    found = scopes().of_chat(SITE, "", LimitSettings())
    assert [scope.subject for scope in found] == ["tenant:acme"]


def test_budgets_take_over_what_personas_spend() -> None:
    """With a ledger the limiter holds a persona's requests and places, and no longer its tokens and cost."""
    limits = LimitSettings(requests_per_min=3, tokens_per_min=4, cost_per_min=Decimal(5), concurrent=6)
    (persona,) = scopes(budgets=True).of_chat(OTHER, "writer", limits)
    assert persona.limits == LimitSettings(requests_per_min=3, concurrent=6)
    (persona,) = scopes().of_chat(OTHER, "writer", limits)
    assert persona.limits == limits
    (nobody,) = scopes(budgets=True).of_chat(OTHER, "", limits)
    assert nobody.limits == limits
