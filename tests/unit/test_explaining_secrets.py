"""explain: the key is shown only on demand, and the rounds of AES are those of FIPS-197."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import qcow2crypt
from qcow2crypt.errors import ArgumentError, SecretError
from qcow2crypt.explaining.decryption import aes_steps
from qcow2crypt.explaining.facts import Explanation
from qcow2crypt.explaining.wording import as_text

AES = qcow2crypt.Qcow2Options(encryption="aes")


class TestSecrets:
    """The key, its round keys and the passphrase: only where they were asked for."""

    PASSPHRASE = "0123456789abcdef and more"
    KEY = b"0123456789abcdef"

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        path = tmp_path / "disk.qcow2"
        qcow2crypt.create(path, 1 << 20, options=AES, secret=self.PASSPHRASE)
        with qcow2crypt.open(path, self.PASSPHRASE, "r+") as disk:
            disk.pwrite(b"guest data" * 100, 4096)
        return path

    @staticmethod
    def shown(found: Explanation) -> str:
        texts = (repr(found), str(found), json.dumps(found.to_dict()), found._repr_html_())
        return "".join((*texts, as_text(found))).replace(" ", "").lower()

    def test_the_key_is_hidden(self, path: Path) -> None:
        text = self.shown(qcow2crypt.explain(path, offset=4096, secret=self.PASSPHRASE))
        assert self.KEY.hex() not in text
        assert self.KEY.decode() not in text
        assert "guestdataguest" in text  # what was asked for is there

    def test_round_keys_are_hidden(self, path: Path) -> None:
        with pytest.raises(ArgumentError, match="show_key"):
            qcow2crypt.explain(path, offset=4096, secret=self.PASSPHRASE, steps=True)

    def test_the_key_is_shown_on_demand(self, path: Path) -> None:
        found = qcow2crypt.explain(path, offset=4096, secret=self.PASSPHRASE, show_key=True)
        assert found.key is not None
        assert found.key.key == self.KEY
        assert (found.key.bytes_used, found.key.bytes_ignored) == (16, 9)
        assert self.KEY.hex() in json.dumps(found.to_dict())
        assert self.KEY.hex(" ") in as_text(found)
        assert self.KEY.hex() not in repr(found).replace(" ", "")
        assert repr(self.KEY)[1:] not in repr(found)

    def test_steps_end_with_the_block(self, path: Path) -> None:
        found = qcow2crypt.explain(
            path, offset=4096 + 37, secret=self.PASSPHRASE, show_key=True, steps=True
        )
        block = found.blocks[2]
        assert found.steps[0].state == block.ciphertext
        assert found.steps[-1].state == block.decrypted
        assert found.steps[-2].state == self.KEY  # the last round key going back is the key

    def test_a_bad_secret_is_an_error_of_ours(self, path: Path) -> None:
        with pytest.raises(SecretError):
            qcow2crypt.explain(path, offset=4096, secret=7)  # type: ignore[arg-type]


def test_rounds_are_those_of_fips_197() -> None:
    """FIPS-197, appendix C.1, EQUIVALENT INVERSE CIPHER."""
    key = bytes(range(16))
    steps = aes_steps(bytes.fromhex("69c4e0d86a7b0430d8cdb78070b4c55a"), key)
    shown = [f"round[{step.round:2}].{step.step:<8} {step.state.hex()}" for step in steps]
    assert shown[:7] == [
        "round[ 0].iinput   69c4e0d86a7b0430d8cdb78070b4c55a",
        "round[ 0].ik_sch   13111d7fe3944a17f307a78b4d2b30c5",
        "round[ 1].istart   7ad5fda789ef4e272bca100b3d9ff59f",
        "round[ 1].is_box   bdb52189f261b63d0b107c9e8b6e776e",
        "round[ 1].is_row   bd6e7c3df2b5779e0b61216e8b10b689",
        "round[ 1].im_col   4773b91ff72f354361cb018ea1e6cf2c",
        "round[ 1].ik_sch   13aa29be9c8faff6f770f58000f7bf03",
    ]
    assert shown[-1] == "round[10].ioutput  00112233445566778899aabbccddeeff"
    # What is made of the tables, XORed with the round key, is what the textbook has next.
    for mixed, round_key, after in zip(steps, steps[1:], steps[2:], strict=False):
        if round_key.step == "ik_sch":
            made = bytes(a ^ b for a, b in zip(mixed.state, round_key.state, strict=True))
            assert made == after.state
