"""What a person can do about a damaged image: the end of the message of a command.

The library says what is wrong and where; which command comes next is known here.
"""

from __future__ import annotations

from qcow2crypt.errors import CompressedDataError, FormatError, HeaderError

_CHECK = (
    "'qcow2crypt check FILE' tells how much is damaged; 'qcow2crypt check -r all FILE', on a copy, "
    "repairs what can be repaired. 'qcow2crypt dd' reads what lies before and behind the place "
    "(bs=, skip=, count=)"
)
_COMPRESSED = (
    "The data of this cluster is lost. 'qcow2crypt dd' reads what lies before and behind it "
    "(bs=, skip=, count=)"
)
_MAGIC = "Without -f the first bytes of the file decide what it is; -f raw takes it as it is"
_HEADER = (
    "No command repairs this: the header is damaged, or a newer program wrote it. Look for another "
    "copy of the file"
)
_TABLES_OF_HEADER = ("snapshot", "bitmap")
"""How the fields begin that are read with the header and lie elsewhere."""


def next_step(error: BaseException, command: str) -> str:
    """A sentence for the error, or for what caused it; empty where its message says what to do."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, FormatError):
        cause = cause.__cause__
    if cause is None:
        return ""
    if isinstance(cause, CompressedDataError):
        return _COMPRESSED
    if isinstance(cause, HeaderError) and not cause.field.startswith(_TABLES_OF_HEADER):
        return _MAGIC if cause.field == "magic" else _HEADER
    return "" if command == "check" or "check" in str(error) else _CHECK
