"""What goes wrong before the library is called: a command line that cannot be run.

Knows no options and no images.  Both kinds end with exit code 1, as in qemu-img.
"""

from __future__ import annotations

from qcow2crypt.errors import Qcow2CryptError


class CommandError(Qcow2CryptError):
    """The command cannot be carried out.  Holds no passphrase, as every error of the package."""


class UsageError(CommandError):
    """The words of the command line are wrong: the message is followed by a pointer to --help."""
