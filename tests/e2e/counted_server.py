"""The server's command, which also tells how many tasks its loop has each time it gets SIGUSR1."""

import asyncio
import signal
import sys
from types import FrameType

from execution_platform.server.__main__ import main


def tell(_: int, __: FrameType | None) -> None:
    """Print the number of tasks that are not done."""
    sys.stdout.write(f"tasks {len(asyncio.all_tasks())}\n")
    sys.stdout.flush()


signal.signal(signal.SIGUSR1, tell)
main()
