"""The two helpers of a local broker that run as processes of their own. Standard library only; run by its path.

    python broker_process.py exec PARENT COMMAND...   become COMMAND, and die with PARENT
    python broker_process.py watch FOLDER             clean up when whoever holds our standard input is gone

Nothing of a broker may be left behind, however its owner ends: a Ctrl-C, an exception, or ``kill -9``.
"""

import contextlib
import ctypes
import os
import platform
import shutil
import signal
import sys
import time
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_LAST_WORDS_S = 10.0


def become(parent: int, command: list[str]) -> None:
    """Replace this process by the command, which the kernel kills as soon as the parent's creating thread ends."""
    if platform.system() == "Linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)  # it had ended before we asked to be told
    os.execv(command[0], command)


def watch(folder: Path) -> None:
    """Read the broker's process ids, one a line (0: none), until the owner is gone; kill it, remove its folder."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    pid = 0
    for line in sys.stdin:
        pid = int(line)
    end_at_s = time.monotonic() + _LAST_WORDS_S
    while pid and runs_in(folder, pid) and time.monotonic() < end_at_s:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
    shutil.rmtree(folder, ignore_errors=True)


def runs_in(folder: Path, pid: int) -> bool:
    """Whether the process is there and is our broker: the number of one that ended may have gone to another."""
    if platform.system() == "Linux":
        try:
            return os.fsencode(folder) in Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    if sys.argv[1] == "exec":
        become(int(sys.argv[2]), sys.argv[3:])
    else:
        watch(Path(sys.argv[2]))
