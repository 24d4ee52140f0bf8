"""The modes that are held beside legacy AES, against the textbook."""

from __future__ import annotations

import random

from qcow2crypt.lab import modes
from qcow2crypt.reference.aes import encrypt, set_decrypt_key, set_encrypt_key
from qcow2crypt.reference.modes import cbc_decrypt, cbc_encrypt
from qcow2crypt.reference.sectors import encrypt_sectors, passphrase_to_key

KEY = passphrase_to_key(modes.PASSPHRASE)
DATA = random.Random(5).randbytes(6 * 512)
SECTORS = [DATA[at : at + 512] for at in range(0, len(DATA), 512)]
SCHEDULE = set_encrypt_key(KEY, 128)


def test_legacy_and_essiv() -> None:
    assert modes.legacy(DATA, 77) == encrypt_sectors(DATA, 77, KEY)
    assert modes.essiv(DATA, 77) == encrypt_sectors(DATA, 77, KEY, ivgen="essiv:sha256")
    assert modes.essiv_decrypted(modes.essiv(DATA, 77), 77) == DATA


def test_by_host() -> None:
    places = [40960, 512, 1 << 30, 65536, 66048, 0]
    wanted = [
        encrypt_sectors(data, place // 512, KEY)
        for data, place in zip(SECTORS, places, strict=True)
    ]
    assert modes.by_host(SECTORS, places) == wanted


def test_one_iv_and_none() -> None:
    assert modes.constant_iv(DATA) == b"".join(
        cbc_encrypt(data, SCHEDULE, bytes(16)) for data in SECTORS
    )
    assert modes.ecb(DATA) == b"".join(
        encrypt(DATA[at : at + 16], SCHEDULE) for at in range(0, len(DATA), 16)
    )


def test_many_ciphertexts_of_one_sector() -> None:
    iv = (77).to_bytes(16, "little")
    schedule = set_decrypt_key(KEY, 128)
    wanted = [cbc_decrypt(data, schedule, iv) for data in SECTORS]
    assert modes.decrypted_each(SECTORS, 77) == wanted
