"""Which other files may an image make us open?  The policy for backing files and data files.

An image names other files, and an image may come from a stranger: without a rule it could make
a conversion copy ``/etc/shadow`` into the new disk.  Knows paths, no formats.
"""

from __future__ import annotations

import os
from typing import Literal, TypeAlias, get_args

from qcow2crypt.errors import ArgumentError, ExternalReferenceError
from qcow2crypt.image.hostfile import HostFile

External: TypeAlias = Literal["beneath", "any", "none"]

DEFAULT: External = "beneath"
_ALLOW = "--external any (external='any' in Python) allows it"


class Policy:
    """The rule for one chain.

    ``beneath``  files that lie, once symbolic links are followed, in the directory of the image
                 that was opened first, or below it.  That directory is the one that its name
                 says, links followed; if the image itself is a link, it is where the link lies
    ``any``      every local file
    ``none``     no other file

    Raises ArgumentError for another word.
    """

    def __init__(self, external: External, home: str | None) -> None:
        if external not in get_args(External):
            words = ", ".join(get_args(External))
            raise ArgumentError(f"external is one of {words}, not {external!r}")
        self.external = external
        self._home = None if home is None else os.path.realpath(home)

    def check(self, path: str, *, image: str, reference: str) -> None:
        """Let ``path`` be opened, or raise ExternalReferenceError.

        ``reference`` is the name as the file ``image`` has it.
        """
        if self.external == "any":
            return
        if self.external == "none":
            reason = f"no other files are opened with external 'none'; {_ALLOW}"
        elif self._home is None:
            reason = f"the image has no directory that it could lie beneath; {_ALLOW}"
        elif self._is_beneath(path):
            return
        else:
            reason = f"it does not lie beneath the image's own directory '{self._home}'; {_ALLOW}"
        raise ExternalReferenceError(image, reference, reason)

    def check_opened(self, file: HostFile, path: str, *, image: str, reference: str) -> None:
        """The same once ``path`` is open: a link may have been changed since ``check``."""
        if self.external == "any":
            return
        real = os.path.realpath(path)
        self.check(real, image=image, reference=reference)
        try:
            status = os.stat(real)
        except OSError:
            status = None
        if status is None or file.identity() != (status.st_dev, status.st_ino):
            raise ExternalReferenceError(
                image, reference, "what its name means changed while it was opened; try again"
            )

    def _is_beneath(self, path: str) -> bool:
        home = self._home
        try:
            real = os.path.realpath(path)
        except (OSError, ValueError):
            return False
        return home is not None and os.path.commonpath((home, real)) == home


def home_of(file: HostFile) -> str | None:
    """The directory of an image by its name; None for a file object whose name is not its place."""
    try:
        status = os.stat(file.name)
    except (OSError, ValueError):
        return None
    if file.identity() != (status.st_dev, status.st_ino):
        return None
    return os.path.dirname(os.path.abspath(file.name))
