"""What stands under a target's name is not replaced while somebody uses it."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.lockers import FORCED, READER, WRITER, opened

from qcow2crypt.errors import ImageLockedError
from qcow2crypt.image import locks
from qcow2crypt.targetfile import TargetFile

pytestmark = pytest.mark.skipif(not locks.AVAILABLE, reason="only Linux has OFD locks")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "disk"
    file.write_bytes(bytes(1000))
    return file


@pytest.mark.parametrize("kind", [READER, WRITER])
def test_a_file_in_use_is_not_replaced(kind: str, path: Path) -> None:
    holder = opened(path, kind)
    for step, arguments in (
        ("lock", ()),
        ("pwrite", (b"x", 0)),
        ("truncate", (5,)),
        ("commit", ()),
    ):
        with TargetFile(path) as file:
            for _ in range(2):
                with pytest.raises(ImageLockedError, match=r"is in use"):
                    getattr(file, step)(*arguments)
    assert path.read_bytes() == bytes(1000)
    assert list(path.parent.iterdir()) == [path]
    holder.close()
    with TargetFile(path) as file:
        file.pwrite(b"new", 0)
        file.commit()
    assert path.read_bytes() == b"new"


def test_a_forced_reader_is_in_nobodys_way(path: Path) -> None:
    holder = opened(path, FORCED)
    with TargetFile(path) as file:
        file.pwrite(b"new", 0)
        file.commit()
    assert holder.pread(5, 0) == bytes(5)
    holder.close()


@pytest.mark.parametrize("finish", ["commit", "close"])
def test_others_wait_until_it_is_over(finish: str, path: Path) -> None:
    with TargetFile(path) as file:
        opened(path, WRITER).close()  # nothing is written yet
        file.pwrite(b"new", 0)
        for kind in (READER, WRITER):
            with pytest.raises(ImageLockedError):
                opened(path, kind)
        opened(path, FORCED).close()
        getattr(file, finish)()
        opened(path, WRITER).close()


def test_two_targets_of_one_name(path: Path) -> None:
    with TargetFile(path) as first, TargetFile(path) as second:
        first.pwrite(b"first", 0)
        with pytest.raises(ImageLockedError):
            second.pwrite(b"second", 0)
        first.commit()
        second.pwrite(b"second", 0)
        second.commit()
    assert path.read_bytes() == b"second"


def test_a_new_name_needs_no_lock(tmp_path: Path) -> None:
    with TargetFile(tmp_path / "new") as file:
        file.lock()
        file.commit()
    assert (tmp_path / "new").exists()
