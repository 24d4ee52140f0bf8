"""JSON on the command line, as QEMU takes it.  The rules are in ``qcow2crypt.image.qemujson``."""

from __future__ import annotations

from qcow2crypt.cli.failures import CommandError
from qcow2crypt.errors import ArgumentError
from qcow2crypt.image import qemujson


def parse_object(text: str, *, what: str, texts_only: bool = False) -> dict[str, str]:
    """The object in ``text``, flattened.  Raises CommandError, which begins with ``what``."""
    try:
        return qemujson.parse_object(text, what=what, texts_only=texts_only)
    except ArgumentError as error:
        raise CommandError(str(error)) from None
