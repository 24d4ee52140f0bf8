"""5 of 5.  Sectors: the whole of legacy qcow2 encryption.

Every sector of 512 bytes is a CBC message of its own, under one AES-128 key for all of them.

    key   the bytes of the passphrase, cut to 16 or filled with zeros to 16; nothing else
    IV    the number of the *guest* sector (offset on the virtual disk / 512), by plain64

That is all there is, and it is why the scheme is broken: no salt, no slow hash, IVs that anybody
can foretell, no word on whether a key is right or data were changed.

Knows keys and sector numbers; knows nothing of the image file and where in it a sector lies.
Follows what QEMU writes.  LUKS inside qcow2 differs: its key comes from key slots, and its IVs
count the sectors of the host file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .aes import BLOCK_SIZE, RoundState, set_decrypt_key, set_encrypt_key
from .ivgen import SECTOR_NUMBER_MAX, IvGenerator, iv_generator
from .modes import CbcStep, cbc_decrypt, cbc_encrypt

SECTOR_SIZE = 512
KEY_SIZE = 16


@dataclass(frozen=True, slots=True)
class SectorIv:
    """What a watcher sees before the blocks of a sector: its number and its IV of 16 bytes."""

    sector: int
    iv: bytes


Data = bytes | bytearray | memoryview
Watcher = Callable[[SectorIv | CbcStep | RoundState], None]


def passphrase_to_key(passphrase: str | bytes) -> bytes:
    """The AES-128 key of a passphrase: its bytes (UTF-8 for a str), cut or zero-filled to 16.

    The cut may fall inside a character.  Bytes are taken as they are, for images of systems
    that were not on UTF-8.  Raises ValueError for a str that has no UTF-8 form.

    >>> passphrase_to_key("hunter2").hex()
    '68756e74657232000000000000000000'
    >>> passphrase_to_key("0123456789abcdefXYZ")  # what follows byte 16 has no meaning
    b'0123456789abcdef'
    """
    if isinstance(passphrase, str):
        # Not by way of UnicodeEncodeError: that one carries the whole passphrase along.
        if any("\ud800" <= character <= "\udfff" for character in passphrase):
            raise ValueError("the passphrase cannot be written in UTF-8; give it as bytes")
        passphrase = passphrase.encode()
    return bytes(passphrase[:KEY_SIZE]).ljust(KEY_SIZE, b"\0")


def _sectors(
    data: bytes, first_sector: int, sector_size: int, generate: IvGenerator, watch: Watcher | None
) -> Iterator[tuple[bytes, bytes]]:
    """Each sector of ``data`` with its IV; everything is checked before the first one."""
    if sector_size <= 0 or sector_size % BLOCK_SIZE:
        raise ValueError(f"sector size {sector_size} is not a positive multiple of {BLOCK_SIZE}")
    count, rest = divmod(len(data), sector_size)
    if rest:
        raise ValueError(f"{len(data)} bytes are not whole sectors of {sector_size} bytes")
    if not 0 <= first_sector <= SECTOR_NUMBER_MAX - max(count - 1, 0):
        raise ValueError(f"{count} sectors from {first_sector} on are not all in 0 to 2**64 - 1")
    for index in range(count):
        iv = generate(first_sector + index)
        if watch is not None:
            watch(SectorIv(first_sector + index, iv))
        yield data[index * sector_size : (index + 1) * sector_size], iv


def encrypt_sectors(
    data: Data,
    first_sector: int,
    key: bytes,
    *,
    sector_size: int = SECTOR_SIZE,
    ivgen: str = "plain64",
    watch: Watcher | None = None,
) -> bytes:
    """Encrypt consecutive sectors, the first of them with the number ``first_sector``.

    ``key`` has 16, 24 or 32 bytes; legacy qcow2 has 16.  ``watch`` sees each SectorIv, then the
    blocks of that sector.  Raises ValueError when ``data`` is not whole sectors, ``sector_size``
    not a positive multiple of 16, a sector number beyond 2**64 - 1, or the key of another length.

    >>> encrypt_sectors(bytes(512), 0, passphrase_to_key("hunter2"))[:16].hex()
    '34d652ea3385b68510d3cf871a6e7fbb'
    >>> encrypt_sectors(bytes(512), 0x200000000, passphrase_to_key("hunter2"))[:16].hex()
    '49a0bc3868cf1aaef9f46f7fdc6e491a'
    """
    schedule, generate = set_encrypt_key(key, 8 * len(key)), iv_generator(ivgen, key)
    sectors = _sectors(bytes(data), first_sector, sector_size, generate, watch)
    return b"".join(cbc_encrypt(sector, schedule, iv, watch) for sector, iv in sectors)


def decrypt_sectors(
    data: Data,
    first_sector: int,
    key: bytes,
    *,
    sector_size: int = SECTOR_SIZE,
    ivgen: str = "plain64",
    watch: Watcher | None = None,
) -> bytes:
    """Decrypt consecutive sectors.  Arguments and errors as ``encrypt_sectors``.

    A wrong key is no error: it gives other bytes.

    >>> key = passphrase_to_key("hunter2")
    >>> decrypt_sectors(encrypt_sectors(b"sector 7" * 64, 7, key), 7, key)[:16]
    b'sector 7sector 7'
    >>> decrypt_sectors(bytes(512), 0, key)[16:32].hex()
    'fc7fca58bd98ce7403ef3992f9e555b5'
    """
    schedule, generate = set_decrypt_key(key, 8 * len(key)), iv_generator(ivgen, key)
    sectors = _sectors(bytes(data), first_sector, sector_size, generate, watch)
    return b"".join(cbc_decrypt(sector, schedule, iv, watch) for sector, iv in sectors)
