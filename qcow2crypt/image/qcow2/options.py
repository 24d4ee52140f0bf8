"""What a new qcow2 file shall be like.  Checked when made; knows nothing of files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from qcow2crypt.errors import ArgumentError, UnsupportedFeatureError
from qcow2crypt.image.qcow2.header import (
    CLUSTER_BITS_MAX,
    CLUSTER_BITS_MIN,
    COMPAT_LAZY_REFCOUNTS,
    COMPRESSION_ZSTD,
    CRYPT_AES,
    Header,
)

DEFAULT_CLUSTER_SIZE = 65536


@dataclass(frozen=True, slots=True)
class Qcow2Options:
    """Options for ``create`` and ``convert``, with qemu-img's defaults.

    ``version``           2 (compat=0.10) or 3 (compat=1.1)
    ``cluster_size``      bytes, a power of two from 512 to 2 MiB
    ``encryption``        None or ``"aes"``: the legacy scheme, broken by design; use it only to
                          make files for old readers and for tests
    ``lazy_refcounts``    version 3 only: sets the header bit
    ``refcount_bits``     16 is the width that is written
    ``compression_type``  ``"zlib"`` or ``"zstd"`` (version 3 only): for clusters compressed later

    Raises ArgumentError, and UnsupportedFeatureError for what is valid but not written yet.
    """

    version: Literal[2, 3] = 3
    cluster_size: int = DEFAULT_CLUSTER_SIZE
    encryption: Literal["aes"] | None = None
    lazy_refcounts: bool = False
    refcount_bits: int = 16
    compression_type: Literal["zlib", "zstd"] = "zlib"

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
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
        if self.version == 2 and (self.lazy_refcounts or self.compression_type != "zlib"):
            raise ArgumentError(
                "lazy refcounts and zstd need version 3 (compat=1.1 or above); this is version 2"
            )
        bits = self.refcount_bits
        if not 1 <= bits <= 64 or bits & (bits - 1):
            raise ArgumentError(f"refcount width must be a power of two from 1 to 64, not {bits}")
        if bits != 16:
            if self.version == 2:
                raise ArgumentError("refcount widths other than 16 need version 3")
            raise UnsupportedFeatureError(f"writing refcounts of {bits} bits", "16 is the default")

    @classmethod
    def like(cls, header: Header) -> Qcow2Options:
        """The options that an image with this header was made with."""
        return cls(
            version=3 if header.version == 3 else 2,
            cluster_size=header.cluster_size,
            encryption="aes" if header.crypt_method == CRYPT_AES else None,
            lazy_refcounts=bool(header.compatible_features & COMPAT_LAZY_REFCOUNTS),
            refcount_bits=header.refcount_bits,
            compression_type="zstd" if header.compression_type == COMPRESSION_ZSTD else "zlib",
        )

    @property
    def cluster_bits(self) -> int:
        """Log2 of the cluster size."""
        return self.cluster_size.bit_length() - 1
