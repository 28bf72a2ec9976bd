"""Whose limits a chat falls under: its persona's, its tenant's, its credential's, and those of who is asked."""

from __future__ import annotations

from collections.abc import Callable

from execution_platform.server.config.personas import DEFAULT_TENANT, LimitSettings, PlatformConfiguration
from execution_platform.server.limits.limiter import Scope

__all__ = ["Scopes"]

#: In the place of a name that a chat does not have.
_NONE = "-"


class Scopes:
    """Knows tenants and projects by the digests of their keys, and everybody's limits.

    Args:
        configuration: gives the configuration in force.
        budgets: a ledger holds what personas may spend in a minute, in tokens and money, as budgets.
    """

    def __init__(self, configuration: Callable[[], PlatformConfiguration], *, budgets: bool = False) -> None:
        self._configuration = configuration
        self._budgets = budgets
        self._indexed: PlatformConfiguration | None = None
        self._owners: dict[str, tuple[str, str]] = {}

    def tenant(self, caller: str) -> str:
        """Return whose a credential is.

        Args:
            caller: SHA-256 digest of the bearer token, in hex; empty: none.
        """
        return self._owner(caller)[0]

    def project(self, caller: str) -> str:
        """Return of which project a credential is; empty: of none.

        Args:
            caller: SHA-256 digest of the bearer token, in hex; empty: none.
        """
        return self._owner(caller)[1]

    def _owner(self, caller: str) -> tuple[str, str]:
        configuration = self._configuration()
        if configuration is not self._indexed:
            self._owners = {
                digest: (name, project)
                for name, tenant in configuration.tenants.items()
                for digest, project in tenant.digests()
            }
            self._indexed = configuration
        return self._owners.get(caller, (DEFAULT_TENANT, ""))

    def of_provider(self, provider: str) -> Scope:
        """Return a provider's limits."""
        settings = self._configuration().providers.get(provider)
        return Scope("provider", provider, LimitSettings() if settings is None else settings.limits)

    def of_chat(self, caller: str, persona: str, limits: LimitSettings) -> list[Scope]:
        """Return whose limits a chat falls under, as far as they have any.

        Chats without a credential share one place among the credentials: leaving it out shall not free anybody.

        Args:
            caller: SHA-256 digest of the bearer token, in hex; empty: none.
            persona: its name; empty: none decided.
            limits: the persona's.
        """
        configuration = self._configuration()
        tenant = self.tenant(caller)
        if self._budgets and persona:
            limits = _without_spending(limits)
        known = configuration.tenants.get(tenant)
        whose = [
            Scope("persona", persona or _NONE, limits),
            Scope("tenant", tenant, configuration.default_tenant if known is None else known.limits),
            Scope("key", caller or _NONE, configuration.each_key),
        ]
        return [scope for scope in whose if scope.limited]


def _without_spending(limits: LimitSettings) -> LimitSettings:
    """Return what is left of a persona's limits where budgets hold what it spends."""
    if limits.tokens_per_min is None and limits.cost_per_min is None:
        return limits
    return limits.model_copy(update={"tokens_per_min": None, "cost_per_min": None})
