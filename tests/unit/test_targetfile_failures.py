"""Whatever happens to a write, the target is as it was before, and nothing stands beside it."""

from __future__ import annotations

import gc
import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from support.targets import NEW, OLD, leftovers, write_new

import qcow2crypt
from qcow2crypt.errors import TargetError
from qcow2crypt.targetfile import TargetFile


def interrupted(lines: int, target: Path) -> bool:
    """Interrupt the making of a target after so many lines of ours; whether it came so far."""
    left = lines

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal left
        del argument
        if frame.f_code.co_name == "__del__":  # Python drops what is raised in there
            sys.settrace(None)
            return None
        if not frame.f_code.co_filename.endswith(("targetfile.py", "output.py")):
            return None
        if event == "line":
            left -= 1
            if left < 0:
                raise KeyboardInterrupt
        return trace

    old = sys.gettrace()
    sys.settrace(trace)
    try:
        with TargetFile(target):
            pass
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(old)
    return False


class TestFailures:
    """What stood under the name still stands there, and nothing stands beside it."""

    @pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, MemoryError])
    def test_an_exception(self, error: type[BaseException], target: Path) -> None:
        def work() -> None:
            with TargetFile(target) as file:
                file.pwrite(NEW, 0)
                raise error

        with pytest.raises(error):
            work()
        self.check_untouched(target)

    def test_an_interrupt_at_any_line(self, target: Path) -> None:
        """Also between the making of the file and the ``with`` that takes care of it."""
        lines = 0
        gc.disable()  # it may come to a ``__del__`` of somebody else's, which ends the tracing
        try:
            while interrupted(lines, target):
                self.check_untouched(target)
                lines += 1
        finally:
            gc.enable()
        assert lines > 20

    def test_a_fork_leaves_the_file_alone(self, target: Path) -> None:
        file = TargetFile(target)
        child = os.fork()
        if not child:
            del file
            os._exit(0)
        os.waitpid(child, 0)
        assert leftovers(target.parent)
        file.close()
        self.check_untouched(target)

    def test_leaving_without_commit(self, target: Path) -> None:
        with TargetFile(target) as file:
            file.pwrite(NEW, 0)
        self.check_untouched(target)

    def test_a_write_that_fails(self, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(*_: Any) -> int:
            raise OSError(28, "No space left on device")

        with TargetFile(target) as file:
            monkeypatch.setattr(os, "pwrite", full)
            with pytest.raises(TargetError) as caught:
                file.pwrite(NEW, 0)
        assert str(caught.value) == (
            f"cannot write '{target}': No space left on device. The target is as it was before"
        )
        self.check_untouched(target)

    @pytest.mark.parametrize("step", ["fsync", "replace", "ftruncate"])
    def test_a_last_step_that_fails(
        self, step: str, target: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: Any) -> None:
            raise OSError(5, "Input/output error")

        with TargetFile(target) as file:
            file.pwrite(NEW, 0)
            monkeypatch.setattr(os, step, fail)
            with pytest.raises(TargetError, match=r"Input/output error. The target is as it was"):
                file.truncate(5) if step == "ftruncate" else file.commit()
        self.check_untouched(target)

    def test_a_file_made_unreachable_at_birth(
        self, target: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: Any) -> None:
            raise OSError(1, "Operation not permitted")

        monkeypatch.setattr(os, "fchmod", fail)
        with pytest.raises(TargetError, match=r"cannot create .*Operation not permitted"):
            TargetFile(target)
        self.check_untouched(target)

    def test_short_writes_are_carried_on(
        self, target: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = os.pwrite
        monkeypatch.setattr(os, "pwrite", lambda fd, data, at: real(fd, data[:3], at))
        write_new(target)
        assert target.read_bytes() == NEW

    def test_a_folder_that_cannot_be_synced_is_no_failure(
        self, target: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = os.fsync

        def files_only(fd: int) -> None:
            if stat.S_ISDIR(os.fstat(fd).st_mode):
                raise OSError(22, "Invalid argument")
            real(fd)

        monkeypatch.setattr(os, "fsync", files_only)
        write_new(target)
        assert target.read_bytes() == NEW

    def test_the_file_is_synced_before_it_gets_its_name(
        self, target: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        done = []
        for name in ("fsync", "replace"):
            real = getattr(os, name)

            def spy(*args: Any, _name: str = name, _real: Any = real) -> Any:
                done.append(_name)
                return _real(*args)

            monkeypatch.setattr(os, name, spy)
        write_new(target)
        assert done == ["fsync", "replace", "fsync"]

    def test_a_limit_on_file_sizes(self, target: Path, tmp_path: Path) -> None:
        """The kernel says no in the middle of a conversion."""
        source = tmp_path / "source"
        source.write_bytes(os.urandom(2 << 20))
        old = resource.getrlimit(resource.RLIMIT_FSIZE)
        before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, old[1]))
            with pytest.raises(TargetError, match=r"File too large. The target is as it was"):
                qcow2crypt.convert(source, target, source_format="raw", target_format="qcow2")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, old)
            signal.signal(signal.SIGXFSZ, before)
        self.check_untouched(target)

    def test_a_full_disk(self, tmp_path: Path) -> None:
        """On a real file system of 1 MiB, where root may mount one."""
        mount = tmp_path / "small"
        mount.mkdir()
        program = shutil.which("mount")
        command = [str(program), "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(mount)]
        if not program or subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("no small file system can be mounted here: a full disk was not tested")
        try:
            source, target = tmp_path / "source", mount / "target"
            source.write_bytes(os.urandom(3 << 20))
            target.write_bytes(OLD)
            with pytest.raises(TargetError, match=r"No space left on device. The target is as it"):
                qcow2crypt.convert(source, target, source_format="raw", target_format="qcow2")
            self.check_untouched(target)
        finally:
            subprocess.run([f"{program[:-5]}umount", str(mount)], check=True)

    def test_a_process_that_is_killed(self, target: Path, tmp_path: Path) -> None:
        """SIGKILL in the middle: the old file is whole, and the part file has no magic."""
        (tmp_path / "source").write_bytes(os.urandom(4 << 20))
        program = (
            "import os, signal, sys, qcow2crypt\n"
            "def die(done, total):\n"
            "    if done >= total // 2: os.kill(os.getpid(), signal.SIGKILL)\n"
            "qcow2crypt.convert('source', 'target', source_format='raw', target_format='qcow2',"
            " progress=die)\n"
        )
        home = Path(qcow2crypt.__file__).parent.parent
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(home)},
            capture_output=True,
            check=False,
        )
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert target.read_bytes() == OLD
        (part,) = leftovers(tmp_path)
        content = (tmp_path / part).read_bytes()
        assert len(content) > 1 << 20
        assert content[:4] == bytes(4), "an unfinished file must not look like an image"

    @staticmethod
    def check_untouched(target: Path) -> None:
        assert target.read_bytes() == OLD
        assert not leftovers(target.parent)
