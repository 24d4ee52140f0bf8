"""The folder of a run: where there is room, and gone at the end, whatever happens."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from qcow2crypt.bench import workfolder
from qcow2crypt.bench.workfolder import file_system, first_with_room, free_room, work_folder
from qcow2crypt.errors import BenchError

TOO_MUCH = 1 << 60


class Ended(BaseException):
    """What a signal is turned into: no Exception."""


@pytest.mark.parametrize("ending", [None, ValueError, KeyboardInterrupt, Ended])
def test_it_is_gone_at_the_end(tmp_path: Path, ending: type[BaseException] | None) -> None:
    def use() -> None:
        with work_folder(1, tmp_path) as folder:
            (folder / "image").write_bytes(bytes(100))
            assert folder.parent == tmp_path
            assert folder.stat().st_mode & 0o077 == 0  # nobody else looks in
            if ending is not None:
                raise ending

    if ending is None:
        use()
    else:
        with pytest.raises(ending):
            use()
    assert list(tmp_path.iterdir()) == []


def test_too_little_room_is_said_before_anything_is_made(tmp_path: Path) -> None:
    with (
        pytest.raises(BenchError, match=r"has \d+ MiB free.*need 1099511627776 MiB.*--quick"),
        work_folder(TOO_MUCH, tmp_path),
    ):
        pytest.fail("there is no such room")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with (
        pytest.raises(BenchError, match="there is no such folder"),
        work_folder(1, tmp_path / "none"),
    ):
        pytest.fail("there is no such folder")


def test_memory_is_taken_first_then_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory, disk = tmp_path / "memory", tmp_path / "disk"
    memory.mkdir()
    disk.mkdir()
    room = {memory: 1000, disk: 5000}
    monkeypatch.setattr(workfolder, "free_room", room.__getitem__)
    assert first_with_room(1000, (memory, disk)) == memory
    assert first_with_room(1001, (memory, disk)) == disk
    with pytest.raises(BenchError, match="--directory") as caught:
        first_with_room(5001, (memory, disk))
    assert str(memory) in str(caught.value)
    assert str(disk) in str(caught.value)


def test_the_default_is_one_of_both(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(workfolder, "MEMORY", tmp_path / "not there")
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    with work_folder(1) as folder:
        assert folder.parent == tmp_path


def test_memory_is_never_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = free_room(tmp_path)
    monkeypatch.setattr(workfolder, "file_system", lambda place: "tmpfs")
    monkeypatch.setattr(workfolder, "_free_memory", lambda: 4096)
    assert free_room(tmp_path) == 2048
    monkeypatch.setattr(workfolder, "file_system", lambda place: "ext4")
    assert free_room(tmp_path) != 2048
    assert real > 2048


@pytest.mark.parametrize(
    ("place", "kind"),
    [("/", "ext4"), ("/data/x", "ext4"), ("/a/b/y", "tmpfs"), ("/a/bc", "devtmpfs")],
)
def test_kinds_of_file_systems(place: str, kind: str) -> None:
    mounts = "a / ext4 rw 0 0\nb /a devtmpfs rw 0 0\nc /a/b tmpfs rw 0 0\n"
    assert file_system(Path(place), mounts) == kind


def test_without_mounts_it_is_unknown() -> None:
    assert file_system(Path("/"), "") == "unknown"
