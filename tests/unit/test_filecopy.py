"""A file is copied with its holes, by the operating system or by hand."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from qcow2crypt.filecopy import copy_file

MIB = 1 << 20


def _copied(source: Path, target: Path) -> Path:
    with source.open("rb") as one, target.open("xb") as other:
        copy_file(one.fileno(), other.fileno())
    return target


@pytest.fixture(params=["by the system", "no such call", "another file system", "part of it"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    way: str = request.param
    if way == "by the system" or not hasattr(os, "copy_file_range"):
        return way
    real = os.copy_file_range
    calls: list[int] = []

    def refuse(*_: Any) -> int:
        raise OSError(errno.EXDEV, "another file system")

    def some(source: int, target: int, count: int, start: int, to: int) -> int:
        calls.append(count)
        return real(source, target, min(count, 1000), start, to) if len(calls) < 3 else 0

    if way == "no such call":
        monkeypatch.delattr(os, "copy_file_range")
    else:
        monkeypatch.setattr(os, "copy_file_range", refuse if way[0] == "a" else some)
    return way


@pytest.mark.parametrize("size", [0, 1, 5 * MIB, 5 * MIB + 777])
def test_content_and_holes(way: str, size: int, tmp_path: Path) -> None:
    source = tmp_path / "source"
    with source.open("wb") as file:
        for at in (0, 2 * MIB, 5 * MIB - 5):
            if at < size:
                file.seek(at)
                file.write(b"data" * 10_000)
        file.truncate(size)
    target = _copied(source, tmp_path / "target")
    assert target.read_bytes() == source.read_bytes(), way
    if hasattr(os, "SEEK_DATA"):
        assert target.stat().st_blocks <= source.stat().st_blocks


def test_without_holes_to_see(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "SEEK_DATA", raising=False)
    (tmp_path / "source").write_bytes(b"abc" * 700_000)
    target = _copied(tmp_path / "source", tmp_path / "target")
    assert target.read_bytes() == b"abc" * 700_000


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "copy_file_range", full, raising=False)
    (tmp_path / "source").write_bytes(b"abc")
    with pytest.raises(OSError, match="full"):
        _copied(tmp_path / "source", tmp_path / "target")
