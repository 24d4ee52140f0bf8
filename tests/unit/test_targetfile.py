"""Output that appears whole or not at all: whatever happens, the target is as it was before."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path
from typing import Any

import pytest
from support.privileges import nobody
from support.targets import NEW, OLD, leftovers, mode_of, umask, write_new

from qcow2crypt.errors import ArgumentError, TargetError
from qcow2crypt.targetfile import TargetFile


class TestCommit:
    def test_a_new_file(self, tmp_path: Path) -> None:
        write_new(tmp_path / "new")
        assert (tmp_path / "new").read_bytes() == NEW
        assert not leftovers(tmp_path)

    def test_a_file_that_exists_is_replaced_at_the_end(self, target: Path) -> None:
        with TargetFile(target) as file:
            file.pwrite(NEW, 0)
            assert target.read_bytes() == OLD
            (part,) = leftovers(target.parent)
            assert part.startswith(".target.")
            file.commit()
            assert target.read_bytes() == NEW
        assert target.read_bytes() == NEW
        assert not leftovers(target.parent)

    def test_writes_in_any_order_and_holes(self, tmp_path: Path) -> None:
        with TargetFile(tmp_path / "new") as file:
            file.pwrite(b"end", 10)
            file.pwrite(memoryview(b"xstartx")[1:-1], 0)
            file.pwrite(b"", 99)
            file.truncate(20)
            file.commit()
        assert (tmp_path / "new").read_bytes() == b"start".ljust(10, b"\0") + b"end".ljust(
            10, b"\0"
        )

    def test_a_relative_name_in_a_folder_that_is_left(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        with TargetFile("new") as file:
            os.chdir("/")
            file.commit()
        assert (tmp_path / "new").exists()

    def test_closing_twice_is_no_error(self, tmp_path: Path) -> None:
        file = TargetFile(tmp_path / "new")
        file.close()
        file.close()
        assert list(tmp_path.iterdir()) == []


class TestPermissions:
    @pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0, 0o666)])
    def test_a_new_file_has_what_the_umask_leaves(
        self, mask: int, mode: int, tmp_path: Path
    ) -> None:
        with umask(mask):
            write_new(tmp_path / "new")
        assert mode_of(tmp_path / "new") == mode

    @pytest.mark.parametrize("mode", [0o600, 0o640, 0o666, 0o755, 0o200])
    def test_an_old_file_keeps_its_own(self, mode: int, target: Path) -> None:
        target.chmod(mode)
        with umask(0o077):
            write_new(target)
        assert mode_of(target) == mode

    def test_the_unfinished_file_is_never_open_to_more_people(
        self, target: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A disk that is being decrypted must not be readable by all for a moment."""
        target.chmod(0o600)
        modes = []
        real = os.open

        def spy(name: str, flags: int, mode: int = 0o777) -> int:
            fd = real(name, flags, mode)
            if flags & os.O_CREAT:
                modes.append(stat.S_IMODE(os.fstat(fd).st_mode))
            return fd

        monkeypatch.setattr(os, "open", spy)
        with umask(0):
            write_new(target)
        assert modes == [0o600]

    def test_a_write_protected_target_is_refused(self) -> None:
        # Not in tmp_path: nobody may not even look into that.
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            folder.chmod(0o777)
            target = folder / "target"
            target.write_bytes(OLD)
            target.chmod(0o444)
            with nobody(), pytest.raises(TargetError, match=r"it is write-protected"):
                TargetFile(target)
            assert target.read_bytes() == OLD
            assert not leftovers(folder)

    def test_a_folder_without_permission(self) -> None:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            folder.chmod(0o555)
            with nobody(), pytest.raises(TargetError, match=r"cannot create .*Permission denied"):
                TargetFile(folder / "new")
            folder.chmod(0o700)
            assert list(folder.iterdir()) == []


class TestPreallocate:
    @pytest.mark.parametrize("how", ["falloc", "full", "no such call"])
    def test_space_is_set_aside(
        self, how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if how == "no such call":
            monkeypatch.delattr(os, "posix_fallocate")
        path = tmp_path / "new"
        with TargetFile(path) as file:
            file.pwrite(b"kept", 0)
            file.preallocate(4096, 3 << 20, full=how == "full")
            file.preallocate(9 << 20, 0, full=how == "full")
            file.pwrite(b"later", 5000)
            file.commit()
        data = path.read_bytes()
        assert data == b"kept".ljust(5000, b"\0") + b"later".ljust((3 << 20) + 4096 - 5000, b"\0")
        assert path.stat().st_blocks * 512 >= 3 << 20

    @pytest.mark.parametrize("full", [True, False])
    def test_old_content(self, *, full: bool, tmp_path: Path) -> None:
        path = tmp_path / "new"
        with TargetFile(path) as file:
            file.pwrite(b"x" * 10000, 0)
            file.preallocate(1000, 10000, full=full)
            file.commit()
        kept = 1000 if full else 10000
        assert path.read_bytes() == (b"x" * kept).ljust(11000, b"\0")

    def test_no_space(self, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: Any) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "posix_fallocate", refuse)
        with (
            pytest.raises(TargetError, match=r"cannot set space aside for '.*': No space left"),
            TargetFile(target) as file,
        ):
            file.preallocate(0, 1 << 20, full=False)
        assert target.read_bytes() == OLD
        assert not leftovers(target.parent)


