"""The walls that other tests build around their buffers do stop a process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(sys.platform == "win32", reason="guard pages were not tested: POSIX only")
@pytest.mark.parametrize(
    ("at_end", "offset", "stops"),
    [(True, 511, False), (True, 512, True), (False, 0, False), (False, -1, True)],
)
def test_a_byte_too_far_ends_the_process(at_end: bool, offset: int, stops: bool) -> None:
    program = (
        "import ctypes; from support.guarded import Guarded\n"
        f"memory = Guarded(bytes(512), at_end={at_end})\n"
        "start = ctypes.addressof(ctypes.c_char.from_buffer(memory.view))\n"
        f"ctypes.string_at(start + {offset}, 1)\n"
    )
    tests = Path(__file__).resolve().parents[1]
    done = subprocess.run(
        [sys.executable, "-c", program],
        check=False,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(tests)]))},
    )
    assert (done.returncode == -signal.SIGSEGV) is stops, done.stderr
    assert stops or done.returncode == 0
