"""Every claim of the lab holds, and is one that could fail."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from qcow2crypt.lab import DEMONSTRATIONS
from qcow2crypt.lab.base import Claim
from qcow2crypt.lab.desk import NO_QEMU
from qcow2crypt.lab.session import Shown


@pytest.mark.parametrize("name", DEMONSTRATIONS)
def test_every_claim_holds(name: str, shown: dict[str, Shown]) -> None:
    failed = [claim for claim in shown[name].result.claims if not claim.holds]
    assert not failed
    assert shown[name].result.holds


@pytest.mark.parametrize("name", DEMONSTRATIONS)
def test_each_says_what_others_do_and_where_it_is_told(name: str, shown: dict[str, Shown]) -> None:
    demonstration, result = shown[name]
    sides = {claim.side for claim in result.claims}
    if name == "wrong":  # only LUKS is another way, and that needs qemu-img
        assert sides == {"flaw"}
    else:
        assert sides == {"flaw", "contrast"}
    assert demonstration.answer
    assert all(source.url.startswith("https://") for source in demonstration.sources)
    assert demonstration.sources
    assert result.not_run == (NO_QEMU,)
    assert result.commands
    assert result.pictures or name == "salt"
    names = [claim.name for claim in result.claims]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", DEMONSTRATIONS)
def test_its_files_are_there(name: str, shown: dict[str, Shown], folder: Path) -> None:
    for file, about in shown[name].result.files:
        assert (folder / file).stat().st_size > 0, about


CLAIM = Claim("name", "what", 128, 128, of=128)


@pytest.mark.parametrize(
    ("claim", "holds"),
    [
        (CLAIM, True),
        (replace(CLAIM, measured=127), False),
        (replace(CLAIM, measured=120, tolerance=8), True),
        (replace(CLAIM, measured=119, tolerance=8), False),
        (replace(CLAIM, measured="A", rule="A"), True),
        (replace(CLAIM, measured="C", rule="A"), False),
        (replace(CLAIM, measured="128"), False),
    ],
)
def test_what_holds(claim: Claim, holds: bool) -> None:
    assert claim.holds == holds


def test_a_claim_for_people() -> None:
    claim = Claim("n", "s", 57, 64, of=1128, chance="about 64", tolerance=40)
    assert claim.told == "57 of 1,128"
    assert claim.expected == "the rule says about 64; by chance: about 64"