class TestLinks:
    def test_a_symbolic_link_is_followed(self, target: Path) -> None:
        link = target.with_name("link")
        link.symlink_to(target.name)
        write_new(link)
        assert link.is_symlink()
        assert target.read_bytes() == NEW

    def test_a_link_into_another_folder(self, tmp_path: Path) -> None:
        (tmp_path / "there").mkdir()
        (tmp_path / "link").symlink_to("there/file")
        with TargetFile(tmp_path / "link") as file:
            file.pwrite(NEW, 0)
            assert len(leftovers(tmp_path / "there")) == 1
            file.commit()
        assert (tmp_path / "there" / "file").read_bytes() == NEW
        assert (tmp_path / "link").is_symlink()

    def test_a_link_to_itself(self, tmp_path: Path) -> None:
        (tmp_path / "loop").symlink_to("loop")
        with pytest.raises(TargetError, match=r"Too many levels of symbolic links"):
            TargetFile(tmp_path / "loop")

    def test_a_hard_link_parts_from_its_twin(self, target: Path) -> None:
        twin = target.with_name("twin")
        twin.hardlink_to(target)
        write_new(target)
        assert (target.read_bytes(), twin.read_bytes()) == (NEW, OLD)


class TestWhatIsNoTarget:
    def test_kinds_of_files(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        for path, says in (
            (tmp_path, "it is a directory"),
            (tmp_path / "pipe", "it is a pipe"),
            (Path("/dev/null"), "it is a character device"),
            (tmp_path / "no" / "folder", "cannot create .*No such file or directory"),
            (Path("/dev/null/x"), "Not a directory"),
            (tmp_path / ("x" * 300), "File name too long"),
        ):
            with pytest.raises(TargetError, match=says) as caught:
                TargetFile(path)
            assert str(path) in str(caught.value)
        assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
        assert [path.name for path in tmp_path.iterdir()] == ["pipe"]

    @pytest.mark.parametrize("name", ["", "."])
    def test_no_name_at_all(self, name: str) -> None:
        with pytest.raises(TargetError, match=r"it is a directory"):
            TargetFile(name)

    @pytest.mark.parametrize("name", ["a\0b", "a\ud800b"])
    def test_names_that_no_file_can_have(self, name: str, tmp_path: Path) -> None:
        with pytest.raises(TargetError, match=r"cannot write '.*a\\"):
            TargetFile(f"{tmp_path}/{name}")

    @pytest.mark.parametrize("name", [b"/tmp/x", 3, None])
    def test_what_is_no_name(self, name: Any) -> None:
        with pytest.raises(ArgumentError, match=r"str or PathLike\[str\]"):
            TargetFile(name)

    @pytest.mark.parametrize("name", ["x" * 255, "é" * 127, "€" * 85, "\U0001f511" * 63, "-rf"])
    def test_every_name_that_a_file_can_have(self, name: str, tmp_path: Path) -> None:
        write_new(tmp_path / name)
        assert (tmp_path / name).read_bytes() == NEW

    def test_a_name_that_is_no_text(self, tmp_path: Path) -> None:
        write_new(tmp_path / os.fsdecode(b"\xff\xfe"))
        assert [os.fsencode(path.name) for path in tmp_path.iterdir()] == [b"\xff\xfe"]


def test_identity_is_that_of_the_target_not_of_the_part(target: Path) -> None:
    status = target.stat()
    with TargetFile(target) as file:
        assert file.identity() == (status.st_dev, status.st_ino)
    with TargetFile(target.with_name("new")) as file:
        assert file.identity() is None


@pytest.mark.skipif(not hasattr(os, "pwrite"), reason="no positional writes on this system")
@pytest.mark.parametrize("start", [0, 512, 1 << 20, 2 << 20])
def test_no_write_begins_with_a_huge_page(
    target: Path, start: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linux would take one for it, which in a virtual machine was slow.

    What is written at once by a conversion is no longer than that, so to look at the start is
    enough.
    """
    data, huge = os.urandom(5 << 20), 2 << 20
    calls: list[tuple[int, int]] = []
    real = os.pwrite

    def noted(number: int, view: memoryview, offset: int) -> int:
        done = real(number, view, offset)
        calls.append((offset, offset + done))
        return done

    monkeypatch.setattr(os, "pwrite", noted)
    with TargetFile(target) as file:
        file.pwrite(data, start)
        file.commit()
    assert target.read_bytes() == bytes(start) + data
    assert len(calls) < 8
    for first, end in calls:
        assert first % huge or end - first < huge
