"""What stands in each vector file that is not NIST's CAVP: built here, from what is published.

Knows keys, blocks and sector rules; knows nothing of files and of ``qcow2crypt``.  Follows
FIPS-197 appendices A to C, NIST SP 800-38A appendix F.2, and what QEMU 7.2.22 was seen to write.
Bytes that stand here as text were published or measured.  Nothing is trusted for that: all cases
go through two libraries, and the states of FIPS-197 were compared with the printed standard.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from vectors import plain_aes, two_libraries

Document = dict[str, Any]

EXPANSION_KEYS = {
    "A.1": "2b7e151628aed2a6abf7158809cf4f3c",
    "A.2": "8e73b0f7da0e6452c810f32b809079e562f8ead2522c6b7b",
    "A.3": "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4",
}
EXAMPLES = {  # id: key, input
    "B": (EXPANSION_KEYS["A.1"], "3243f6a8885a308d313198a2e0370734"),
    "C.1": (bytes(range(16)).hex(), "00112233445566778899aabbccddeeff"),
    "C.2": (bytes(range(24)).hex(), "00112233445566778899aabbccddeeff"),
    "C.3": (bytes(range(32)).hex(), "00112233445566778899aabbccddeeff"),
}


def fips197() -> Document:
    """Appendices A, B and C, every line of the cipher and of the equivalent inverse cipher."""
    cases: list[Document] = []
    traces: list[Document] = []
    for case, (key_hex, plaintext_hex) in EXAMPLES.items():
        key, plaintext = bytes.fromhex(key_hex), bytes.fromhex(plaintext_hex)
        ciphertext = two_libraries.encrypt(key, None, plaintext)
        cases.append(_case(case, key, None, plaintext, ciphertext))
        traces += _trace(case, "cipher", plain_aes.cipher(plaintext, key))
        if case != "B":
            rows = plain_aes.equivalent_inverse_cipher(ciphertext, key)
            traces += _trace(case, "equivalent inverse cipher", rows)
    expansions = [
        {
            "id": section,
            "key": key,
            "words": [word.hex() for word in plain_aes.key_expansion(bytes.fromhex(key))],
        }
        for section, key in EXPANSION_KEYS.items()
    ]
    return {
        "id": "fips197",
        "source": "FIPS-197, Advanced Encryption Standard, NIST, 26 November 2001",
        "comment": "Figures 7 and 14, appendices A (key schedules), B and C (every state). Step "
        "names are those of appendix C; B prints the same as a picture. In 'traces' one row is "
        "one printed line.",
        "sbox": plain_aes.SBOX.hex(),
        "inverse_sbox": plain_aes.INVERSE_SBOX.hex(),
        "cases": cases,
        "key_expansion": expansions,
        "traces": traces,
    }


CBC_CIPHERTEXTS = (  # the ciphertext blocks of F.2.1, F.2.3 and F.2.5
    (
        "7649abac8119b246cee98e9b12e9197d",
        "5086cb9b507219ee95db113a917678b2",
        "73bed6b8e3c1743b7116e69e22229516",
        "3ff1caa1681fac09120eca307586e1a7",
    ),
    (
        "4f021db243bc633d7178183a9fa071e8",
        "b4d9ada9ad7dedf4e5e738763f69145a",
        "571b242012fb7ae07fa9baac3df102e0",
        "08b0e27988598881d920a9e64f5615cd",
    ),
    (
        "f58c4c04d6e5f1ba779eabfb5f7bfbd6",
        "9cfc4e967edb808d679f777bc6702c7d",
        "39f23369a9d9bacfa530e26304231461",
        "b2eb05e2c39be9fcda6c19078c6a9d1b",
    ),
)


def sp800_38a_cbc() -> Document:
    """Appendix F.2.1 to F.2.6: four blocks for three key lengths, to and fro."""
    iv = bytes(range(16))
    plaintext = bytes.fromhex(
        "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
        "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
    )
    cases: list[Document] = []
    steps: list[Document] = []
    for number, (key_hex, blocks) in enumerate(
        zip(EXPANSION_KEYS.values(), CBC_CIPHERTEXTS, strict=True)
    ):
        key, ciphertext = bytes.fromhex(key_hex), bytes.fromhex("".join(blocks))
        for section in (f"F.2.{2 * number + 1}", f"F.2.{2 * number + 2}"):
            cases.append(_case(section, key, iv, plaintext, ciphertext))
            encrypting = section[-1] in "135"
            steps += [
                {"case": section, **step}
                for step in _cbc_steps(iv, plaintext, ciphertext, encrypting)
            ]
    return {
        "id": "sp800-38a-cbc",
        "source": "NIST SP 800-38A, Recommendation for Block Cipher Modes of Operation, 2001",
        "comment": "Appendix F.2.1 to F.2.6. Odd numbers encrypt, even ones decrypt. In 'steps' "
        "one row is one printed block; its number counts from 1, as printed.",
        "cases": cases,
        "steps": steps,
    }


SECTORS = (  # name, number, what vouches for the bytes
    ("0", 0, "qemu-io"),
    ("1", 1, "qemu-io"),
    ("0x200000000", 0x200000000, "prefix"),
    ("0xffffffff", 0xFFFFFFFF, "libraries"),
    ("0x100000000", 0x100000000, "libraries"),
    ("0xffffffffffffffff", 0xFFFFFFFFFFFFFFFF, "libraries"),
)
MEASURED = (  # sector, offset in its ciphertext, the bytes seen there
    ("0", 0, "34d652ea3385b68510d3cf871a6e7fbb579a85bfc605de4b43a3f8bd6c61c3e4"),
    ("0", 496, "abc6df26fe848efe0e194631e2b3810f"),
    ("1", 0, "34d4fd9fcba0bd00d4dd20b205ecfd506e255e348316f16b5f70c64d197d47d5"),
    ("1", 496, "a8e621fec06b3bdafd61a650fadf29a4"),
    ("0x200000000", 0, "49a0bc3868cf1aaef9f46f7fdc6e491af7e197cba44c5b17025d9a91d30edee3"),
)
OPENED_ZEROS = "fc7fca58bd98ce7403ef3992f9e555b5"  # each block of a sector 0 of raw zeros
IV_SECTORS = (
    0,
    1,
    0x1F2E3D4C,
    0xFFFFFFFF,
    0x100000000,
    0x1F2E3D4C5B6A7988,
    0xFFFFFFFFFFFFFFFF,
)
PASSPHRASES: tuple[tuple[str, str | bytes], ...] = (
    ("empty", ""),
    ("1 byte", "x"),
    ("7 bytes", "hunter2"),
    ("15 bytes", "0123456789abcde"),
    ("16 bytes", "0123456789abcdef"),
    ("17 bytes", "0123456789abcdefX"),
    ("40 bytes", "correct horse battery staple, four words"),
    ("a trailing newline counts", "hunter2\n"),
    ("non-ASCII", "p\u00e4ssw\u00f6rd"),
    ("a two-byte character cut at byte 16", "fifteen bytes, \u00e9 and more"),
    ("a four-byte character cut at byte 16", "thirteen byte\U0001f511 key"),
    ("bytes that are not UTF-8", b"caf\xe9 \xff\xfe"),
    ("a NUL inside stays", b"ab\0cd"),
)


def sectors() -> Document:
    """Whole sectors, IVs and keys of legacy encryption."""
    key = _key(b"hunter2")
    cases: list[Document] = []
    for name, number, origin in SECTORS:
        ciphertext = two_libraries.encrypt(key, _plain64(number), bytes(512))
        case = _case(f"zeros in sector {name}", key, _plain64(number), bytes(512), ciphertext)
        cases.append({**case, "sector": hex(number), "origin": origin})
    opened = bytes.fromhex(OPENED_ZEROS) * 32
    case = _case("ciphertext of zeros in sector 0", key, _plain64(0), opened, bytes(512))
    cases.append({**case, "sector": "0x0", "origin": "prefix"})
    measured = [
        {"case": f"zeros in sector {name}", "offset": offset, "ciphertext": seen}
        for name, offset, seen in MEASURED
    ]
    return {
        "id": "sectors",
        "source": "images made by qemu-io 7.2.22, and the rules of the format; see PROVENANCE.md",
        "comment": "Key: passphrase 'hunter2'. 'origin' tells what vouches for a case: qemu-io = "
        "begin and end were read from an image (they stand in 'measured'); prefix = the begin "
        "was known beforehand from an independent decoder; libraries = two libraries only. "
        "Sector numbers are hex strings, for readers without 64-bit numbers.",
        "cases": cases,
        "measured": measured,
        "ivs": list(_ivs()),
        "keys": [_key_row(name, passphrase) for name, passphrase in PASSPHRASES],
    }


def _ivs() -> Iterator[dict[str, str]]:
    key = bytes(range(16))
    for number in IV_SECTORS:
        plain64 = _plain64(number)
        salted = two_libraries.encrypt(hashlib.sha256(key).digest(), None, plain64)
        for generator, iv in (
            ("plain", plain64[:4] + bytes(12)),
            ("plain64", plain64),
            ("essiv:sha256", salted),
        ):
            yield {
                "id": f"{generator} {number:#x}",
                "generator": generator,
                "key": key.hex(),
                "sector": hex(number),
                "iv": iv.hex(),
            }


def _key_row(name: str, passphrase: str | bytes) -> dict[str, str | None]:
    text = passphrase if isinstance(passphrase, str) else None
    data = passphrase.encode() if isinstance(passphrase, str) else passphrase
    return {"id": name, "text": text, "bytes": data.hex(), "key": _key(data).hex()}


def _key(passphrase: bytes) -> bytes:
    return (passphrase + bytes(16))[:16]


def _plain64(sector: int) -> bytes:
    return sector.to_bytes(16, "little")


def _case(name: str, key: bytes, iv: bytes | None, plaintext: bytes, ciphertext: bytes) -> Document:
    values = {"key": key, "iv": iv, "plaintext": plaintext, "ciphertext": ciphertext}
    return {"id": name, **{field: value.hex() for field, value in values.items() if value}}


def _trace(case: str, direction: str, rows: list[plain_aes.Row]) -> Iterator[Document]:
    for number, step, state in rows:
        yield {
            "case": case,
            "direction": direction,
            "round": number,
            "step": step,
            "state": state.hex(),
        }


def _cbc_steps(
    iv: bytes, plaintext: bytes, ciphertext: bytes, encrypting: bool
) -> Iterator[Document]:
    chain = iv + ciphertext
    for offset in range(0, len(plaintext), 16):
        block, secret = plaintext[offset : offset + 16], ciphertext[offset : offset + 16]
        mixed = plain_aes.add_round_key(block, chain[offset : offset + 16])
        into, out = (mixed, secret) if encrypting else (secret, mixed)
        yield {
            "block": offset // 16 + 1,
            "plaintext": block.hex(),
            "input_block": into.hex(),
            "output_block": out.hex(),
            "ciphertext": secret.hex(),
        }
