"""Block devices and small file systems for tests, where this system lets us make them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def loop_device(file: Path) -> Iterator[Path]:
    """The name of a block device that shows ``file``; without the right to make one, a skip."""
    losetup = shutil.which("losetup") or "/sbin/losetup"
    try:
        done = subprocess.run(
            [losetup, "--find", "--show", file], check=False, capture_output=True, text=True
        )
    except OSError:
        pytest.skip("there is no losetup: block devices were not tested")
    if done.returncode:
        pytest.skip("loop devices cannot be made here (they need root): block devices not tested")
    device = Path(done.stdout.strip())
    try:
        yield device
    finally:
        subprocess.run([losetup, "--detach", device], check=True)


@contextmanager
def mounted(place: Path, *words: str | Path) -> Iterator[Path]:
    """A file system at the new folder ``place``, mounted with ``words``; else a skip."""
    mount, umount = (shutil.which(name) or f"/bin/{name}" for name in ("mount", "umount"))
    place.mkdir()
    try:
        done = subprocess.run([mount, *words, place], check=False, capture_output=True)
    except OSError:
        pytest.skip("there is no mount: file systems of their own were not tested")
    if done.returncode:
        pytest.skip("mounting is not allowed here (it needs root): not tested")
    try:
        yield place
    finally:
        subprocess.run([umount, place], check=True)
