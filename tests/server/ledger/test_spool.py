"""The spool keeps records through crashes, torn lines and damage."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.server.ledger.chats import facts, record

from execution_platform.server.ledger.writing.spool import Spool, Spooled
from execution_platform.v1 import cost_pb2

#: Appends a record, says so, and waits to be killed.
WRITER = """
import sys, time
from pathlib import Path
from execution_platform.server.ledger.writing.spool import Spool
from execution_platform.v1 import cost_pb2
Spool(Path(sys.argv[1])).append([cost_pb2.UsageRecord(id="of the dead")])
print("written", flush=True)
time.sleep(600)
"""


def records(count: int) -> list[cost_pb2.UsageRecord]:
    return [record(facts(), number) for number in range(count)]


def read(file: Spooled) -> list[cost_pb2.UsageRecord]:
    return [each for block in file.blocks() for each in block]


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    """Records come back whole and in order, and the file is gone once they are done."""
    spool, wanted = Spool(tmp_path / "new" / "spool"), records(5)
    spool.append(wanted[:2])
    spool.append(wanted[2:])
    (file,) = spool.take()
    assert (read(file), file.damaged) == (wanted, 0)
    file.done()
    assert list((tmp_path / "new" / "spool").iterdir()) == []
    assert (tmp_path / "new" / "spool").stat().st_mode & 0o777 == 0o700


def test_what_is_left_for_later_comes_again(tmp_path: Path) -> None:
    """A file that could not be replayed is taken again, beside what was written meanwhile."""
    spool, wanted = Spool(tmp_path), records(2)
    spool.append(wanted[:1])
    for file in spool.take():
        file.later()
    spool.append(wanted[1:])
    taken = []
    for file in spool.take():
        taken += read(file)
        file.done()
    assert sorted(each.id for each in taken) == sorted(each.id for each in wanted)


def test_another_process_leaves_the_file_alone_while_its_owner_lives(tmp_path: Path) -> None:
    """A file is taken over only once its owner has ended, also where kill -9 ended it."""
    owner = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE)
    try:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"written\n"
        assert list(Spool(tmp_path).take()) == []
    finally:
        os.kill(owner.pid, signal.SIGKILL)
        owner.wait()
        if owner.stdout is not None:
            owner.stdout.close()
    (file,) = Spool(tmp_path).take()
    assert [each.id for each in read(file)] == ["of the dead"]
    file.done()


@pytest.mark.parametrize("cut", range(1, 40, 3))
def test_a_torn_last_line_is_nothing(tmp_path: Path, cut: int) -> None:
    """A last line that a crash cut off was never relied on; those before it come back."""
    spool, wanted = Spool(tmp_path), records(3)
    spool.append(wanted)
    spool.close()
    (path,) = tmp_path.iterdir()
    os.truncate(path, path.stat().st_size - cut)
    (file,) = Spool(tmp_path).take()
    assert (read(file), file.damaged) == (wanted[:2], 0)
    file.done()


def test_a_damaged_line_is_kept_aside(tmp_path: Path) -> None:
    """A line whose checksum is wrong is counted, the others come back, and the file stays under another name."""
    spool, wanted = Spool(tmp_path), records(3)
    spool.append(wanted)
    spool.close()
    (path,) = tmp_path.iterdir()
    lines = path.read_bytes().split(b"\n")
    lines[1] = lines[1][:-3] + b"AAA"
    path.write_bytes(b"\n".join(lines))
    (file,) = Spool(tmp_path).take()
    assert (read(file), file.damaged) == ([wanted[0], wanted[2]], 1)
    file.done()
    assert [each.suffix for each in tmp_path.iterdir()] == [".damaged"]
    assert list(Spool(tmp_path).take()) == []


def test_a_long_file_is_read_in_blocks(tmp_path: Path) -> None:
    """However many records a file holds, 64 at most are read at once, and all of them come in order."""
    spool, wanted = Spool(tmp_path), records(150)
    for start in range(0, 150, 30):
        spool.append(wanted[start : start + 30])
    (file,) = spool.take()
    blocks = file.blocks()
    assert next(blocks) == wanted[:64]
    assert file.count == 64
    assert [len(block) for block in blocks] == [64, 22]
    assert (read(file), file.count, file.damaged) == (wanted, 150, 0)
    file.done()


def test_a_large_file_is_followed_by_another(tmp_path: Path) -> None:
    """A file that has grown large is left to whoever replays, with all it holds, and another one is begun."""
    spool, wanted = Spool(tmp_path, large=500), records(12)
    for each in wanted:
        spool.append([each])
    assert len(list(tmp_path.iterdir())) > 2
    taken = []
    for file in spool.take():
        taken += read(file)
        file.done()
    assert sorted(each.id for each in taken) == sorted(each.id for each in wanted)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    """Where nothing can be written, whoever appends is told."""
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="file"):
        Spool(tmp_path / "file" / "spool").append(records(1))


def test_a_full_disk_leaves_whole_lines() -> None:
    """An append that fails half-way leaves none of it: the next ones are read all the same."""
    # /dev/full takes nothing; the limit on a file's size cuts a write in the middle, in a process of its own.
    code = """
import resource, signal, sys, tempfile
from pathlib import Path
from execution_platform.server.ledger.writing.spool import Spool
from execution_platform.v1 import cost_pb2
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
folder = Path(tempfile.mkdtemp())
spool = Spool(folder)
spool.append([cost_pb2.UsageRecord(id="first")])
size = sum(each.stat().st_size for each in folder.iterdir())
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 50, resource.RLIM_INFINITY))
try:
    spool.append([cost_pb2.UsageRecord(id="x" * 200)])
except OSError:
    spool.append([cost_pb2.UsageRecord(id="last")])
(file,) = spool.take()
print([each.id for block in file.blocks() for each in block], file.damaged)
file.done()
folder.rmdir()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "['first', 'last'] 0\n"
