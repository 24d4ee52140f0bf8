"""Damages to compressed clusters: the L2 entry, the deflate data and the zstd data.

The streams are made here, by zlib and by hand, so that they are the same everywhere.
"""

from __future__ import annotations

import random
import zlib

from qcow2crypt.errors import CompressedDataError
from qcow2crypt.testing.damage.table import C4K, C64K, V2, V3, Damage, Qemu, reads, unreadable
from qcow2crypt.testing.damage.tiny import COMPRESSED, COPIED, Tiny, entry, put, put_fields, tiny

C16K = tiny(cluster_bits=14)
PLAIN = b"abcdefgh" * 64
END = len(V3.data)

STRICT = "QEMU takes what lies behind the cut for zeros, and they happen to decode to something"
FRAMES = "a cluster of very many empty frames is made to keep us busy; writers make one frame"


def deflate(data: bytes, window_bits: int = -12) -> bytes:
    """Raw deflate, as QEMU stores it."""
    deflater = zlib.compressobj(wbits=window_bits)
    return deflater.compress(data) + deflater.flush()


def descriptor(offset: int, more_sectors: int, cluster_bits: int = 9) -> int:
    """The L2 entry of a compressed cluster."""
    return COMPRESSED | more_sectors << (62 - (cluster_bits - 8)) | offset


def stored(
    stream: bytes,
    body: Tiny = V3,
    at: int | None = None,
    more_sectors: int | None = None,
    index: int = 0,
) -> bytes:
    """The image with guest cluster ``index`` compressed to ``stream``, at host offset ``at``."""
    at = len(body.data) if at is None else at
    if more_sectors is None:
        more_sectors = (at + len(stream) - 1) // 512 - at // 512
    value = descriptor(at, more_sectors, body.cluster_size.bit_length() - 1)
    return put(put(body.data, at, stream), body.l2 + 8 * index, entry(value))


def sees(plain: bytes, body: Tiny = V3) -> bytes:
    """What the guest reads where its first cluster holds ``plain``."""
    return plain + body.content[body.cluster_size :]


def broken(
    name: str, data: bytes, at: int = END, qemu: Qemu = "agrees", why: str = "", body: Tiny = V3
) -> Damage:
    """A row for a first cluster that cannot be decompressed."""
    where = ("compressed data", at)
    return unreadable(name, data, CompressedDataError, where, body=body, qemu=qemu, why=why)


GOOD = deflate(PLAIN)
NOISE = random.Random(3).randbytes(512)
LONG = random.Random(2).randbytes(8192) * 2  # needs a window of more than 4 KiB
FAR = (random.Random(4).randbytes(30000) * 3)[:65536]

ENTRY_ROWS = [
    reads("compressed", stored(GOOD), sees(PLAIN)),
    reads("compressed, version 2", stored(GOOD, V2), sees(PLAIN, V2)),
    reads("compressed, at an odd offset", stored(GOOD, at=END + 77), sees(PLAIN)),
    reads(
        "compressed, copied bit set",
        put(stored(GOOD), V3.l2, entry(descriptor(END, 0) | COPIED)),
        sees(PLAIN),
    ),
    reads("compressed, behind a stored cluster", stored(GOOD, index=3), V3.content[:1536] + PLAIN),
    reads(
        "compressed, the disk ends inside it",
        put_fields(stored(GOOD, index=3), {"size": 1800 & ~511}),
        (V3.content[:1536] + PLAIN)[:1536],
    ),
    reads("compressed, more sectors than needed", stored(GOOD, more_sectors=1), sees(PLAIN)),
    reads(
        "compressed, as many sectors as the entry can hold",
        stored(deflate(b"x" * 4096), C4K, more_sectors=15),
        sees(b"x" * 4096, C4K),
    ),
    reads("compressed, over a sector border", stored(deflate(NOISE), at=END + 500), sees(NOISE)),
    broken(
        "compressed, one sector too few",
        stored(deflate(NOISE), at=END + 500, more_sectors=0),
        END + 500,
    ),
    broken(
        "compressed, behind the end of the file",
        put(V3.data, V3.l2, entry(descriptor(2**40, 0))),
        2**40,
    ),
    broken("compressed, all bits set", put(V3.data, V3.l2, b"\x7f" + b"\xff" * 7), 2**61 - 1),
]

DEFLATE_ROWS = [
    reads("deflate: nonsense behind it", stored(GOOD + b"\xff" * 300), sees(PLAIN)),
    reads("deflate: a window of 32 KiB", stored(deflate(LONG, -15), C16K), sees(LONG, C16K)),
    reads("deflate: a window of all the cluster", stored(deflate(FAR, -15), C64K), sees(FAR, C64K)),
    reads("deflate: one byte too many", stored(deflate(PLAIN + b"x")), sees(PLAIN)),
    reads("deflate: three clusters in one", stored(deflate(PLAIN * 3)), sees(PLAIN)),
    reads("deflate: not compressed", stored(b"\x01\x00\x02\xff\xfd" + NOISE), sees(NOISE)),
    broken("deflate: one byte too few", stored(deflate(PLAIN[:-1]))),
    broken("deflate: nothing", stored(deflate(b""))),
    broken("deflate: two streams", stored(deflate(PLAIN[:256]) + deflate(PLAIN[256:]))),
    broken("deflate: with a zlib header", stored(zlib.compress(PLAIN))),
    broken("deflate: block type that is none", stored(b"\xff" * 20)),
    broken("deflate: zeros", stored(bytes(20))),
    broken("deflate: not compressed, lengths that differ", stored(b"\x01\x00\x02\xff\xff" + NOISE)),
    broken("deflate: cut in its first bytes", stored(GOOD[:6])),
    broken("deflate: cut before its end", stored(GOOD[:-2]), qemu="reads", why=STRICT),
]

