"""Ctrl-C while gRPC works: what the command line runs in another thread."""

import signal
import threading
from collections.abc import Iterator

import pytest
from tests.clients.platform_server import SECONDS

from execution_platform.client.cli_interrupts import interruptible


@pytest.fixture(autouse=True)
def heeded() -> Iterator[None]:
    """Let Ctrl-C mean what it means, also where tests run in the background, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def press_ctrl_c() -> None:
    """Interrupt the main thread, as a terminal does."""
    main = threading.main_thread().ident
    assert main is not None
    signal.pthread_kill(main, signal.SIGINT)


def test_the_work_is_done_where_no_signal_arrives() -> None:
    """The work runs in another thread than the main one, and what it returns or raises comes back."""
    assert interruptible(threading.current_thread) is not threading.main_thread()
    with pytest.raises(ZeroDivisionError):
        interruptible(lambda: 1 // 0)


def test_ctrl_c_stops_the_work() -> None:
    """Ctrl-C calls `stop` in another thread, and KeyboardInterrupt comes after the work is over."""
    told, over = threading.Event(), threading.Event()
    stoppers: list[threading.Thread] = []

    def work() -> None:
        press_ctrl_c()
        assert told.wait(SECONDS)
        over.set()

    def stop() -> None:
        stoppers.append(threading.current_thread())
        told.set()

    with pytest.raises(KeyboardInterrupt):
        interruptible(work, stop)
    assert over.is_set()
    assert threading.main_thread() not in stoppers


def test_ctrl_c_leaves_work_that_cannot_be_stopped() -> None:
    """Without `stop` Ctrl-C ends the waiting at once, whatever the work does."""
    over, left = threading.Event(), threading.Event()

    def work() -> None:
        press_ctrl_c()
        over.wait(SECONDS)
        left.set()

    with pytest.raises(KeyboardInterrupt):
        interruptible(work)
    assert not left.is_set()
    over.set()
    assert left.wait(SECONDS)
