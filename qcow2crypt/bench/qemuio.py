"""One qemu-io that does many requests, each timed by its own clock.

With ``-C`` qemu-io prints a line for each request: bytes, operations, time, bytes and operations a
second.  Its clock runs over the request alone: not over the start of the program, nor over reading
the command, nor over making the buffer.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from qcow2crypt.bench.programs import told
from qcow2crypt.errors import BenchError

_PROMPT = "qemu-io> "
_LINE = re.compile(r"\d+,1,[0-9:.]+,[0-9.]+,([0-9.]+)")


def request_seconds(
    command: Sequence[str],
    script: Sequence[str],
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> list[float]:
    """How long each request took whose command in ``script`` has ``-C``, in seconds.

    The others have ``-q`` and say nothing.  Raises BenchError where the program cannot be run,
    fails, or says anything else.  It has ended when this ends, in whatever way.
    """
    with tempfile.TemporaryFile() as file:
        file.write("".join(f"{line}\n" for line in script).encode())
        file.seek(0)
        said = told(command, folder, environment, file)
    found = []
    for line in said.replace(_PROMPT, "").splitlines():
        row = _LINE.fullmatch(line.strip())
        if row is not None and float(row[1]) > 0:
            found.append(1 / float(row[1]))
        elif line.strip():
            raise BenchError(f"{command[0]} says: {line.strip()}")
    wanted = sum(" -C " in line for line in script)
    if len(found) != wanted:
        raise BenchError(f"{command[0]} timed {len(found)} requests of {wanted}")
    return found
