"""The claims can fail: where the flaw is taken out of the cipher, its figures are others."""

from __future__ import annotations

import hashlib
import itertools
import shutil
from pathlib import Path

import pytest

from qcow2crypt.crypt.cipher import SectorCipher
from qcow2crypt.crypt.legacy_aes import key_from_passphrase
from qcow2crypt.errors import SecretError
from qcow2crypt.lab import DEMONSTRATIONS, bitflip, desk, modes, picture, truncated, wrong
from qcow2crypt.lab.desk import Desk
from qcow2crypt.lab.search import search_stages
from qcow2crypt.lab.session import Shown
from qcow2crypt.lab.stored import Stored

pytestmark = pytest.mark.slow  # the same on every Python


def failing(name: str, folder: Path) -> set[str]:
    """The claims about the flaw that do not hold."""
    result = DEMONSTRATIONS[name].run(Desk(folder, None))
    return {claim.name for claim in result.claims if claim.side == "flaw" and not claim.holds}


def as_bytes(passphrase: str | bytes) -> bytes:
    return passphrase.encode() if isinstance(passphrase, str) else bytes(passphrase)


@pytest.fixture
def with_essiv(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images whose IVs nobody foresees."""

    def cipher(
        cls: type[SectorCipher], passphrase: str | bytes, *, engine: str | None = None
    ) -> SectorCipher:
        return cls(key_from_passphrase(passphrase), iv_generator="essiv:sha256", engine=engine)

    monkeypatch.setattr(SectorCipher, "from_passphrase", classmethod(cipher))


@pytest.mark.parametrize(
    ("name", "failed"),
    [
        ("watermark", {"planted", "distinct", "scattered", "found"}),
        ("move", {"bytes", "xor", "begin"}),
        # What ESSIV does not help against.
        ("bitflip", set()),
        ("snapshot", set()),
        ("salt", set()),
    ],
)
def test_with_ivs_that_nobody_foresees(
    name: str, failed: set[str], with_essiv: None, tmp_path: Path
) -> None:
    if name == "bitflip":  # its helper for all bits knows the IV of legacy AES
        failed = {"any"}
    assert failing(name, tmp_path) == failed


@pytest.fixture
def with_derivation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys that depend on the whole passphrase."""

    def derived(passphrase: str | bytes) -> bytes:
        return hashlib.sha256(as_bytes(passphrase)).digest()[:16]

    def cipher(
        cls: type[SectorCipher], passphrase: str | bytes, *, engine: str | None = None
    ) -> SectorCipher:
        return cls(derived(passphrase), engine=engine)

    monkeypatch.setattr(SectorCipher, "from_passphrase", classmethod(cipher))
    monkeypatch.setattr(truncated, "key_from_passphrase", derived)


def test_with_the_whole_passphrase(with_derivation: None, tmp_path: Path) -> None:
    assert failing("truncated", tmp_path) >= {"read", "letters", "keys", "utf8", "zeros"}


def test_with_a_salt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    salts = itertools.count()

    def cipher(
        cls: type[SectorCipher], passphrase: str | bytes, *, engine: str | None = None
    ) -> SectorCipher:
        salted = as_bytes(passphrase) + bytes([next(salts)])
        return cls(hashlib.sha256(salted).digest()[:16], engine=engine)

    monkeypatch.setattr(SectorCipher, "from_passphrase", classmethod(cipher))
    assert failing("salt", tmp_path) >= {"same", "known", "guess"}


def test_with_a_check_of_the_passphrase(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def read(image: Path, first: int, count: int, passphrase: str = modes.PASSPHRASE) -> bytes:
        if passphrase != modes.PASSPHRASE and passphrase in wrong.TRIES:
            raise SecretError("wrong")
        return unchecked(image, first, count, passphrase)

    unchecked = desk.read
    monkeypatch.setattr(wrong, "read", read)
    assert failing("wrong", tmp_path) == {"errors", "noise"}


def test_a_picture_does_not_show_where_sectors_have_their_own_ivs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(modes, "ecb", lambda data: modes.legacy(data, 0))
    monkeypatch.setattr(modes, "constant_iv", lambda data: modes.legacy(data, 0))
    assert failing("picture", tmp_path) == {"ecb", "constant"}


def test_a_history_does_not_show_where_ivs_count_host_sectors(
    shown: dict[str, Shown], folder: Path, tmp_path: Path
) -> None:
    """The image of the demonstration, with every sector encrypted anew by its place in the file."""
    image = tmp_path / "snapshot.qcow2"
    shutil.copyfile(folder / "snapshot.qcow2", image)
    cipher = SectorCipher.from_passphrase(modes.PASSPHRASE)
    with Stored(image) as stored:
        (snapshot,) = stored.snapshots()
        places = {host: (number, data) for number, host, data in stored.sectors(snapshot)}
        places |= {host: (number, data) for number, host, data in stored.sectors()}
    with image.open("r+b") as file:
        for host, (number, data) in places.items():
            file.seek(host)
            file.write(cipher.encrypt(cipher.decrypt(data, number), host // 512))
    (before,) = search_stages(folder / "snapshot.qcow2")[1]
    (after,) = search_stages(image)[1]
    assert (before.rewritten, before.equal) == (896, 568)
    assert (after.rewritten, after.equal) == (896, 0)


def test_the_rule_of_the_picture_is_told_from_plaintext_alone() -> None:
    """Sectors of 32 blocks: equal up to the block that differs, in a case counted by hand."""
    block = [bytes([number] * 16) for number in range(3)]
    first, second = [block[0]] * 32, [block[0]] * 32
    second[30] = block[1]
    third = [block[2]] * 32
    assert picture.repeated_by_rule(b"".join(first + second + third)) == 2 * 30
    data = b"".join(first + second + third)
    secret = modes.constant_iv(data)
    blocks = [secret[at : at + 16] for at in range(0, len(secret), 16)]
    assert sum(blocks.count(one) > 1 for one in blocks) == 2 * 30


def test_the_flip_of_every_bit_is_not_found_in_other_ciphertext() -> None:
    """The counter of hits counts none where the ciphertext is that of another sector's record."""
    other = modes.legacy(bytes(512), bitflip.SECTOR)
    assert bitflip.every_bit(other) == 0
