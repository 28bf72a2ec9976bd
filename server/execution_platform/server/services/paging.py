"""Pages of lists, as AIP-158 has them: tokens are opaque, and bound to the list that they are of."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from execution_platform.adapters.errors import InvalidRequestError

__all__ = ["Page"]

_DEFAULT_PAGE = 100
_MAX_PAGE = 1_000

_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class Page:
    """Which page of a list is asked for.

    Attributes:
        size: most items; 0: the default.
        token: of the page before; empty: the first page.
        bound_to: what else decides what is in the list.
    """

    size: int
    token: str
    bound_to: str

    def after(self) -> str:
        """Return the name behind which the page begins.

        Raises:
            InvalidRequestError: the size is negative, or the token is of another list.
        """
        if self.size < 0:
            raise InvalidRequestError("page_size: must be 0 or more", field="page_size")
        if not self.token:
            return ""
        try:
            text = base64.urlsafe_b64decode(self.token.encode()).decode()
        except ValueError:
            text = ""
        binding = self._binding()
        if not text.startswith(binding):
            raise InvalidRequestError(
                "page_token: is not of this list; hand back next_page_token with the same request",
                field="page_token",
            )
        return text.removeprefix(binding)

    def of(self, items: Iterable[_Item], name: Callable[[_Item], str]) -> tuple[list[_Item], str]:
        """Return the items on the page, and the token of the next one; empty: this is the last.

        A page begins behind the name that the one before ended with, so it is right also if the list has changed.

        Args:
            items: the whole list, by name.
            name: gives the name of an item.

        Raises:
            InvalidRequestError: as :meth:`after`.
        """
        after = self.after()
        rest = [item for item in items if name(item) > after]
        if len(rest) <= self.most:
            return rest, ""
        return rest[: self.most], self.token_behind(name(rest[self.most - 1]))

    @property
    def most(self) -> int:
        """Most items on the page."""
        return min(self.size or _DEFAULT_PAGE, _MAX_PAGE)

    def token_behind(self, name: str) -> str:
        """Return the token of a page that begins behind a name."""
        return base64.urlsafe_b64encode(f"{self._binding()}{name}".encode()).decode()

    def _binding(self) -> str:
        return hashlib.blake2b(self.bound_to.encode(), digest_size=6).hexdigest()
