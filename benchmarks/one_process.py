"""Run one command and tell what it took: seconds, seconds of the processor, KiB of memory.

    python -I -S benchmarks/one_process.py COMMAND...        the figures are the last line on stdout

A small process of its own: the memory of a new process is counted from that of the one that started
it, so a large program cannot measure a small one.  What is told is therefore never less than some
8 MiB.  Knows nothing of this package.
"""

from __future__ import annotations

import os
import sys
import time


def main() -> int:
    """Run, tell, and end as the command ended."""
    words = sys.argv[1:]
    silent = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    start = time.perf_counter()
    number = os.posix_spawnp(words[0], words, os.environ, file_actions=silent)
    _, status, usage = os.wait4(number, 0)
    wall = time.perf_counter() - start
    print(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss)
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(main())
