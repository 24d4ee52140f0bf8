"""Whatever ends doctor, nothing of it is left: no process and no file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from probe.test_programs import running

import qcow2crypt

pytestmark = pytest.mark.usefixtures("traced")

HOME = Path(qcow2crypt.__file__).parent.parent


@pytest.mark.parametrize("argument", ["1", "{}"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_ends_the_traced_program_too(
    program: Path, number: signal.Signals, argument: str
) -> None:
    words = ["--", str(program), "hang", argument]
    process = subprocess.Popen(
        [sys.executable, "-m", "qcow2crypt", "doctor", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(HOME)},
        start_new_session=True,
    )
    try:
        hanging = f"{program}\0hang"
        while not [pid for pid in running(hanging) if pid != str(process.pid)]:
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        time.sleep(0.1)  # it is most interesting while it waits
        process.send_signal(number)
        process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    expected = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}
    assert process.returncode == expected[number]
    for _ in range(500):
        if not running(hanging):
            break
        time.sleep(0.01)  # the kernel ends what a killed tracer had in hand
    assert running(hanging) == []
    if number == signal.SIGKILL:  # nobody can clean up then
        for each in Path(os.environ["TMPDIR"]).iterdir():
            for file in each.iterdir():
                file.unlink()
            each.rmdir()