# Zstandard frames (RFC 8878), by hand: magic, descriptor with a one-byte size or without one,
# blocks of raw (0) or repeated (1) bytes.  512 bytes need the two-byte size field, less 256.
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


def block(kind: int, size: int, content: bytes, *, last: bool = True) -> bytes:
    """One block: kind 0 holds raw bytes, kind 1 one byte that is repeated."""
    return (size << 3 | kind << 1 | last).to_bytes(3, "little") + content


def frame(content: bytes, checksum: bytes = b"") -> bytes:
    """A frame with one raw block, of no declared size, with a window of 1 KiB."""
    flags = b"\x04\x00" if checksum else b"\x00\x00"
    return ZSTD_MAGIC + flags + block(0, len(content), content) + checksum


def repeated(byte: bytes, count: int) -> bytes:
    """A frame of one byte, ``count`` times, with a window of 128 KiB."""
    return ZSTD_MAGIC + b"\x00\x38" + block(1, count, byte)


def with_zstd(data: bytes) -> bytes:
    """The image, with the feature bit and the type of zstd."""
    return put_fields(data, {"incompatible_features": 8, "compression_type": 1})


def zstd(
    name: str, stream: bytes, plain: bytes | None, qemu: Qemu = "agrees", why: str = ""
) -> Damage:
    """A row for a first cluster that is a zstd stream; ``plain`` is None for one that is broken."""
    data = with_zstd(stored(stream))
    if plain is None:
        return broken(f"zstd: {name}", data, qemu=qemu, why=why)
    return reads(f"zstd: {name}", data, sees(plain))


EMPTY = frame(b"")
CHECKSUM = bytes.fromhex("e43087cc")  # the low half of the XXH64 of PLAIN
SKIPPABLE = b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd"

ZSTD_ROWS = [
    zstd("one raw block", frame(PLAIN), PLAIN),
    zstd("one repeated byte", repeated(b"a", 512), b"a" * 512),
    zstd("a checksum", frame(PLAIN, CHECKSUM), PLAIN),
    zstd(
        "an empty last block",
        ZSTD_MAGIC + b"\x00\x00" + block(0, 512, PLAIN, last=False) + block(0, 0, b""),
        PLAIN,
    ),
    zstd("nonsense behind it", frame(PLAIN) + b"\xff" * 99, PLAIN),
    zstd("two frames", frame(PLAIN[:200]) + frame(PLAIN[200:]), PLAIN),
    zstd("empty frames before it", EMPTY * 5 + frame(PLAIN), PLAIN),
    zstd("a frame to be skipped before it", SKIPPABLE + frame(PLAIN), PLAIN),
    zstd("a window of 128 MiB", ZSTD_MAGIC + b"\x00\x88" + block(1, 512, b"a"), b"a" * 512),
    zstd("a window of 256 MiB", ZSTD_MAGIC + b"\x00\x90" + block(1, 512, b"a"), None),
    zstd("one byte too few", frame(PLAIN[:-1]), None),
    zstd("one byte too many", frame(PLAIN + b"x"), None),
    zstd("three clusters in one", repeated(b"a", 1536), None),
    zstd("a second frame that is too long", frame(PLAIN[:200]) + frame(PLAIN), None),
    zstd("no last block", ZSTD_MAGIC + b"\x00\x00" + block(0, 512, PLAIN, last=False), None),
    zstd("cut before its end", frame(PLAIN)[:-1], None, qemu="reads", why=STRICT),
    zstd("cut before its checksum", frame(PLAIN, CHECKSUM)[:-4], None),
    zstd("a checksum that is wrong", frame(PLAIN, b"\x00\x00\x00\x00"), None),
    zstd("a checksum that is cut", frame(PLAIN, b"\x00\x00"), None),
    zstd("a block type that is none", ZSTD_MAGIC + b"\x00\x00" + block(3, 512, PLAIN), None),
    zstd("zeros", bytes(20), None),
    zstd("deflate data", GOOD, None),
    broken(
        "zstd: very many empty frames",
        with_zstd(stored(EMPTY * 70 + repeated(b"a", 65536), C64K)),
        len(C64K.data),
        qemu="reads",
        why=FRAMES,
        body=C64K,
    ),
]

ROWS = [*ENTRY_ROWS, *DEFLATE_ROWS, *ZSTD_ROWS]
