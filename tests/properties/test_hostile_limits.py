"""Hostile images in a process that has little memory and little time: both are enough."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import support.limited
from support.chains import overlay, raw

import qcow2crypt
from qcow2crypt.errors import BackingChainError
from qcow2crypt.testing.damage.hostile import CLAIMS, CROSSED, LARGE, large

if sys.platform != "linux":
    pytest.skip("limits of memory are set on Linux only", allow_module_level=True)

MEMORY = 192
"""MiB beside the program itself.  The largest L1 table that is allowed has 32 MiB."""
SECONDS = 120
LONG = 1000


def limited(memory: int, seconds: int, paths: Sequence[Path]) -> None:
    """All of the work on all images, in one process."""
    words = [sys.executable, support.limited.__file__, str(memory), str(seconds), *map(str, paths)]
    tree = str(Path(qcow2crypt.__file__).parents[1])
    done = subprocess.run(
        words,
        check=False,
        capture_output=True,
        text=True,
        # The limit counts addresses, of which glibc reserves 64 MiB for each thread.
        env={**os.environ, "PYTHONPATH": tree, "MALLOC_ARENA_MAX": "1"},
    )
    assert done.returncode == 0, (done.returncode, done.stderr[-2000:], done.stdout[-300:])
    assert done.stdout.count("done") == len(paths)


@pytest.mark.parametrize("cases", [CROSSED, CLAIMS], ids=["crossed", "claims"])
def test_small_files(cases: dict[str, bytes], tmp_path: Path) -> None:
    for number, data in enumerate(cases.values()):
        (tmp_path / str(number)).write_bytes(data)
    limited(MEMORY, SECONDS, sorted(tmp_path.iterdir()))


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE)
def test_an_l1_table_of_32_mib(name: str, tmp_path: Path) -> None:
    limited(MEMORY, SECONDS, [large(tmp_path / "image", LARGE[name])])


def test_a_loop_of_backing_files(tmp_path: Path) -> None:
    """An image over itself, and three in a ring, by other names for the same file."""
    overlay(tmp_path / "self", "self")
    (tmp_path / "link").symlink_to("a")
    for name, below in (("a", "b"), ("b", "./c"), ("c", "link")):
        overlay(tmp_path / name, below)
    for name in ("self", "a", "b", "link"):
        for mode in ("r", "r+"):
            with pytest.raises(BackingChainError):
                qcow2crypt.open(tmp_path / name, mode=mode, external="any")
        qcow2crypt.info(tmp_path / name)
        assert qcow2crypt.check(tmp_path / name).status == 0
    limited(MEMORY, SECONDS, [tmp_path / "self", tmp_path / "a"])


def test_a_long_chain(tmp_path: Path) -> None:
    """A thousand files that one name leads to take little memory, and a loop under them ends."""
    overlay(tmp_path / "made", "next")
    made = (tmp_path / "made").read_bytes()
    for number in range(LONG):
        (tmp_path / f"{number:04}").write_bytes(made.replace(b"next", b"%04d" % (number + 1)))
    raw(tmp_path / f"{LONG:04}", b"the lowest".ljust(1 << 20, b"."))
    limited(MEMORY, SECONDS, [tmp_path / "0000"])
    (tmp_path / f"{LONG:04}").unlink()
    (tmp_path / f"{LONG:04}").symlink_to("0000")
    limited(MEMORY, SECONDS, [tmp_path / "0000"])
