"""AES, SHA-256, IVs and CBC in the page, against printed vectors and the textbook."""

from __future__ import annotations

import hashlib
import random
from typing import TYPE_CHECKING, Any

import pytest
from browser.conftest import Show
from support import vectors

from qcow2crypt import reference

if TYPE_CHECKING:
    from playwright.sync_api import Page

TOOLS = """() => {
window.hex = (bytes) => Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");
window.raw = (text) => Uint8Array.from(text.match(/../g) ?? [], (pair) => parseInt(pair, 16));
}"""
BLOCKS = """cases => cases.map(([key, plain, cipher]) => {
  const schedule = qcow2crypt.expandKey(raw(key));
  return [hex(qcow2crypt.encryptBlock(raw(plain), schedule)),
          hex(qcow2crypt.decryptBlock(raw(cipher), schedule))];
})"""
CHAINS = """cases => cases.map(([key, iv, plain, cipher]) => [
  hex(qcow2crypt.cbcEncrypt(raw(plain), raw(key), raw(iv))),
  hex(qcow2crypt.cbcDecrypt(raw(cipher), raw(key), raw(iv)))])"""


@pytest.fixture
def page(show: Show) -> Page:
    page = show()
    page.evaluate(TOOLS)
    return page


@pytest.mark.parametrize("name", ["fips197", "cavp-ecb"])
def test_blocks_are_those_of_the_documents(page: Page, name: str) -> None:
    cases = [case for case in vectors.cases(name) if len(case.plaintext) == 16]
    assert {case.bits for case in cases} >= {128, 256}
    rows = [[case.key.hex(), case.plaintext.hex(), case.ciphertext.hex()] for case in cases]
    assert page.evaluate(BLOCKS, rows) == [[row[2], row[1]] for row in rows]


@pytest.mark.parametrize("name", ["sp800-38a-cbc", "sectors"])
def test_chains_are_those_of_the_documents(page: Page, name: str) -> None:
    rows = [
        [case.key.hex(), case.iv.hex(), case.plaintext.hex(), case.ciphertext.hex()]
        for case in vectors.cases(name)
        if case.iv is not None
    ]
    assert rows
    assert page.evaluate(CHAINS, rows) == [[row[3], row[2]] for row in rows]


def test_sha256(page: Page) -> None:
    """Of every length around the ends of its blocks."""
    messages = [random.Random(size).randbytes(size) for size in (*range(70), 119, 120, 128, 1000)]
    found = page.evaluate(
        "all => all.map((one) => hex(qcow2crypt.sha256(raw(one))))",
        [message.hex() for message in messages],
    )
    assert found == [hashlib.sha256(message).hexdigest() for message in messages]


SECTORS = (0, 1, 29, 255, 256, 2**32 - 1, 2**32, 0x1F2E3D4C5B6A7988, 2**64 - 1)
IVS = """([name, sectors, key]) => sectors.map(
  (sector) => hex(qcow2crypt.makeIv(name, BigInt(sector), raw(key))))"""


@pytest.mark.parametrize("name", ["none", "plain64", "essiv"])
def test_ivs_are_those_of_the_textbook(page: Page, name: str) -> None:
    for passphrase in ("", "hunter2", "correct horse battery", "grün"):
        key = reference.passphrase_to_key(passphrase)
        found: Any = page.evaluate(IVS, [name, [str(one) for one in SECTORS], key.hex()])
        wanted = {
            "none": lambda _sector: bytes(16),
            "plain64": reference.plain64,
            "essiv": reference.essiv(key),
        }[name]
        assert found == [wanted(sector).hex() for sector in SECTORS]


def test_passphrases_become_the_keys_of_the_textbook(page: Page) -> None:
    words = ["", "x", "0123456789abcdef", "0123456789abcdefg", "fünfzehn Zeichenä", "日本語日本語"]
    found = page.evaluate("all => all.map((one) => hex(qcow2crypt.passphraseToKey(one)))", words)
    assert found == [reference.passphrase_to_key(word).hex() for word in words]
