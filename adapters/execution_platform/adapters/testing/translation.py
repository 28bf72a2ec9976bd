"""Checks of a translation on bytes: whole, cut anywhere, ended early, damaged."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from execution_platform.adapters.errors import AdapterError
from execution_platform.adapters.spi import Events, Translation
from execution_platform.adapters.testing.answers import (
    Answer,
    ConformanceError,
    check_stream,
    require,
    same_answer,
)

__all__ = ["check_translation"]

_T = TypeVar("_T")

_BYTEWISE = 20_000


def check_translation(
    make: Callable[[], Translation],
    *,
    stream: bytes | None = None,
    whole: bytes | None = None,
    error: type[AdapterError] | None = None,
    family: str = "",
    seeds: Sequence[int] = range(5),
    compare: Callable[[Answer, Answer], None] = same_answer,
) -> Answer:
    """Check a translation on the bytes of one answer, and return the answer.

    The stream is fed in one piece, cut at random places, byte by byte if it is short, ended early, and damaged.
    Cuts change nothing; an early end is an error unless all content had been said; damage raises nothing but
    AdapterError.

    Args:
        make: makes a fresh translation; each is used once.
        stream: a streamed answer's bytes.
        whole: an unstreamed answer's body. Given with `stream` it must say the same.
        error: the answer tells an error, of this class.
        family: the family that every block must name; default: any.
        seeds: seeds of the random cuts and damages.
        compare: compares the streamed answer with the whole one; raises ConformanceError.

    Raises:
        ConformanceError: a promise is broken.
    """
    require(stream is not None or whole is not None, "give a stream, a whole body, or both")
    answers: list[Answer] = []
    if stream is not None:
        answers.append(_check_streamed(make, stream, error, family, seeds))
    if whole is not None:
        answers.append(_check_whole(make, whole, error, family, seeds))
    if len(answers) == 2:
        compare(*answers)
    return answers[0]


def _check_streamed(
    make: Callable[[], Translation],
    stream: bytes,
    error: type[AdapterError] | None,
    family: str,
    seeds: Sequence[int],
) -> Answer:
    answer = _fed(make(), [stream], family)
    _require_outcome(answer, error)
    for seed in seeds:
        again = _fed(make(), list(_cut(stream, seed)), family)
        _require_alike(answer, again, f"the stream whole and cut at random (seed {seed})")
    if len(stream) <= _BYTEWISE:
        again = _fed(make(), [stream[at : at + 1] for at in range(len(stream))], family)
        _require_alike(answer, again, "the stream whole and byte by byte")
    for seed in seeds:
        end = random.Random(seed).randrange(len(stream) + 1)  # noqa: S311  # not a secret
        early = _fed(make(), [stream[:end]], family)
        if early.error is None:
            _require_same_content(answer, early, f"the stream whole and ended early at byte {end} without an error")
        with _whatever_it_says():
            _fed(make(), list(_cut(_damaged(stream, seed), seed)), family)
    return answer


def _check_whole(
    make: Callable[[], Translation],
    body: bytes,
    error: type[AdapterError] | None,
    family: str,
    seeds: Sequence[int],
) -> Answer:
    answer = _read(make(), body, family)
    _require_outcome(answer, error)
    for seed in seeds:
        end = random.Random(seed).randrange(len(body))  # noqa: S311  # not a secret
        if body[end:].strip():
            early = _read(make(), body[:end], family)
            require(early.error, f"a body that ends early, at byte {end}, is read without an error")
        with _whatever_it_says():
            _read(make(), _damaged(body, seed), family)
    return answer


class _ForeignError(ConformanceError):
    """Something that is no AdapterError came out of a translation."""


def _fed(translation: Translation, pieces: Sequence[bytes], family: str) -> Answer:
    lists: list[Events] = []
    error: AdapterError | None = None
    try:
        for piece in pieces:
            lists += _some(_only_adapter_errors(translation.feed, piece))
        lists += _some(_only_adapter_errors(translation.end))
    except AdapterError as raised:
        error = raised
        lists += _some(raised.events)
    answer = check_stream(lists, complete=error is None, family=family)
    answer.error = error
    return answer


def _read(translation: Translation, body: bytes, family: str) -> Answer:
    try:
        events = _only_adapter_errors(translation.whole, body)
    except AdapterError as raised:
        return Answer(error=raised)
    return check_stream([events], family=family)


def _some(events: Events) -> list[Events]:
    return [events] if events else []


def _only_adapter_errors(function: Callable[..., _T], *arguments: bytes) -> _T:
    try:
        return function(*arguments)
    except AdapterError:
        raise
    except Exception as error:
        piece = f" on {arguments[0][:200]!r}" if arguments else ""
        raise _ForeignError(
            f"{function.__qualname__} raised {type(error).__name__} ({error}){piece}; only AdapterError may escape"
        ) from error


def _require_outcome(answer: Answer, error: type[AdapterError] | None) -> None:
    if error is None:
        require(answer.error is None, f"it failed: {type(answer.error).__name__}: {answer.error}")
    else:
        require(isinstance(answer.error, error), f"{error.__name__} was to be raised, not {answer.error!r}")


@contextlib.contextmanager
def _whatever_it_says() -> Iterator[None]:
    """Let pass what damaged bytes make a translation say, but nothing foreign that they make it raise."""
    try:
        yield
    except _ForeignError:
        raise
    except ConformanceError:
        pass


def _require_same_content(answer: Answer, early: Answer, what: str) -> None:
    """Require equal blocks and reason. Usage may be missing: many servers tell it last, some never."""
    early.usage = answer.usage
    same_answer(answer, early, what)


def _require_alike(one: Answer, other: Answer, what: str) -> None:
    same_answer(one, other, what)
    for name in ("started", "notices", "provider_events", "logprobs"):
        left, right = getattr(one, name), getattr(other, name)
        require(left == right, f"{what} differ in {name}:\n{left}\nand\n{right}")
    require(one.finished == other.finished, f"{what} differ in finished:\n{one.finished}\nand\n{other.finished}")


def _cut(data: bytes, seed: int) -> Iterator[bytes]:
    chance = random.Random(seed)  # noqa: S311  # not a secret
    places = sorted(chance.randrange(len(data) + 1) for _ in range(chance.randint(1, 40)))
    for start, end in zip([0, *places], [*places, len(data)], strict=True):
        yield data[start:end]


def _damaged(data: bytes, seed: int) -> bytes:
    chance = random.Random(seed)  # noqa: S311  # not a secret
    damaged = bytearray(data)
    for _ in range(chance.randint(1, 8)):
        if damaged:
            damaged[chance.randrange(len(damaged))] = chance.choice(b'\x00\xff{}[]",:\\\n 0aZ-')
    return bytes(damaged)
