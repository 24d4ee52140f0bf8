"""Output that appears whole or not at all.

The bytes go to a new file beside the target, under another name; ``commit`` syncs it and
renames it over the target in one step.  Until then, and after any failure, what stood under
the target's name still stands there.  Knows bytes, nothing of formats.
"""

from __future__ import annotations

import contextlib
import os
import stat
from types import TracebackType
from typing import NoReturn

from qcow2crypt.errors import ArgumentError, TargetError
from qcow2crypt.units import ReadBuffer

PART_SUFFIX = ".qcow2crypt-part"
_NAME_BYTES_MAX = 200


class TargetFile:
    """A file in the making.  A context manager: leaving it without ``commit`` removes it.

    The name of the unfinished file is ``.TARGET.XXXXXXXX.qcow2crypt-part`` in the same folder;
    only a process that is killed outright leaves one behind, and it is safe to delete.
    A symbolic link is followed: the file it points to is replaced, the link stays.
    Raises TargetError.
    """

    def __init__(self, target: str | os.PathLike[str]) -> None:
        self._fd = -1
        self._part = ""
        name = os.fspath(target) if isinstance(target, os.PathLike) else target
        if not isinstance(name, str):
            raise ArgumentError("a target is named by a str or PathLike[str]")
        self.name = name
        try:
            self._path = os.path.realpath(name)
            mode = self._check_target()
        except ValueError as error:  # a NUL character, or one that file names cannot have
            raise TargetError(f"cannot write {name!r}: {error}") from error
        folder, base = os.path.split(self._path)
        # A limit on bytes, as file systems have; half a character at the cut does no harm.
        short = os.fsdecode(os.fsencode(base)[:_NAME_BYTES_MAX])
        unique = f".{short}.{os.urandom(4).hex()}{PART_SUFFIX}"
        part = os.path.join(folder, unique)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
        flags |= getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
        try:
            # Never open to more people than the target is, not even for a moment.
            self._fd = os.open(part, flags, 0o666 if mode is None else mode & 0o666)
            self._part = part
            if mode is not None and hasattr(os, "fchmod"):
                os.fchmod(self._fd, mode)
        except OSError as error:
            self.close()
            self._fail("create", error)

    def _check_target(self) -> int | None:
        """The permissions of a target that exists; refuse what a rename would ruin."""
        try:
            mode = os.stat(self._path).st_mode
        except FileNotFoundError:
            return None
        except OSError as error:
            self._fail("look at", error)
        if stat.S_ISDIR(mode):
            raise TargetError(f"cannot write '{self.name}': it is a directory")
        if not stat.S_ISREG(mode):
            raise TargetError(
                f"cannot write '{self.name}': it is not a regular file. Devices and pipes are "
                "not supported as a target yet; convert to a file and copy it there"
            )
        if not os.access(self._path, os.W_OK):
            raise TargetError(f"cannot write '{self.name}': it is write-protected")
        return stat.S_IMODE(mode)

    def identity(self) -> tuple[int, int] | None:
        """Device and inode of what stands under the target's name; None if nothing does."""
        try:
            status = os.stat(self._path)
        except OSError:
            return None
        return (status.st_dev, status.st_ino)

    def pwrite(self, data: ReadBuffer, offset: int) -> None:
        """Write all of ``data`` at ``offset``."""
        view = memoryview(data).cast("B")
        try:
            if hasattr(os, "pwrite"):
                done = 0
                while done < view.nbytes:
                    done += os.pwrite(self._fd, view[done:], offset + done)
            else:
                os.lseek(self._fd, offset, os.SEEK_SET)
                done = 0
                while done < view.nbytes:
                    done += os.write(self._fd, view[done:])
        except OSError as error:
            self._fail("write", error)

    def truncate(self, size: int) -> None:
        """Set the length; a longer file gets a hole."""
        try:
            os.ftruncate(self._fd, size)
        except OSError as error:
            self._fail("set the size of", error)

    def commit(self) -> None:
        """Sync, rename over the target, sync the folder."""
        try:
            os.fsync(self._fd)
            os.close(self._fd)
            self._fd = -1
            os.replace(self._part, self._path)
        except OSError as error:
            self._fail("finish", error)
        self._part = ""
        _sync_folder(os.path.dirname(self._path))

    def close(self) -> None:
        """Remove the unfinished file, unless it was committed."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if self._part:
            with contextlib.suppress(OSError):
                os.unlink(self._part)
            self._part = ""

    def _fail(self, verb: str, error: OSError) -> NoReturn:
        reason = error.strerror or str(error)
        raise TargetError(
            f"cannot {verb} '{self.name}': {reason}. The target is as it was before"
        ) from error

    def __enter__(self) -> TargetFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _sync_folder(path: str) -> None:
    """Make the rename last.  Some file systems cannot; the data itself is synced already."""
    with contextlib.suppress(OSError):
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
