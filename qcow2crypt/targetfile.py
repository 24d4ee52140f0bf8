"""Output that appears whole or not at all.

The bytes go to a new file beside the target, under another name; ``commit`` syncs it and
renames it over the target in one step.  Until then, and after any failure, what stood under
the target's name still stands there.  A file that a virtual machine or another program has open
is not replaced: it would go on with one that has no name any more.

Knows bytes, nothing of formats.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading

from qcow2crypt.errors import ArgumentError, TargetError
from qcow2crypt.filecopy import copy_file
from qcow2crypt.image import locks
from qcow2crypt.image.filecalls import claim, kind, sync_data
from qcow2crypt.output import Output
from qcow2crypt.pagecache import CacheMode

PART_SUFFIX = ".qcow2crypt-part"
KEPT = "resume"
_NAME_BYTES_MAX = 200
_ZEROS_AT_ONCE = 1 << 20


def short_name(base: str) -> str:
    """So much of a file name that more can be added to it: file systems have a limit on bytes."""
    # Half a character at the cut does no harm.
    return os.fsdecode(os.fsencode(base)[:_NAME_BYTES_MAX])


class TargetFile(Output):
    """A file in the making.  A context manager: leaving it without ``commit`` removes it.

    The name of the unfinished file is ``.TARGET.XXXXXXXX.qcow2crypt-part`` in the same folder;
    only a process that is killed outright leaves one behind, and it is safe to delete.
    ``cache`` is how QEMU says it: ``unsafe`` syncs nothing, ``none`` and ``directsync`` leave no
    bytes in the page cache; None does so with a large file only.
    With ``kept`` the unfinished file is ``.TARGET.resume.qcow2crypt-part``, one that is there is
    gone on with, and it stays while ``keeps_part`` is true.
    A symbolic link is followed: the file it points to is replaced, the link stays.
    Raises TargetError, and ImageLockedError as ``lock`` says.
    """

    after_failure = "The target is as it was before"

    def __init__(
        self,
        target: str | os.PathLike[str],
        *,
        cache: CacheMode | None = None,
        kept: bool = False,
    ) -> None:
        super().__init__(cache)
        self.keeps_part = kept
        self._part = ""
        self._old_fd: int | None = None  # of the file to be replaced, which holds our locks
        self._lock_is_taken = False
        self._locking = threading.Lock()
        self._companions: list[TargetFile] = []
        self._process = os.getpid()
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
        unique = KEPT if kept else os.urandom(4).hex()
        part = os.path.join(folder, f".{short_name(base)}.{unique}{PART_SUFFIX}")
        flags = os.O_RDWR | os.O_CREAT | (getattr(os, "O_NOFOLLOW", 0) if kept else os.O_EXCL)
        flags |= getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
        try:
            self._part = part  # a signal can come as soon as it is there
            try:
                # Never open to more people than the target is, not even for a moment.
                self._fd = os.open(part, flags, 0o666 if mode is None else mode & 0o666)
            except OSError:
                self._part = ""
                raise
            claim(self._fd)
            if kept:
                self._check_ours(part)
            self._watch_cache()
            if mode is not None and hasattr(os, "fchmod"):
                os.fchmod(self._fd, mode)
        except OSError as error:
            self.close()
            self._fail("create", error)

    def __enter__(self) -> TargetFile:
        return self

    def __del__(self) -> None:
        # A signal can come before a ``with`` has it.  A fork has one, too, that is not its own.
        if getattr(self, "_process", None) == os.getpid():
            self.close()

    def _check_ours(self, part: str) -> None:
        """A file that was there already must not be one that somebody else can read."""
        status = os.fstat(self._fd)
        if not stat.S_ISREG(status.st_mode) or (
            hasattr(os, "geteuid") and status.st_uid != os.geteuid()
        ):
            self.close()
            raise TargetError(f"'{part}' is not a file of yours: look what it is, and remove it")

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
                f"cannot write '{self.name}': it is {kind(mode)}. A target is a regular file or a "
                "block device; for a pipe write to standard output"
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

    def with_companion(self, target: str | os.PathLike[str]) -> TargetFile:
        """A second file that belongs to this one: it appears just before it, or not at all.

        Raises TargetError when it is the same file.
        """
        companion = TargetFile(target, cache=self._cache)
        self._companions.append(companion)
        if companion._path == self._path:
            raise TargetError(f"an image cannot be its own data file: '{self.name}'")
        return companion

    @property
    def companions(self) -> tuple[TargetFile, ...]:
        """The files that belong to this one."""
        return tuple(self._companions)

    def lock(self) -> None:
        """Keep others from using the file that is to be replaced, until this is over.

        Its locks are those of a writer in place, as qemu-img has them.  Raises ImageLockedError
        when the file is in use.  The first write does this too; call it before reading the old
        content.  A file that may be replaced but not read cannot be locked.
        """
        if self._lock_is_taken:
            return
        with self._locking:
            if not self._lock_is_taken:
                self._take_lock()
                self._lock_is_taken = True

    def _take_lock(self) -> None:
        if locks.AVAILABLE:  # Windows replaces no file that is open
            try:
                fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            except (FileNotFoundError, PermissionError):
                pass
            except OSError as error:
                self._fail("look at", error)
            else:
                self._old_fd = fd
                try:
                    locks.acquire(fd, self.name, locks.lock_bytes(writing=True), frozenset())
                except BaseException:
                    self._unlock()
                    raise

    @property
    def folder(self) -> str:
        """Where the target lies."""
        return os.path.dirname(self._path)

    @property
    def part(self) -> str:
        """The name of the unfinished file, for who changes a copy of the old one in place."""
        return self._part

    @property
    def size(self) -> int:
        """The length of the unfinished file."""
        return os.fstat(self._fd).st_size

    def pread(self, length: int, offset: int) -> bytes:
        """What the unfinished file holds.  Raises TargetError."""
        try:
            return os.pread(self._fd, length, offset)
        except OSError as error:
            self._fail("read", error)

    def flush(self) -> None:
        """Put what was written so far on the disk."""
        try:
            sync_data(self._fd)
        except OSError as error:
            self._fail("sync", error)

    def copy_old(self) -> None:
        """Begin with the bytes of the file that is to be replaced.  Its holes stay holes."""
        self.lock()
        try:
            fd = os.open(self._path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
            try:
                copy_file(fd, self._fd)
            finally:
                os.close(fd)
        except OSError as error:
            self._fail("copy", error)

    def _unlock(self) -> None:
        fd, self._old_fd = self._old_fd, None
        if fd is not None:
            os.close(fd)

    def need(self, size: int) -> None:
        """A file grows: whether there is room, writing tells."""

    def clear(self, offset: int, length: int) -> None:
        """A new file has a hole where nobody writes."""

    def truncate(self, size: int) -> None:
        """Set the length; a longer file gets a hole."""
        self.lock()
        if self.replaying is not None:
            return
        try:
            os.ftruncate(self._fd, size)
        except OSError as error:
            self._fail("set the size of", error)

    def preallocate(self, offset: int, length: int, *, full: bool) -> None:
        """Have the file system set a range aside; ``full``: write zeros to it.

        What the range held is kept without ``full``, and the file grows to hold it.  A file
        system that can set nothing aside gets zeros written where the file had nothing yet.
        """
        self.lock()
        if length <= 0 or self.replaying is not None:
            return
        end = offset + length
        try:
            if not full and hasattr(os, "posix_fallocate"):
                os.posix_fallocate(self._fd, offset, length)
                return
            if not full:
                offset = max(offset, os.fstat(self._fd).st_size)
        except OSError as error:
            self._fail("set space aside for", error)
        zeros = bytes(_ZEROS_AT_ONCE)
        while offset < end:
            piece = min(end - offset, len(zeros))
            self.pwrite(zeros[:piece], offset)
            offset += piece

    def commit(self) -> None:
        """Sync, rename over the target, sync the folder; companions are renamed just before.

        When that fails, what stood under the names of the companions comes back.
        """
        self.lock()
        for file in (*self._companions, self):
            file.settle()
        kept: list[tuple[TargetFile, str]] = []
        try:
            for companion in self._companions:
                kept.append((companion, companion.keep_old()))
                companion.take_over()
            self.take_over()
        except BaseException:
            for companion, old in kept:
                companion.bring_back(old)
            raise
        for _, old in kept:
            with contextlib.suppress(OSError):
                os.unlink(old)
        folders = {file.folder for file in (*self._companions, self)}
        self.close()
        for folder in folders if self._cache != "unsafe" else ():
            _sync_folder(folder)

    def settle(self) -> None:
        """Put all that was written on the disk; nothing is written after that."""
        self.lock()
        try:
            self._sync()
            os.close(self._fd)
            self._fd = -1
        except OSError as error:
            self._fail("finish", error)

    def take_over(self) -> None:
        """Rename the finished file over the target."""
        try:
            os.replace(self._part, self._path)
        except OSError as error:
            self._fail("finish", error)
        self._part = ""

    def keep_old(self) -> str:
        """Give the old file a second name, where the file system has such.

        Gives that name, or "" if there is no old file.
        """
        if self.identity() is None:
            return ""
        name = f"{self._part.removesuffix(PART_SUFFIX)}-old{PART_SUFFIX}"
        with contextlib.suppress(OSError):
            os.link(self._path, name)
        return name

    def bring_back(self, old: str) -> None:
        """Undo ``take_over``, if it happened."""
        with contextlib.suppress(OSError):
            if not self._part and old:
                os.replace(old, self._path)
            elif old:
                os.unlink(old)
            elif not self._part:
                os.unlink(self._path)

    def close(self) -> None:
        """Remove the unfinished file, unless it was committed; let go of the old one."""
        while self._companions:
            self._companions.pop().close()
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
        if self._part and not self.keeps_part:
            with contextlib.suppress(OSError):
                os.unlink(self._part)
            self._part = ""
        self._unlock()


def _sync_folder(path: str) -> None:
    """Make the rename last.  Some file systems cannot; the data itself is synced already."""
    with contextlib.suppress(OSError):
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
