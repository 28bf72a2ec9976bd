"""Several server processes on one port.

gRPC forks badly: the parent makes no gRPC object. It reserves the port, starts each worker as a process of its
own, which binds the port with SO_REUSEPORT, hands signals on, and starts a worker again that died.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence

from execution_platform.server.listening import check_address, family_of
from execution_platform.server.telemetry import Logger

__all__ = ["Workers", "listen_to_parent", "reserved_port"]

#: Seconds before a worker that died is started again, so that one that cannot live does not eat the machine.
_RESTART_SECONDS = 1.0

#: Seconds beyond the drain time after which a worker is killed.
_KILL_AFTER_SECONDS = 15.0


@contextlib.contextmanager
def reserved_port(listen: str) -> Iterator[str]:
    """Hold ``host:port`` for processes that share it, without accepting a connection.

    Yields:
        The address with its real port.

    Raises:
        ListenError: the address is in use or not this machine's.
    """
    host, port = check_address(listen)
    with socket.socket(family_of(host), socket.SOCK_STREAM) as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind((host, port))
        yield f"{listen.rpartition(':')[0]}:{port}"


def listen_to_parent(reload: Callable[[], None]) -> None:
    """Take the parent's end for a signal to stop, and what it writes for the wish that files are read anew.

    It holds the other end of standard input. A signal would end a worker that does not handle it yet.
    """
    loop = asyncio.get_running_loop()
    file = sys.stdin.fileno()

    def look() -> None:
        if os.read(file, 1024):
            reload()
        else:
            loop.remove_reader(file)
            os.kill(os.getpid(), signal.SIGTERM)

    loop.add_reader(file, look)


class Workers:
    """The worker processes of one parent.

    Args:
        count: how many.
        arguments: of `python -m execution_platform.server` for each.
        environ: gives the environment of each, by its number from 0.
        drain_seconds: what a worker gets to finish its chats.
        logger: for what happens to workers.
        hopeless: exit status of a first worker after which another one would end the same way.
    """

    def __init__(
        self,
        count: int,
        arguments: Sequence[str],
        environ: Callable[[int], Mapping[str, str]],
        drain_seconds: float,
        logger: Logger,
        *,
        hopeless: int,
    ) -> None:
        self._count = count
        self._environ = environ
        self._arguments = list(arguments)
        self._drain_seconds = drain_seconds
        self._logger = logger
        self._hopeless = hopeless
        self._stopping = asyncio.Event()
        self._running: set[asyncio.subprocess.Process] = set()

    async def run(self, *, reloads: bool = False) -> int:
        """Run the workers until SIGTERM or SIGINT. A second signal ends the process, and with it the workers, at once.

        Args:
            reloads: hand SIGHUP on to the workers; else it ends the process as ever.

        Returns:
            The exit status: 0 if every worker ended well.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal)
        if reloads:
            loop.add_signal_handler(signal.SIGHUP, self._reload)
        statuses = await asyncio.gather(*(self._keep(number) for number in range(self._count)))
        return max(statuses)

    def _on_signal(self) -> None:
        self._stopping.set()
        loop = asyncio.get_running_loop()
        for each in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(each)
            signal.signal(each, signal.SIG_DFL)

    def _reload(self) -> None:
        for process in self._running:
            if process.stdin is not None and not process.stdin.is_closing():
                process.stdin.write(b"\n")

    async def _keep(self, number: int) -> int:
        """Keep one worker running until told to stop. Returns its last exit status."""
        is_first = True
        while True:
            # A session of its own: Ctrl-C is for the parent, and a worker would take the parent's word as its second.
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "execution_platform.server",
                *self._arguments,
                env=self._environ(number),
                stdin=asyncio.subprocess.PIPE,
                start_new_session=True,
            )
            self._logger.info("worker_started", worker=number, pid=process.pid)
            self._running.add(process)
            try:
                status = await self._wait(process)
            finally:
                self._running.discard(process)
            if self._stopping.is_set():
                # One that was told to end before it served knew no better way yet.
                return 0 if status == -signal.SIGTERM else abs(status)
            self._logger.error("worker_died", worker=number, pid=process.pid, status=status)
            # Later it may be a file that somebody is mending: the other workers go on with what they have.
            if status == self._hopeless and is_first:
                self._stopping.set()
                return status
            is_first = False
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), _RESTART_SECONDS)
                return abs(status)

    async def _wait(self, process: asyncio.subprocess.Process) -> int:
        ended = asyncio.ensure_future(process.wait())
        stop = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait({ended, stop}, return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                with contextlib.suppress(ProcessLookupError):
                    process.terminate()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(asyncio.shield(ended), self._drain_seconds + _KILL_AFTER_SECONDS)
                if not ended.done():
                    process.kill()
            return await ended
        finally:
            stop.cancel()
            if process.returncode is None:
                process.kill()
