"""Tables that point at themselves, at the header, at each other and past the end; small files
that claim much: described, read, checked, repaired and written to, or refused.
"""

from __future__ import annotations

import pytest
from damage.hostile import CLAIMS, CROSSED, WHOLE
from support.hostile import Counting, exercise, exercise_check, exercise_writing

import qcow2crypt

CASES = CROSSED | CLAIMS


def test_the_image_that_is_damaged_was_sound() -> None:
    assert qcow2crypt.check(Counting(WHOLE)).status == 0
    with qcow2crypt.open(Counting(WHOLE)) as image, image.snapshot("1") as snapshot:
        assert image.readall() == snapshot.readall()


@pytest.mark.parametrize("name", CASES)
def test_read(name: str) -> None:
    exercise(CASES[name])


@pytest.mark.parametrize("name", CASES)
def test_check_and_repair(name: str) -> None:
    exercise_check(CASES[name])


@pytest.mark.parametrize("name", CASES)
def test_write(name: str) -> None:
    exercise_writing(CASES[name])
