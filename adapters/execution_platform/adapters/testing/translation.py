"""Checks of a translation on bytes: whole, cut anywhere, ended early, damaged."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
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
    exact_usage: bool = True,
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
        exact_usage: as for check_stream.
        seeds: seeds of the random cuts and damages.
        compare: compares the streamed answer with the whole one; raises ConformanceError.

    Raises:
        ConformanceError: a promise is broken.
    """
    require(stream is not None or whole is not None, "give a stream, a whole body, or both")
    check = _Check(make, error, family, exact_usage, seeds)
    answers: list[Answer] = []
    if stream is not None:
        answers.append(check.streamed(stream))
    if whole is not None:
        answers.append(check.whole(whole))
    if len(answers) == 2:
        compare(*answers)
    return answers[0]


class _ForeignError(ConformanceError):
    """Something that is no AdapterError came out of a translation."""


@dataclass(frozen=True, slots=True)
class _Check:
    """How the bytes of one answer are to be read."""

    make: Callable[[], Translation]
    error: type[AdapterError] | None
    family: str
    exact_usage: bool
    seeds: Sequence[int]

    def streamed(self, stream: bytes) -> Answer:
        answer = self._fed([stream])
        self._require_outcome(answer)
        for seed in self.seeds:
            again = self._fed(list(_cut(stream, seed)))
            _require_alike(answer, again, f"the stream whole and cut at random (seed {seed})")
        if len(stream) <= _BYTEWISE:
            again = self._fed([stream[at : at + 1] for at in range(len(stream))])
            _require_alike(answer, again, "the stream whole and byte by byte")
        for seed in self.seeds:
            end = random.Random(seed).randrange(len(stream) + 1)  # noqa: S311  # not a secret
            early = self._fed([stream[:end]])
            if early.error is None:
                what = f"the stream whole and ended early at byte {end} without an error"
                _require_same_content(answer, early, what)
            with _whatever_it_says():
                self._fed(list(_cut(_damaged(stream, seed), seed)))
        return answer

    def whole(self, body: bytes) -> Answer:
        answer = self._read(body)
        self._require_outcome(answer)
        for seed in self.seeds:
            end = random.Random(seed).randrange(len(body) + 1)  # noqa: S311  # not a secret
            if body[end:].strip():
                early = self._read(body[:end])
                require(early.error, f"a body that ends early, at byte {end}, is read without an error")
            with _whatever_it_says():
                self._read(_damaged(body, seed))
        return answer

    def _fed(self, pieces: Sequence[bytes]) -> Answer:
        translation = self.make()
        lists: list[Events] = []
        error: AdapterError | None = None
        try:
            for piece in pieces:
                lists += _some(_only_adapter_errors(translation.feed, piece))
            lists += _some(_only_adapter_errors(translation.end))
        except AdapterError as raised:
            error = raised
            lists += _some(raised.events)
        answer = check_stream(lists, complete=error is None, family=self.family, exact_usage=self.exact_usage)
        answer.error = error
        return answer

    def _read(self, body: bytes) -> Answer:
        try:
            events = _only_adapter_errors(self.make().whole, body)
        except AdapterError as raised:
            return Answer(error=raised)
        return check_stream([events], family=self.family, exact_usage=self.exact_usage)

    def _require_outcome(self, answer: Answer) -> None:
        if self.error is None:
            require(answer.error is None, f"it failed: {type(answer.error).__name__}: {answer.error}")
        else:
            wanted = isinstance(answer.error, self.error)
            require(wanted, f"{self.error.__name__} was to be raised, not {answer.error!r}")


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
