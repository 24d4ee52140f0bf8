"""Watching shows every round, CBC step and IV as the standards print them, and changes nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from support import vectors
from support.vectors import Case

from qcow2crypt.reference import (
    CbcStep,
    RoundState,
    SectorIv,
    cbc_decrypt,
    cbc_encrypt,
    decrypt,
    decrypt_sectors,
    encrypt,
    encrypt_sectors,
    set_decrypt_key,
    set_encrypt_key,
)

FIPS = vectors.load("fips197")
SP = vectors.load("sp800-38a-cbc")
KEY = bytes(range(16))
Seen = SectorIv | CbcStep | RoundState
Run = Callable[..., bytes]
RECORDS: list[Seen] = [
    RoundState(1, "start", bytes(16)),
    CbcStep(0, bytes(16), bytes(16), bytes(16), bytes(16)),
    SectorIv(0, bytes(16)),
]


@pytest.mark.parametrize("case", vectors.cases("fips197"), ids=lambda case: case.id)
def test_states_of_the_cipher_as_printed(case: Case) -> None:
    seen: list[RoundState] = []
    encrypt(case.plaintext, set_encrypt_key(case.key, case.bits), watch=seen.append)
    assert _rows(seen) == _printed(case.id, ("input", "start", "output"))


@pytest.mark.parametrize("case", vectors.cases("fips197")[1:], ids=lambda case: case.id)
def test_states_of_the_equivalent_inverse_cipher_as_printed(case: Case) -> None:
    seen: list[RoundState] = []
    decrypt(case.ciphertext, set_decrypt_key(case.key, case.bits), watch=seen.append)
    assert _rows(seen) == _printed(case.id, ("iinput", "istart", "ioutput"))


def test_a_round_state_reads_like_the_line_of_the_appendix() -> None:
    state = bytes.fromhex("00102030405060708090a0b0c0d0e0f0")
    assert str(RoundState(1, "start", state)) == "round[ 1].start    " + state.hex()
    assert str(RoundState(10, "ioutput", state)) == "round[10].ioutput  " + state.hex()


@pytest.mark.parametrize("case", vectors.cases("sp800-38a-cbc"), ids=lambda case: case.id)
def test_cbc_steps_as_printed(case: Case) -> None:
    seen: list[RoundState | CbcStep] = []
    assert case.iv is not None
    if case.id[-1] in "135":
        key = set_encrypt_key(case.key, case.bits)
        cbc_encrypt(case.plaintext, key, case.iv, watch=seen.append)
    else:
        key = set_decrypt_key(case.key, case.bits)
        cbc_decrypt(case.ciphertext, key, case.iv, watch=seen.append)
    steps = [record for record in seen if isinstance(record, CbcStep)]
    assert [_hex(step) for step in steps] == [
        {
            "index": row["block"] - 1,
            **{
                name: row[name]
                for name in ("plaintext", "input_block", "output_block", "ciphertext")
            },
        }
        for row in SP["steps"]
        if row["case"] == case.id
    ]


@pytest.mark.parametrize("run", [encrypt_sectors, decrypt_sectors])
def test_sector_then_rounds_then_step(run: Run) -> None:
    """For each sector its IV, then for each block all its rounds and its CBC step."""
    seen: list[Seen] = []
    run(bytes(range(64)), 5, KEY, sector_size=32, watch=seen.append)
    block = ["RoundState"] * 12 + ["CbcStep"]
    assert [type(record).__name__ for record in seen] == 2 * ["SectorIv", *block, *block]
    assert [record for record in seen if isinstance(record, SectorIv)] == [
        SectorIv(5, (5).to_bytes(16, "little")),
        SectorIv(6, (6).to_bytes(16, "little")),
    ]
    assert [record.index for record in seen if isinstance(record, CbcStep)] == [0, 1, 0, 1]


def test_records_hold_bytes_of_their_own() -> None:
    """Not views: what a watcher keeps must not change with the caller's buffer."""
    seen: list[Seen] = []
    encrypt_sectors(memoryview(bytearray(512)), 0, KEY, watch=seen.append)
    for record in seen:
        values = [getattr(record, field.name) for field in dataclasses.fields(record)]
        assert all(isinstance(value, (bytes, int, str)) for value in values)


def test_the_iv_shown_is_the_iv_used() -> None:
    seen: list[Seen] = []
    encrypt_sectors(bytes(512), 9, KEY, ivgen="essiv:sha256", watch=seen.append)
    shown, first = seen[0], next(record for record in seen if isinstance(record, CbcStep))
    assert isinstance(shown, SectorIv)
    assert first.plaintext == bytes(16)
    assert first.input_block == shown.iv


@pytest.mark.parametrize("run", [encrypt_sectors, decrypt_sectors])
def test_watching_changes_no_result(run: Run) -> None:
    data = bytes(range(256)) * 4
    assert run(data, 3, KEY, watch=lambda _seen: None) == run(data, 3, KEY)


def test_nothing_is_shown_unless_asked(capfd: pytest.CaptureFixture[str]) -> None:
    decrypt_sectors(encrypt_sectors(bytes(512), 0, KEY), 0, KEY)
    assert capfd.readouterr() == ("", "")


def test_what_a_watcher_raises_comes_through() -> None:
    class StopHereError(Exception):
        pass

    def stop(_seen: object) -> None:
        raise StopHereError

    with pytest.raises(StopHereError):
        encrypt_sectors(bytes(512), 0, KEY, watch=stop)


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_records_are_frozen_and_slotted(record: Seen) -> None:
    field = dataclasses.fields(record)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(record, field, 1)
    assert not hasattr(record, "__dict__")


def _rows(seen: list[RoundState]) -> list[tuple[int, str, str]]:
    return [(record.round, record.step, record.state.hex()) for record in seen]


def _printed(case: str, steps: tuple[str, ...]) -> list[tuple[int, str, str]]:
    return [
        (row["round"], row["step"], row["state"])
        for row in FIPS["traces"]
        if row["case"] == case and row["step"] in steps
    ]


def _hex(record: CbcStep) -> dict[str, Any]:
    values = dataclasses.asdict(record)
    return {
        name: value.hex() if isinstance(value, bytes) else value for name, value in values.items()
    }
