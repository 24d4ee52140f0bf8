"""The LUKS1 header, as far as a description needs it.  Pure layout, no I/O, no keys.

Source: the LUKS1 On-Disk Format Specification, version 1.2.  Integers are big-endian.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from qcow2crypt.errors import HeaderError

HEADER_SIZE = 592
MAGIC = b"LUKS\xba\xbe"
SLOT_ACTIVE = 0x00AC71F3
_FIXED = struct.Struct(">6sH32s32s32sII20s32sI40s")
_SLOT = struct.Struct(">II32sII")
_SLOTS = 8


@dataclass(frozen=True, slots=True)
class KeySlot:
    """One key slot.  ``material_offset`` in 512-byte sectors from the LUKS header."""

    active: bool
    iterations: int
    material_offset: int
    stripes: int


@dataclass(frozen=True, slots=True)
class Luks1Header:
    """The fields that describe the encryption.  ``payload_offset`` in 512-byte sectors."""

    cipher_name: str
    cipher_mode: str
    hash_spec: str
    payload_offset: int
    key_bytes: int
    master_key_iterations: int
    uuid: str
    slots: tuple[KeySlot, ...]


def parse_luks1(data: bytes, base: int = 0) -> Luks1Header:
    """Read a header of 592 bytes that stands at host offset ``base``.  Raises HeaderError."""
    if len(data) < HEADER_SIZE:
        raise _bad("size", base, f"{len(data)} bytes", f"{HEADER_SIZE} bytes")
    fixed = _FIXED.unpack_from(data)
    magic, version, cipher, mode, digest, payload, key_bytes, _, _, iterations, uuid = fixed
    if magic != MAGIC:
        raise _bad("magic", base, magic.hex(" "), MAGIC.hex(" "))
    if version != 1:
        raise _bad("version", base + 6, str(version), "1")
    slots = []
    for number in range(_SLOTS):
        state, rounds, _, offset, stripes = _SLOT.unpack_from(data, 208 + number * _SLOT.size)
        slots.append(KeySlot(state == SLOT_ACTIVE, rounds, offset, stripes))
    return Luks1Header(
        cipher_name=_text(cipher),
        cipher_mode=_text(mode),
        hash_spec=_text(digest),
        payload_offset=payload,
        key_bytes=key_bytes,
        master_key_iterations=iterations,
        uuid=_text(uuid),
        slots=tuple(slots),
    )


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("ascii", "backslashreplace")


def _bad(field: str, offset: int, found: str, allowed: str) -> HeaderError:
    return HeaderError(
        "the LUKS header is not valid",
        field=f"LUKS {field}",
        offset=offset,
        found=found,
        allowed=allowed,
    )
