"""Where a guest offset of a case is stored, and what wrong bytes look like.

By the textbook, which shares no code with the readers that are tested.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import NamedTuple

from qcow2crypt.difftest.outcomes import Content, isolated
from qcow2crypt.reference import decrypt_sectors, encrypt_sectors, passphrase_to_key, plain64
from qcow2crypt.testing.case import Case
from qcow2crypt.testing.textbook import Layer
from qcow2crypt.units import SECTOR_SIZE, align_down


class Place(NamedTuple):
    """How one guest sector is stored.

    ``kind``  data, zero, unallocated, compressed
    ``host_offset``  of the byte asked for, or of the first compressed byte; None where it has none
    ``depth``  0 the image itself, 1 its backing file, ...
    ``encrypted``  whether the stored bytes are
    """

    kind: str
    host_offset: int | None
    depth: int
    encrypted: bool


def place_of(case: Case, folder: Path, snapshot: str | None, offset: int) -> Place | None:
    """Where a guest offset is stored, by the textbook; None where that does not tell."""

    def look() -> bytes:
        image = Layer(folder / case.image, case.top.format, case.secrets)
        table = None if snapshot is None else image.snapshots()[snapshot]
        kind, host, depth = image.place(offset, table)
        encrypted = case.layers[-1 - depth].passphrase is not None and kind == "data"
        return pickle.dumps(Place(kind, host, depth, encrypted))

    outcome = isolated(look, 10.0)
    if not isinstance(outcome, Content):
        return None
    place: Place = pickle.loads(outcome.data)  # noqa: S301 - our own child's
    return place


def iv_of(offset: int) -> bytes:
    """The IV of the guest sector that an offset lies in."""
    return bytes(plain64(offset // SECTOR_SIZE))


def looks_like(
    case: Case, place: Place | None, wanted: bytes, found: bytes, offset: int
) -> str | None:
    """What wrong bytes look like, in words; None where nothing fits.

    ``wanted`` and ``found`` are the whole guest disks.
    """
    start = align_down(offset, SECTOR_SIZE)
    right, wrong = (disk[start : start + SECTOR_SIZE] for disk in (wanted, found))
    if len(right) != SECTOR_SIZE or len(wrong) != SECTOR_SIZE:
        return None
    if not any(wrong):
        return "zeros"
    if place is not None and place.encrypted:
        secret = case.layers[-1 - place.depth].passphrase
        assert secret is not None  # noqa: S101 - it is encrypted
        return _in_cipher(secret, place, right, wrong, start)
    moved = wanted.find(wrong)
    if moved >= 0 and moved % SECTOR_SIZE == 0 and len(set(wrong)) > 1:
        return f"the content of guest offset {moved:#x}"
    return None


def _other_keys(secret: str) -> dict[str, bytes]:
    """What a program may take for the key, in words."""
    found = {
        "the passphrase in Latin-1": secret.encode("latin-1", "replace"),
        "the passphrase in UTF-16": secret.encode("utf-16-le"),
        "at most 15 bytes of the passphrase": secret.encode()[:15],
        "the passphrase filled with spaces": secret.encode().ljust(16)[:16],
        "no passphrase": b"",
    }
    for code in (0x1A, ord("?")):
        data = "".join(c if c.isascii() else chr(code) for c in secret).encode()
        found[f"{code:#04x} for each character outside ASCII"] = data
    return found


def _in_cipher(secret: str, place: Place, right: bytes, wrong: bytes, start: int) -> str:
    number = start // SECTOR_SIZE
    key = passphrase_to_key(secret)
    cipher = encrypt_sectors(right, number, key)
    if wrong == cipher:
        return "the encrypted bytes, as they are stored"
    guesses = [
        (f"decrypted with the IV of the guest sector {sector}", sector, key)
        for sector in (number - 1, number + 1)
        if sector >= 0
    ]
    if place.host_offset is not None:
        sector = place.host_offset // SECTOR_SIZE
        guesses.insert(0, (f"decrypted with the IV of the host sector {sector}", sector, key))
    guesses += [
        (f"decrypted with another key: {text}", number, passphrase_to_key(other))
        for text, other in _other_keys(secret).items()
    ]
    for text, sector, other_key in guesses:
        if decrypt_sectors(cipher, sector, other_key) == wrong:
            return text
    if wrong[16:] == right[16:]:
        return "right but for the first 16 bytes: the key is right, and the IV is another"
    return "nothing right: as with another key, or with bytes from elsewhere in the file"
