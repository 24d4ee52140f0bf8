"""Tables that point at themselves, at the header, at each other and past the end; small files
that claim much: described, read, checked, repaired and written to, or refused.
"""

from __future__ import annotations

import pytest
from support.hostile import Changing, Counting, exercise, exercise_check, exercise_writing

import qcow2crypt
from qcow2crypt.errors import FormatError
from qcow2crypt.testing.damage.hostile import CLAIMS, CROSSED, WHOLE
from qcow2crypt.testing.damage.tiny import put, tiny

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


def test_a_smaller_disk_does_not_cut_what_is_counted_as_free() -> None:
    """Where refcounts say that nothing is used, the file would end before its header."""
    file = Changing(put(tiny().data, tiny().cluster_size * 2, bytes(64)))
    before = file.getvalue()
    with qcow2crypt.open(file, mode="r+") as image, pytest.raises(FormatError, match="free"):
        image.truncate(512)
    assert file.getvalue()[72:80] != before[72:80], "it is marked as corrupt"
    assert file.getvalue()[80:] == before[80:]
