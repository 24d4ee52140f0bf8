"""The textbook: AES and legacy qcow2 encryption, from single bits up to whole sectors.

WARNING.  Legacy qcow2 encryption is broken by design, and this code is slow and takes a time
that depends on key and data.  It is here to set old data free and to teach.  Protect nothing
with it.

Read the files in this order; each builds on those before it, on the standard library, and on
nothing else:

    1  tables.py    a byte as an element of a field; S-box, T-tables, round constants
    2  aes.py       one block: the key schedule and the rounds
    3  modes.py     many blocks: CBC
    4  ivgen.py     from a sector number to an IV
    5  sectors.py   from a passphrase to a key, from a disk to sectors: the whole story

To watch it work, pass a function as ``watch``.  It is given a small record of every IV, round
and CBC step; ``print`` will do.  Nothing is shown unless asked for.  What is shown is secret:
plaintext and round states.  The round keys are in ``AesKey.rd_key``.

>>> key = passphrase_to_key("hunter2")
>>> def watch(seen):
...     if isinstance(seen, SectorIv):
...         print("sector", seen.sector, "IV", seen.iv.hex())
...     elif isinstance(seen, CbcStep):
...         print("block", seen.index, seen.input_block.hex(), "->", seen.output_block.hex())
>>> secret = encrypt_sectors(bytes(512), 1, key, watch=watch)  # doctest: +ELLIPSIS
sector 1 IV 01000000000000000000000000000000
block 0 01000000000000000000000000000000 -> 34d4fd9fcba0bd00d4dd20b205ecfd50
block 1 34d4fd9fcba0bd00d4dd20b205ecfd50 -> 6e255e348316f16b5f70c64d197d47d5
...
block 31 ... -> a8e621fec06b3bdafd61a650fadf29a4
"""

from __future__ import annotations

from .aes import AesKey, RoundState, decrypt, encrypt, set_decrypt_key, set_encrypt_key
from .ivgen import IV_GENERATORS, essiv, iv_generator, plain, plain64
from .modes import CbcStep, cbc_decrypt, cbc_encrypt
from .sectors import SectorIv, Watcher, decrypt_sectors, encrypt_sectors, passphrase_to_key

__all__ = [
    "IV_GENERATORS",
    "AesKey",
    "CbcStep",
    "RoundState",
    "SectorIv",
    "Watcher",
    "cbc_decrypt",
    "cbc_encrypt",
    "decrypt",
    "decrypt_sectors",
    "encrypt",
    "encrypt_sectors",
    "essiv",
    "iv_generator",
    "passphrase_to_key",
    "plain",
    "plain64",
    "set_decrypt_key",
    "set_encrypt_key",
]
