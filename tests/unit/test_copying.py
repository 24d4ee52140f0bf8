"""A range of a disk to a new image: which bytes, whole or not at all, never onto the source."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.kinds import DISK, KINDS, MIB, OLD, make, secret_of

import qcow2crypt
from qcow2crypt.errors import ArgumentError, Qcow2CryptError, TargetError


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(("start", "length"), [(0, None), (0, 0), (700, 1000), (1 << 17, None)])
@pytest.mark.parametrize("kind", KINDS)
def test_ranges(kind: str, start: int, length: int | None, tmp_path: Path) -> None:
    path, new = make(tmp_path / "old", kind, DISK), tmp_path / "new"
    wanted = DISK[start : None if length is None else start + length]
    with qcow2crypt.open(path, secret_of(kind, OLD), format=KINDS[kind][0]) as image:
        for target_format in ("raw", "qcow2"):
            qcow2crypt.copy_range(
                image,
                new,
                start=start,
                length=length,
                target_format="raw" if target_format == "raw" else "qcow2",
            )
            with qcow2crypt.open(new, format=target_format) as copy:
                content = copy.readall()
            assert content == wanted.ljust(-(-len(wanted) // 512) * 512, b"\0")
        assert image.tell() == 0


def test_zeros_are_stored(tmp_path: Path) -> None:
    source, new = tmp_path / "old", tmp_path / "new"
    with source.open("wb") as file:
        file.truncate(MIB)
    with qcow2crypt.open(source, format="raw") as image:
        qcow2crypt.copy_range(image, new, target_format="qcow2")
    with qcow2crypt.open(new) as copy:
        assert [extent.kind.value for extent in copy.extents()] == ["data"]


@pytest.mark.parametrize(("start", "length"), [(-1, None), (0, MIB + 1), (MIB + 1, 0), (5, -6)])
def test_ranges_outside(start: int, length: int | None, tmp_path: Path) -> None:
    source, new = tmp_path / "old", tmp_path / "new"
    source.write_bytes(bytes(MIB))
    with (
        qcow2crypt.open(source, format="raw") as image,
        pytest.raises(ArgumentError, match="not inside"),
    ):
        qcow2crypt.copy_range(image, new, start=start, length=length)
    assert names_in(tmp_path) == ["old"]


def test_not_onto_the_source_or_what_is_under_it(tmp_path: Path) -> None:
    base, top, link = tmp_path / "base", tmp_path / "top", tmp_path / "link"
    base.write_bytes(DISK)
    options = qcow2crypt.Qcow2Options(backing_file="base", backing_format="raw")
    qcow2crypt.create(top, len(DISK), options=options)
    link.symlink_to(base)
    with qcow2crypt.open(top) as image:
        for target in (top, base, link):
            with pytest.raises(TargetError, match="same file"):
                qcow2crypt.copy_range(image, target)
    assert base.read_bytes() == DISK


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    source, new = tmp_path / "old", tmp_path / "new"
    source.write_bytes(bytes(3 * MIB))
    new.write_bytes(b"before")

    def fail(done: int, total: int) -> None:
        if done:
            raise Qcow2CryptError

    with qcow2crypt.open(source, format="raw") as image, pytest.raises(Qcow2CryptError):
        qcow2crypt.copy_range(image, new, progress=fail)
    assert new.read_bytes() == b"before"
    assert names_in(tmp_path) == ["new", "old"]


def test_progress(tmp_path: Path) -> None:
    source = tmp_path / "old"
    source.write_bytes(bytes(5 * MIB))
    told: list[tuple[int, int]] = []
    with qcow2crypt.open(source, format="raw") as image:
        qcow2crypt.copy_range(
            image, tmp_path / "new", progress=lambda done, total: told.append((done, total))
        )
    assert (told[0], told[-1]) == ((0, 5 * MIB), (5 * MIB, 5 * MIB))
