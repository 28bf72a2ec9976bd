"""Ctrl-C while gRPC works.

Python may raise KeyboardInterrupt between any two steps of the main thread. gRPC's synchronous calls are not made for
that: a lock that was taken just then stays taken, and every later call on the channel hangs. So gRPC gets a thread of
its own, where signals raise nothing, and the main thread waits in a queue that is written in C.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TypeVar

__all__ = ["interruptible"]

T = TypeVar("T")

# A signal that arrives just before the main thread falls asleep does not wake it.
_SECONDS_ASLEEP = 0.1


def interruptible(work: Callable[[], T], stop: Callable[[], object] | None = None) -> T:
    """Run `work` in a thread, and return or raise what it does.

    Args:
        work: what waits in gRPC.
        stop: makes `work` end soon; it is called in another thread, perhaps before `work` has begun.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed; with `stop` the work is over then, unless it was pressed again. Without
            it the work goes on until the client is closed.
    """
    outcome: SimpleQueue[Future[T]] = SimpleQueue()
    try:
        _in_thread(lambda: outcome.put(_outcome(work)))
        done = _next(outcome)
    except KeyboardInterrupt:
        if stop is not None:
            _in_thread(stop)
            _next(outcome)
        raise
    return done.result()


def _next(queue: SimpleQueue[T]) -> T:
    while True:
        with suppress(Empty):
            return queue.get(timeout=_SECONDS_ASLEEP)


def _in_thread(work: Callable[[], object]) -> None:
    threading.Thread(target=work, daemon=True).start()


def _outcome(work: Callable[[], T]) -> Future[T]:
    done: Future[T] = Future()
    try:
        done.set_result(work())
    except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
        done.set_exception(error)
    return done
