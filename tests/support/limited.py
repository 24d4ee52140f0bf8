"""Run by a test in a process of its own: work on images with little memory and little time.

The first argument is MiB of memory beyond what the program has when it begins, the second is
seconds of processor time; then come file names.  Each image is described, mapped, read, checked
and written to.  Prints ``done`` and the name after each; ends with a traceback where an error is
not one of ours, or the memory is not enough, or by a signal where the time is not.
"""

from __future__ import annotations

import contextlib
import itertools
import resource
import sys
from pathlib import Path

import qcow2crypt
from qcow2crypt.errors import Qcow2CryptError
from qcow2crypt.explaining.filemap import file_map
from qcow2crypt.image.chain import open_files

PIECE = 1 << 20
PIECES = 40
EXTENTS = 20_000


def main() -> None:
    memory, seconds = (int(word) for word in sys.argv[1:3])
    limit = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit += memory << 20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    explaining = sys.argv[3] == "--explain"
    for name in sys.argv[4 if explaining else 3 :]:
        (explain if explaining else work_on)(Path(name))
        sys.stdout.write(f"done {name}\n")
        sys.stdout.flush()


def work_on(path: Path) -> None:
    before = path.stat()
    with contextlib.suppress(Qcow2CryptError):
        qcow2crypt.info(path).as_dict()
    with contextlib.suppress(Qcow2CryptError), qcow2crypt.open(path) as image:
        with contextlib.suppress(Qcow2CryptError):
            sum(1 for _ in itertools.islice(image.extents(), EXTENTS))
        for at in range(0, min(image.size, PIECES * PIECE), PIECE):
            with contextlib.suppress(Qcow2CryptError):
                image.pread(PIECE, at)
    with contextlib.suppress(Qcow2CryptError):
        qcow2crypt.check(path)
    after = path.stat()
    assert (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
    with contextlib.suppress(Qcow2CryptError), qcow2crypt.open(path, mode="r+") as image:
        image.pwrite(b"x" * min(4096, image.size), 0)


def explain(path: Path) -> None:
    """Follow bytes of the guest and of the file, and map the file."""
    size = path.stat().st_size
    for question in (
        {"offset": 700},
        {"sector": 5},
        {"host_offset": 0},
        {"host_offset": size // 2},
    ):
        with contextlib.suppress(Qcow2CryptError):
            qcow2crypt.explain(path, external="none", **question).to_dict()  # type: ignore[arg-type]
    with contextlib.suppress(Qcow2CryptError):
        files = open_files(path, external="none")
        found = file_map(files.layers[0].file, files.layers[0].structure)
        assert sum(region.length for region in found.regions) == size
        files.close()


if __name__ == "__main__":
    main()
