"""The engine ``pycryptodome``: the package of this name, which has AES in C.

Its AES does gigabytes a second.  A new cipher object for each sector would take a hundred times
as long as the sector itself, so a run is put to it in few calls:

    decrypt   one ECB call for all blocks, then one XOR with what stands before each block
    encrypt   many sectors: one ECB call for block 0 of all sectors, one for block 1 of all, ...
              few sectors: one CBC object, kept for the next run, and one call for each

Long runs are cut into pieces, so memory stays small.  What is still needed of a piece is copied
before any of it is written, which makes in place right.

Knows keys, IVs and buffers; knows no sector numbers.  Follows NIST SP 800-38A, section 6.2.
To import this module is to import the package: only ``engines`` does so, when asked for it.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

from Crypto.Cipher import AES
from Crypto.Util.strxor import strxor

from qcow2crypt.engines.base import byte_view, check_blocks, check_key, check_run, pieces
from qcow2crypt.units import BLOCK_SIZE, ReadBuffer, WriteBuffer

if TYPE_CHECKING:
    from Crypto.Cipher._mode_cbc import CbcMode

# Found by measuring; speed changes little around these values.
_PIECE_BYTES = 1 << 20
_FEW = 1.5  # up to so many sectors for a block in a sector, a call for each sector is faster

# Data is moved in words of 8 bytes, two to a block; their byte order never matters.
_WORD = 8


class PycryptodomeKey:
    """An expanded key of the engine ``pycryptodome``.  See ``ExpandedKey``."""

    def __init__(self, key: bytes) -> None:
        check_key(key)
        self._key = bytes(key)  # for CBC objects: they chain, so each thread needs its own
        self._ecb = AES.new(self._key, AES.MODE_ECB)  # has no state, so all threads share it
        # CBC objects that no thread uses now, each with the two words of the block it gave last.
        self._idle: list[tuple[CbcMode, int, int]] = []

    def __repr__(self) -> str:
        return "<expanded key of the engine 'pycryptodome'>"

    def cbc_encrypt(
        self, ivs: ReadBuffer, src: ReadBuffer, dst: WriteBuffer, sector_size: int = 512
    ) -> None:
        """Encrypt every sector of ``src`` into ``dst``."""
        count = check_run(ivs, src, dst, sector_size)
        iv_view, source, target = byte_view(ivs), byte_view(src), byte_view(dst)
        few = count <= _FEW * (sector_size // BLOCK_SIZE)
        work = self._encrypt_in_turn if few else self._encrypt_side_by_side
        for first, end in pieces(count, max(1, _PIECE_BYTES // sector_size)):
            place = slice(first * sector_size, end * sector_size)
            iv_words = array("Q", bytes(iv_view[first * BLOCK_SIZE : end * BLOCK_SIZE]))
            words = array("Q", bytes(source[place]))
            work(iv_words, words, sector_size)
            target[place] = memoryview(words).cast("B")

    def cbc_decrypt(
        self, ivs: ReadBuffer, src: ReadBuffer, dst: WriteBuffer, sector_size: int = 512
    ) -> None:
        """Decrypt every sector of ``src`` into ``dst``."""
        count = check_run(ivs, src, dst, sector_size)
        iv_view, source, target = byte_view(ivs), byte_view(src), byte_view(dst)
        step = sector_size // _WORD
        for first, end in pieces(count, max(1, _PIECE_BYTES // sector_size)):
            place = slice(first * sector_size, end * sector_size)
            # What each block is XORed with: the block before it, or the IV of its sector.
            before = array("Q", bytes(BLOCK_SIZE))
            before.frombytes(source[place][:-BLOCK_SIZE])
            iv_words = array("Q", bytes(iv_view[first * BLOCK_SIZE : end * BLOCK_SIZE]))
            before[0::step], before[1::step] = iv_words[0::2], iv_words[1::2]
            self._ecb.decrypt(source[place], output=target[place])
            strxor(target[place], memoryview(before).cast("B"), output=target[place])

    def ecb_encrypt(self, src: ReadBuffer, dst: WriteBuffer) -> None:
        """Encrypt every block of ``src`` into ``dst``."""
        if check_blocks(src, dst):
            self._ecb.encrypt(byte_view(src), output=byte_view(dst))

    def _encrypt_in_turn(self, ivs: array[int], words: array[int], sector_size: int) -> None:
        """Encrypt ``words`` sector by sector, all with one CBC object that no other thread has."""
        step = sector_size // _WORD
        try:
            cipher, low, high = self._idle.pop()
        except IndexError:
            cipher, low, high = AES.new(self._key, AES.MODE_CBC, iv=bytes(BLOCK_SIZE)), 0, 0
        view, encrypt = memoryview(words).cast("B"), cipher.encrypt
        for i, word in enumerate(range(0, len(words), step)):
            # The object goes on as if in one message: it will XOR the first block with the
            # one it gave last.  XOR that out and the IV in.
            words[word] ^= low ^ ivs[2 * i]
            words[word + 1] ^= high ^ ivs[2 * i + 1]
            sector = view[i * sector_size : (i + 1) * sector_size]
            encrypt(sector, output=sector)
            low, high = words[word + step - 2], words[word + step - 1]
        self._idle.append((cipher, low, high))

    def _encrypt_side_by_side(self, ivs: array[int], words: array[int], sector_size: int) -> None:
        """Encrypt ``words``: block 0 of all sectors, then block 1 of all, and so on."""
        step = sector_size // _WORD
        blocks = array("Q", bytes(BLOCK_SIZE * (len(words) // step)))
        block_bytes, chain = memoryview(blocks).cast("B"), memoryview(ivs).cast("B")
        for word in range(0, step, 2):
            blocks[0::2], blocks[1::2] = words[word::step], words[word + 1 :: step]
            strxor(block_bytes, chain, output=chain)
            self._ecb.encrypt(chain, output=chain)
            words[word::step], words[word + 1 :: step] = ivs[0::2], ivs[1::2]


class PycryptodomeEngine:
    """See ``Engine``."""

    name = "pycryptodome"

    def expand_key(self, key: bytes) -> PycryptodomeKey:
        """Make the key schedule.  Raises ArgumentError for a key of another length."""
        return PycryptodomeKey(key)


def load() -> PycryptodomeEngine:
    """The engine."""
    return PycryptodomeEngine()
