"""What goes wrong before the library is called: a command line that cannot be run.

Knows no options and no images.  The exit code is 1, as in qemu-img, unless a command says other.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from qcow2crypt.errors import Qcow2CryptError


class CommandError(Qcow2CryptError):
    """The command cannot be carried out.  Holds no passphrase, as every error of the package."""

    status = 1
    """The exit code."""


class UsageError(CommandError):
    """The words of the command line are wrong: the message is followed by a pointer to --help."""


@contextlib.contextmanager
def exit_status(status: int) -> Iterator[None]:
    """Let errors of the block end with another exit code: raises CommandError for each of them."""
    try:
        yield
    except UsageError:
        raise
    except Qcow2CryptError as error:
        failure = CommandError(str(error))
        failure.status = status
        raise failure from error
