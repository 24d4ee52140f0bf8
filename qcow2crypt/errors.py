"""Every error of this package, in one tree.

Knows nothing of formats or ciphers.  A message says what is wrong, where, and what to do next.
No message, attribute or argument ever holds a passphrase, a key or plaintext.
"""

from __future__ import annotations


class Qcow2CryptError(Exception):
    """Base of all errors of this package.  Never raised itself."""


class ArgumentError(Qcow2CryptError, ValueError):
    """A caller gave an argument that cannot be: a wrong length, range, name or combination."""


class FormatError(Qcow2CryptError):
    """The bytes of an image break a rule of its format.

    ``field``   what was being read, in the words of the qcow2 document
    ``offset``  host offset of that field in bytes, None where there is none
    ``found``   what stands there, ready to print
    ``allowed`` what may stand there, ready to print
    """

    def __init__(
        self, problem: str, *, field: str, offset: int | None, found: str, allowed: str
    ) -> None:
        self.problem = problem
        self.field = field
        self.offset = offset
        self.found = found
        self.allowed = allowed
        where = field if offset is None else f"{field} at host offset {offset:#x}"
        super().__init__(f"{problem}: {where} is {found}; allowed: {allowed}")
        self._in_file = False

    def in_file(self, name: str) -> None:
        """Say which file it is about.  Who knows first is right: the layers above add nothing."""
        if not self._in_file:
            self._in_file = True
            self.args = (f"{self} (in {name})",)

    def __reduce__(self) -> tuple[object, ...]:
        state = {name: value for name, value in self.__dict__.items() if name != "args"}
        return (_rebuild_format_error, (type(self), self.args, state))


def _rebuild_format_error(
    kind: type[FormatError], args: tuple[object, ...], state: dict[str, object]
) -> FormatError:
    """Make pickling work: worker processes hand errors back to the parent."""
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(state)
    return error


class HeaderError(FormatError):
    """The header, or a header extension, is not valid."""


class MappingError(FormatError):
    """An L1 or L2 entry is not valid.  ``guest_offset`` is the first guest byte it maps."""

    def __init__(
        self,
        problem: str,
        *,
        field: str,
        offset: int | None,
        found: str,
        allowed: str,
        guest_offset: int,
    ) -> None:
        super().__init__(problem, field=field, offset=offset, found=found, allowed=allowed)
        self.guest_offset = guest_offset
        self.args = (f"{self.args[0]} (maps guest offset {guest_offset:#x})",)


class CompressedDataError(MappingError):
    """A compressed cluster does not decompress to exactly one cluster."""


class UnsupportedFeatureError(Qcow2CryptError):
    """The image is valid, or may be, but needs ``feature``, which is not supported."""

    def __init__(self, feature: str, hint: str = "") -> None:
        self.feature = feature
        self.hint = hint
        super().__init__(f"not supported: {feature}" + (f" ({hint})" if hint else ""))

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (self.feature, self.hint))


class SecretError(Qcow2CryptError):
    """Something is wrong with a passphrase.  The message never shows it."""


class SecretRequiredError(SecretError):
    """The image is encrypted and no passphrase was given."""


class EngineUnavailableError(Qcow2CryptError):
    """The engine asked for by name does not exist or cannot run here."""

    def __init__(self, name: str, reason: str) -> None:
        self.name = name
        self.reason = reason
        super().__init__(f"engine '{name}' is not available: {reason}")

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (self.name, self.reason))


class SelfTestError(EngineUnavailableError):
    """An engine gave wrong bytes when it was tested.  Never passed over, not by ``auto`` either."""


class SourceError(Qcow2CryptError):
    """The source cannot be read: the operating system said no, or the file is too short."""


class TargetError(Qcow2CryptError):
    """The target cannot be written.  What stood under its name before still stands there."""


class ReadOnlyError(Qcow2CryptError):
    """A write to an image that is, or must be, read-only.  Nothing was written."""


class ImageLockedError(Qcow2CryptError):
    """Another program uses the image in a way that excludes ours (QEMU's image locks)."""


class ExternalReferenceError(Qcow2CryptError):
    """The image names another file that the policy does not let us open.

    ``image`` is the file that has the name, ``reference`` the name as it stands there.
    """

    def __init__(self, image: str, reference: str, reason: str) -> None:
        self.image = image
        self.reference = reference
        self.reason = reason
        super().__init__(f"'{image}' refers to '{reference}', which is not opened: {reason}")

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (self.image, self.reference, self.reason))


class BackingChainError(Qcow2CryptError):
    """A chain of backing files cannot be: it has a loop, or it is too long."""


class SnapshotNotFoundError(ArgumentError):
    """The image has no internal snapshot of that id or name."""


class ComparisonError(Qcow2CryptError):
    """One of two images cannot be read, so nothing can be said of them.

    ``image`` is its name, ``guest_offset`` the place, ``reason`` what reading said, ``in_tables``
    whether the tables that say where things are stored are the reason.
    """

    def __init__(self, image: str, guest_offset: int, reason: str, in_tables: bool) -> None:
        self.image = image
        self.guest_offset = guest_offset
        self.reason = reason
        self.in_tables = in_tables
        super().__init__(f"'{image}' cannot be read at guest offset {guest_offset:#x}: {reason}")

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (self.image, self.guest_offset, self.reason, self.in_tables))


class ProbeError(Qcow2CryptError):
    """It cannot be found out what a program does.  The message says what stands in the way."""


class PtraceRefusedError(ProbeError):
    """The system does not let one process look into another: a container, or a setting of it."""


class BenchError(Qcow2CryptError):
    """Something cannot be measured here: no room, or another program failed or gave wrong data."""


class LabError(Qcow2CryptError):
    """Something cannot be shown: another program failed, or a file is not what it must be."""


class DifftestError(Qcow2CryptError):
    """Two programs cannot be compared: one is missing, or will not do what the case asks for."""
