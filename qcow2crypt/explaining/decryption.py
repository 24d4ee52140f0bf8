"""From a stored sector to the guest's: key, IV, CBC block by block, the rounds of one block.

All of it is done by the textbook (``qcow2crypt.reference``), which is watched at work: nothing here
computes a second time what it shows.  Knows sectors and keys; knows no files and no tables.
Source: FIPS-197, NIST SP 800-38A, and what QEMU writes (see ``reference.sectors``).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from qcow2crypt.explaining.facts import AesStep, CbcBlock, IvFact, KeyFact
from qcow2crypt.image.qcow2.wrong_iv import suspects
from qcow2crypt.reference import (
    AesKey,
    CbcStep,
    RoundState,
    SectorIv,
    decrypt,
    decrypt_sectors,
    passphrase_to_key,
    plain64,
    set_decrypt_key,
)
from qcow2crypt.reference.tables import imc, isbox
from qcow2crypt.units import BLOCK_SIZE, SectorNumber

_KEY_SIZE = 16
_COLUMNS = struct.Struct(">4I")
_GUEST, _HOST = "guest sector", "host sector"


def key_fact(passphrase: bytes, *, show_key: bool) -> KeyFact:
    """How the key comes from a passphrase."""
    length = len(passphrase)
    return KeyFact(
        passphrase_length=length,
        bytes_used=min(length, _KEY_SIZE),
        zeros_added=max(0, _KEY_SIZE - length),
        bytes_ignored=max(0, length - _KEY_SIZE),
        key=passphrase_to_key(passphrase) if show_key else None,
    )


def guest_iv(sector: int) -> IvFact:
    """The IV of a sector in legacy AES."""
    return IvFact(sector, _GUEST, "plain64", plain64(sector))


def luks_iv(host_sector: int, mode: str) -> IvFact:
    """The IV of a sector in LUKS inside qcow2, by its host sector; ``mode`` as in its header."""
    generator = mode.partition("-")[2] or "none"
    bare = generator.partition(":")[0]
    values = {"plain64": host_sector, "plain": host_sector & 0xFFFF_FFFF}
    iv = plain64(values[bare]) if bare in values else None
    return IvFact(host_sector, _HOST, generator, iv)


def decrypted(
    stored: bytes, passphrase: bytes, sector: int, host_sector: int, *, wrong_iv: bool = False
) -> tuple[IvFact, tuple[CbcBlock, ...], bytes]:
    """A sector of legacy AES: IV, blocks, plaintext.

    ``wrong_iv`` takes the number of the host sector where the sector has the mark of QEMU 2.7.0.
    """
    found = _watched(stored, passphrase, sector, _GUEST)
    if wrong_iv and suspects(found[2], SectorNumber(sector), SectorNumber(host_sector)):
        return _watched(stored, passphrase, host_sector, _HOST)
    return found


def _watched(
    stored: bytes, passphrase: bytes, sector: int, unit: str
) -> tuple[IvFact, tuple[CbcBlock, ...], bytes]:
    seen: list[SectorIv | CbcStep | RoundState] = []
    key = passphrase_to_key(passphrase)
    plaintext = decrypt_sectors(stored, sector, key, watch=seen.append)
    (iv,) = (one for one in seen if isinstance(one, SectorIv))
    steps = [one for one in seen if isinstance(one, CbcStep)]
    before = [iv.iv, *(step.ciphertext for step in steps)]
    blocks = tuple(
        CbcBlock(step.index, step.ciphertext, step.output_block, mixed, step.plaintext)
        for step, mixed in zip(steps, before, strict=False)
    )
    return IvFact(iv.sector, unit, "plain64", iv.iv), blocks, plaintext


def aes_steps(block: bytes, passphrase: bytes) -> tuple[AesStep, ...]:
    """The states of AES while one block is decrypted, as FIPS-197 lists them in appendix C.

    Those at the start of each round are seen in the textbook at work; what lies between them is
    one table look-up there, and is made of its tables here, step by step.
    """
    key = set_decrypt_key(passphrase_to_key(passphrase), 8 * _KEY_SIZE)
    seen: list[RoundState] = []
    decrypt(block, key, watch=seen.append)
    return tuple(step for state in seen for step in _after(state, key))


def _after(seen: RoundState, key: AesKey) -> Iterator[AesStep]:
    """A state that was seen, and the steps up to the next one."""
    yield AesStep(seen.round, seen.step, seen.state)
    if seen.step == "ioutput":
        return
    round_key = _COLUMNS.pack(*key.rd_key[4 * seen.round : 4 * seen.round + 4])
    if seen.round:
        boxed = bytes(isbox[byte] for byte in seen.state)
        yield AesStep(seen.round, "is_box", boxed)
        # Row i turns i places to the right: column j gets it from column j - i.
        rows = bytes(boxed[(place - 4 * (place % 4)) % BLOCK_SIZE] for place in range(BLOCK_SIZE))
        yield AesStep(seen.round, "is_row", rows)
        if seen.round < key.rounds:
            mixed = _COLUMNS.pack(*map(imc, _COLUMNS.unpack(rows)))
            yield AesStep(seen.round, "im_col", mixed)
    yield AesStep(seen.round, "ik_sch", round_key)
