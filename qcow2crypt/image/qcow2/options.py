"""What a new qcow2 file shall be like.  Checked when made; knows nothing of files.

The rules and their reasons are qemu-img's, but for one: see ``_check_preallocation``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, NamedTuple, TypeAlias

from qcow2crypt.errors import ArgumentError
from qcow2crypt.image.qcow2.header import (
    AUTOCLEAR_RAW_DATA_FILE,
    BACKING_NAME_MAX,
    CLUSTER_BITS_MAX,
    CLUSTER_BITS_MIN,
    COMPAT_LAZY_REFCOUNTS,
    COMPRESSION_ZSTD,
    CRYPT_AES,
    SUBCLUSTERS,
    Header,
)
from qcow2crypt.units import SECTOR_SIZE

DEFAULT_CLUSTER_SIZE = 65536
PREALLOCATIONS = ("off", "metadata", "falloc", "full")
Preallocation: TypeAlias = Literal["off", "metadata", "falloc", "full"]
_FORMAT_NAME_MAX = 15


class _Fields(NamedTuple):
    version: Literal[2, 3]
    cluster_size: int
    encryption: Literal["aes"] | None
    lazy_refcounts: bool
    refcount_bits: int
    compression_type: Literal["zlib", "zstd"]
    extended_l2: bool
    preallocation: Preallocation
    backing_file: str | None
    backing_format: str | None
    data_file: str | None
    data_file_raw: bool


class Qcow2Options(_Fields):
    """Options for ``create`` and ``convert``, with qemu-img's defaults.

    ``version``           2 (compat=0.10) or 3 (compat=1.1)
    ``cluster_size``      bytes, a power of two from 512 to 2 MiB
    ``encryption``        None or ``"aes"``: the legacy scheme, broken by design; use it only to
                          make files for old readers and for tests
    ``lazy_refcounts``    version 3 only: sets the header bit
    ``refcount_bits``     width of a refcount: a power of two from 1 to 64; version 2 has 16
    ``compression_type``  ``"zlib"`` or ``"zstd"`` (version 3 only): how clusters are compressed
    ``extended_l2``       version 3, clusters of 16 KiB or more: L2 entries with 32 subclusters
    ``preallocation``     ``"off"``; ``"metadata"``: every cluster has its place, the file stays
                          sparse; ``"falloc"``: the file system sets the space aside; ``"full"``:
                          it is written.  The guest reads zeros, in encrypted images too
    ``backing_file``      name of the image that unwritten ranges are read from, as it shall
                          stand in the header
    ``backing_format``    the format of the backing file: needed with ``backing_file``
    ``data_file``         version 3 only: name of a file for the guest data
    ``data_file_raw``     the data file is a raw image of the disk; implies metadata preallocation

    Raises ArgumentError for what cannot be combined.
    """

    __slots__ = ()

    def __new__(  # noqa: PLR0917 - one for each field
        cls,
        version: Literal[2, 3] = 3,
        cluster_size: int = DEFAULT_CLUSTER_SIZE,
        encryption: Literal["aes"] | None = None,
        lazy_refcounts: bool = False,
        refcount_bits: int = 16,
        compression_type: Literal["zlib", "zstd"] = "zlib",
        extended_l2: bool = False,
        preallocation: Preallocation = "off",
        backing_file: str | None = None,
        backing_format: str | None = None,
        data_file: str | None = None,
        data_file_raw: bool = False,
    ) -> Qcow2Options:
        """Refuse what cannot be."""
        self = super().__new__(
            cls,
            version,
            cluster_size,
            encryption,
            lazy_refcounts,
            refcount_bits,
            compression_type,
            extended_l2,
            preallocation,
            backing_file,
            backing_format,
            data_file,
            data_file_raw,
        )
        self._check()
        return self

    @classmethod
    def _make(cls, iterable: Iterable[Any]) -> Qcow2Options:  # type: ignore[override]
        return cls(*iterable)  # for _replace: checked as well

    def _check(self) -> None:
        if self.version not in (2, 3):
            raise ArgumentError(f"qcow2 version is 2 or 3, not {self.version}")
        if self.encryption not in (None, "aes"):
            raise ArgumentError(f"encryption is None or 'aes', not {self.encryption!r}")
        size = self.cluster_size
        smallest, largest = 1 << CLUSTER_BITS_MIN, 1 << CLUSTER_BITS_MAX
        if not smallest <= size <= largest or size & (size - 1):
            raise ArgumentError(
                f"cluster size must be a power of two from {smallest} to {largest}, not {size}"
            )
        if self.compression_type not in ("zlib", "zstd"):
            raise ArgumentError(
                f"compression type is 'zlib' or 'zstd', not {self.compression_type!r}"
            )
        bits = self.refcount_bits
        if not 1 <= bits <= 64 or bits & (bits - 1):
            raise ArgumentError(f"refcount width must be a power of two from 1 to 64, not {bits}")
        self._check_version()
        if self.extended_l2 and size < SUBCLUSTERS * SECTOR_SIZE:
            raise ArgumentError(
                f"extended L2 tables need clusters of {SUBCLUSTERS * SECTOR_SIZE} bytes or more, "
                f"not {size}"
            )
        self._check_names()
        self._check_preallocation()

    def _check_version(self) -> None:
        if self.version == 3:
            return
        if self.refcount_bits != 16:
            raise ArgumentError("refcount widths other than 16 need version 3")
        newer = {
            "lazy refcounts": self.lazy_refcounts,
            "zstd": self.compression_type != "zlib",
            "extended L2 tables": self.extended_l2,
            "external data files": self.data_file is not None,
        }
        for what, wanted in newer.items():
            if wanted:
                raise ArgumentError(
                    f"{what} need version 3 (compat=1.1 or above); this is version 2"
                )

    def _check_names(self) -> None:
        if self.backing_format is not None:
            if self.backing_file is None:
                raise ArgumentError("a backing format is given, but no backing file")
            if not 0 < len(_bytes_of(self.backing_format)) <= _FORMAT_NAME_MAX:
                raise ArgumentError(
                    f"the name of a backing format has 1 to {_FORMAT_NAME_MAX} bytes, "
                    f"not {len(_bytes_of(self.backing_format))}"
                )
        for what, name in (("backing", self.backing_file), ("data", self.data_file)):
            if name is None:
                continue
            length = len(_bytes_of(name))
            if not 0 < length <= BACKING_NAME_MAX:
                raise ArgumentError(
                    f"the name of the {what} file has 1 to {BACKING_NAME_MAX} bytes, not {length}"
                )
        if self.data_file_raw:
            if self.data_file is None:
                raise ArgumentError("data_file_raw needs a data_file")
            if self.backing_file is not None:
                raise ArgumentError(
                    "a backing file and data_file_raw exclude each other: the data file alone "
                    "would not be the disk"
                )

    def _check_preallocation(self) -> None:
        wanted = self.preallocation
        if wanted not in PREALLOCATIONS:
            raise ArgumentError(
                f"preallocation is one of {', '.join(PREALLOCATIONS)}, not {wanted!r}"
            )
        if wanted == "off":
            return
        if self.backing_file is not None and not self.extended_l2:
            raise ArgumentError(
                "preallocation with a backing file needs extended L2 tables: without them every "
                "preallocated cluster would hide the backing file"
            )
        if self.version == 2 and self.encryption and wanted != "full":
            # QEMU makes such a file, and the guest then reads noise: decrypted raw zeros.
            raise ArgumentError(
                f"preallocation={wanted} of an encrypted version 2 image: version 2 cannot mark "
                "clusters as zeros, so encrypted zeros must be written to all of them; ask for "
                "that with preallocation=full, or use version 3"
            )

    @classmethod
    def like(
        cls,
        header: Header,
        *,
        backing_file: str | None = None,
        backing_format: str | None = None,
        data_file: str | None = None,
    ) -> Qcow2Options:
        """The options that an image with this header was made with.

        The names of other files stand behind the fixed fields, in the ``Structure``.  How much
        was preallocated cannot be seen in a header.
        """
        raw = data_file is not None and header.autoclear_features & AUTOCLEAR_RAW_DATA_FILE
        return cls(
            version=3 if header.version == 3 else 2,
            cluster_size=header.cluster_size,
            encryption="aes" if header.crypt_method == CRYPT_AES else None,
            lazy_refcounts=bool(header.compatible_features & COMPAT_LAZY_REFCOUNTS),
            refcount_bits=header.refcount_bits,
            compression_type="zstd" if header.compression_type == COMPRESSION_ZSTD else "zlib",
            extended_l2=header.extended_l2,
            backing_file=backing_file,
            backing_format=backing_format,
            data_file=data_file,
            data_file_raw=bool(raw),
        )

    @property
    def cluster_bits(self) -> int:
        """Log2 of the cluster size."""
        return self.cluster_size.bit_length() - 1

    @property
    def refcount_order(self) -> int:
        """Log2 of the refcount width, as the header has it."""
        return self.refcount_bits.bit_length() - 1

    @property
    def preallocates(self) -> bool:
        """Whether every cluster gets its place at once."""
        return self.preallocation != "off" or self.data_file_raw


def _bytes_of(name: str) -> bytes:
    try:
        return name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise ArgumentError("a file name has characters that cannot be stored") from None
