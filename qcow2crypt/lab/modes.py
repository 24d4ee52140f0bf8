"""The same bytes under other modes and IVs, to hold beside what an image has.

    essiv           CBC with essiv:sha256, over guest sectors
    by_host         CBC with plain64, over *host* sectors: what LUKS inside qcow2 counts
    constant_iv     CBC, every sector with the same IV of zeros: the IV generator "null"
    ecb             every block on its own, no IV

Knows keys and bytes; knows no images.  The key is that of legacy AES, so that nothing differs but
the mode.
"""

from __future__ import annotations

from collections.abc import Sequence

from qcow2crypt import engines
from qcow2crypt.crypt.cipher import SectorCipher
from qcow2crypt.crypt.legacy_aes import key_from_passphrase
from qcow2crypt.units import BLOCK_SIZE, SECTOR_SIZE

PASSPHRASE = "open-sesame"
"""Of all images of the lab that need only one.  It is no secret: the commands to try have it."""


def essiv(data: bytes, first_sector: int) -> bytes:
    """Encrypted with IVs that only who has the key can foretell."""
    return _essiv().encrypt(data, first_sector)


def essiv_decrypted(data: bytes, first_sector: int) -> bytes:
    """And back."""
    return _essiv().decrypt(data, first_sector)


def _essiv() -> SectorCipher:
    return SectorCipher(key_from_passphrase(PASSPHRASE), iv_generator="essiv:sha256")


def legacy(data: bytes, first_sector: int, passphrase: str = PASSPHRASE) -> bytes:
    """As an image of legacy AES has it."""
    return SectorCipher.from_passphrase(passphrase).encrypt(data, first_sector)


def by_host(sectors: Sequence[bytes], places: Sequence[int]) -> list[bytes]:
    """Each sector encrypted with its number in the file; ``places`` are host offsets."""
    cipher = SectorCipher.from_passphrase(PASSPHRASE)
    pairs = zip(sectors, places, strict=True)
    return [cipher.encrypt(data, place // SECTOR_SIZE) for data, place in pairs]


def constant_iv(data: bytes) -> bytes:
    """Every sector with an IV of zeros."""
    out = bytearray(len(data))
    ivs = bytes(len(data) // SECTOR_SIZE * BLOCK_SIZE)
    engines.get().expand_key(key_from_passphrase(PASSPHRASE)).cbc_encrypt(ivs, data, out)
    return bytes(out)


def ecb(data: bytes) -> bytes:
    """Every block on its own."""
    out = bytearray(len(data))
    engines.get().expand_key(key_from_passphrase(PASSPHRASE)).ecb_encrypt(data, out)
    return bytes(out)


def decrypted_each(variants: list[bytes], sector: int) -> list[bytes]:
    """Many ciphertexts of one and the same guest sector, decrypted."""
    data = b"".join(variants)
    out = bytearray(len(data))
    iv = sector.to_bytes(8, "little").ljust(BLOCK_SIZE, b"\0")
    key = engines.get().expand_key(key_from_passphrase(PASSPHRASE))
    key.cbc_decrypt(iv * len(variants), data, out)
    return [bytes(out[at : at + SECTOR_SIZE]) for at in range(0, len(out), SECTOR_SIZE)]
