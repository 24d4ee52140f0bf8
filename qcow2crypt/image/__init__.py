"""Images: open one, whatever its format.

``open_image`` is the only door.  An explicit format wins; else the first bytes decide, and raw
is what is left.  A format that is known but not read is refused by name, never taken for raw.
"""

from __future__ import annotations

from qcow2crypt.errors import ArgumentError, UnsupportedFeatureError
from qcow2crypt.image.base import Image
from qcow2crypt.image.hostfile import HostFile, Source
from qcow2crypt.image.probe import READABLE_FORMATS, probe
from qcow2crypt.image.qcow2.reader import Qcow2Image
from qcow2crypt.image.raw import RawImage
from qcow2crypt.secret import Secret


def open_image(
    source: Source,
    secret: Secret = None,
    mode: str = "r",
    *,
    format: str | None = None,  # noqa: A002 - the word of qemu-img
    engine: str | None = None,
) -> Image:
    """Open a guest disk: a path, or a binary file object that can seek.

    ``secret`` is a passphrase as str or bytes, or a callable that gives one.  ``mode`` is "r":
    images are only read.  ``format`` is "qcow2", "raw" or None to look at the first bytes.

    Raises SourceError, FormatError, UnsupportedFeatureError, SecretRequiredError, SecretError,
    EngineUnavailableError, and ArgumentError for a format that is not known.
    """
    if mode not in ("r", "rb"):
        raise UnsupportedFeatureError(f"mode {mode!r}: images are only read", "use mode='r'")
    file = HostFile(source)
    try:
        found = format or probe(file)
        if found == "raw":
            return RawImage(file)
        if found == "qcow2":
            return Qcow2Image(file, secret=secret, engine=engine)
        if format is not None:
            raise ArgumentError(f"format {format!r} is not one of {', '.join(READABLE_FORMATS)}")
        raise UnsupportedFeatureError(
            f"images of format {found}", f"'{file.name}'; use format='raw' for its raw bytes"
        )
    except BaseException:
        file.close()
        raise
