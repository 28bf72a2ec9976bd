"""What a caller must have heard, and what is wrong with what it did hear."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from tests.chaos.answers import MODELS, continuation, counting, reading
from tests.chaos.callers import Kind, Turn
from tests.chaos.proxy import Request

__all__ = ["percentile", "told_too_little", "too_soon", "twice_called", "wrong_output"]


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the nearest-rank percentile; 0 of nothing."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[max(1, -int(-len(ordered) * percent // 100)) - 1]


def wrong_output(turn: Turn) -> str:
    """Return what is wrong with the text that a caller heard; empty: nothing.

    Every mocked provider answers in words of its own, which are numbered: what comes twice, is missing, or is put
    together of two answers differs from all that may be heard.
    """
    if not turn.orderly:
        return "events out of order"
    if turn.folded != turn.text:
        return f"the fold tells another text: {turn.folded[:80]!r}, not {turn.text[:80]!r}"
    base = ""
    for seen, change in zip(turn.broken, turn.changes, strict=True):
        if not (seen.startswith(base) and _is_part(turn, base, seen[len(base) :])):
            return f"broke off after {seen!r}, which nobody said"
        base = seen if change == "CONTINUE" else ""
    if not turn.text.startswith(base):
        return f"what was heard has changed: {turn.text!r}"
    rest = turn.text[len(base) :]
    if not turn.answered:
        return "" if _is_part(turn, base, rest) else f"failed after {turn.text!r}, which nobody said"
    if turn.provider not in MODELS:
        return "" if rest else "an answer without text"
    said = _said(turn, base)(turn.provider)
    return "" if rest == said else f"{turn.provider} said {said!r}, heard was {rest!r}"


def _said(turn: Turn, base: str) -> Callable[[str], str]:
    if base:
        return continuation
    if turn.reading:
        return reading
    return (lambda _: "") if turn.kind is Kind.TOOLS else counting


def _is_part(turn: Turn, base: str, text: str) -> bool:
    return any(_said(turn, base)(provider).startswith(text) for provider in MODELS)


def twice_called(turn: Turn) -> bool:
    """Return whether a caller that acts as soon as a tool call is complete acts more than once, or not at all."""
    if turn.kind is not Kind.TOOLS or turn.reading:
        return turn.tools_begun > 0
    once = turn.tools_begun == len(turn.tools_done) == 1
    return turn.tools_begun > 1 or (turn.answered and turn.provider in MODELS and not once)


def told_too_little(turns: Sequence[Turn], requests: Sequence[Request]) -> Iterator[str]:
    """Tell chats for which a provider was asked more often than the platform told."""
    told: Counter[tuple[int, str]] = Counter()
    silent: set[int] = set()
    for turn in turns:
        if turn.kind is Kind.WHOLE and not turn.answered:
            silent.add(turn.chat)  # the status of a failed CompleteChat lists no attempts
        told.update((turn.chat, attempt.provider) for attempt in turn.attempts if attempt.asked)
    for key, count in Counter((request.chat, request.door) for request in requests).items():
        if key[0] not in silent and key[0] >= 0 and count > told[key]:
            yield f"chat {key[0]}: {key[1]} was asked {count} times, told were {told[key]}"


def too_soon(requests: Sequence[Request], seconds: float) -> int:
    """Return how often a provider was asked the same again before the time that it had told."""
    last: dict[tuple[str, str], float] = {}
    count = 0
    for request in sorted(requests, key=lambda each: each.at):
        key = (request.digest, request.door)
        count += key in last and request.at - last[key] < seconds
        if request.struck:
            last[key] = request.at
        else:
            last.pop(key, None)
    return count
