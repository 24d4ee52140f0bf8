"""The parts of difftest alone: outcomes, differences, smaller cases, groups, where bytes lie."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from qcow2crypt.difftest.differences import Difference, compare, compare_content
from qcow2crypt.difftest.features import features
from qcow2crypt.difftest.groups import Groups
from qcow2crypt.difftest.outcomes import Content, Crashed, Hung, Outcome, Refused, isolated
from qcow2crypt.difftest.shrinking import shrink
from qcow2crypt.difftest.whereabouts import Place, looks_like
from qcow2crypt.errors import SourceError, UnsupportedFeatureError
from qcow2crypt.reference import decrypt_sectors, encrypt_sectors, passphrase_to_key
from qcow2crypt.testing.case import (
    Case,
    Fill,
    Layer,
    Operation,
    Resize,
    Snapshot,
    Write,
    WriteZeroes,
)
from qcow2crypt.testing.rules import tidy

# Python 3.12 and later warn of forks beside threads; the threads are those of pytest-xdist.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")

DATA = Content(bytes(range(256)) * 16)


def failing(error: BaseException) -> bytes:
    raise error


def ended() -> bytes:
    os.kill(os.getpid(), signal.SIGKILL)
    return b""


def endless() -> bytes:
    time.sleep(60)
    return b""


@pytest.mark.parametrize(
    ("work", "wanted"),
    [
        (lambda: b"x" * 200_000, Content(b"x" * 200_000)),
        (lambda: failing(SourceError("cut")), Refused("cut")),
        (
            lambda: failing(UnsupportedFeatureError("LUKS")),
            Refused("not supported: LUKS", unsupported=True),
        ),
        (lambda: failing(KeyError("x")), Crashed("KeyError: 'x'")),
        (ended, Crashed("SIGKILL")),
        (endless, Hung(1.0)),
    ],
)
def test_whatever_code_does_is_an_outcome(work: Callable[[], bytes], wanted: Outcome) -> None:
    assert isolated(work, 1.0 if isinstance(wanted, Hung) else 60.0) == wanted


@pytest.mark.parametrize(
    ("found", "kind"),
    [
        (Content(DATA.data[:512] + b"x" + DATA.data[513:]), "other bytes"),
        (Content(DATA.data[:512] + bytes(3584)), "zeros"),
        (Content(DATA.data[:-512]), "other size"),
        (Refused("no"), "refused"),
        (Refused("no", unsupported=True), "unsupported"),
        (Crashed("SIGSEGV"), "crashed"),
        (Hung(1.0), "hung"),
    ],
)
def test_kinds_of_difference(found: Outcome, kind: str) -> None:
    difference = compare(DATA, found, "read", "the disk")
    assert difference is not None
    assert difference.kind == kind


def test_what_is_no_difference() -> None:
    assert compare(DATA, DATA, "read", "the disk") is None
    assert compare(Refused("no"), Refused("never"), "read", "the disk") is None
    shorter = DATA.data[:-512]
    assert compare_content(DATA.data, shorter, "read", "snapshot a", resized=True) is None


def test_the_first_difference_is_told_by_its_block() -> None:
    wrong = bytearray(DATA.data)
    wrong[1000] ^= 1
    wrong[3000] ^= 1
    found = compare_content(DATA.data, bytes(wrong), "read", "the disk")
    assert found is not None
    assert (found.offset, found.sectors) == (992, 2)
    assert found.wanted[:16] == DATA.data[992:1008]


def big_case() -> Case:
    writes = tuple(Write(at << 16, 70_000, Fill("random", at)) for at in range(3, 9))
    top: tuple[Operation, ...] = (
        *writes,
        Snapshot("create", "a"),
        WriteZeroes(0, 4096),
        Resize(1 << 19),
    )
    below = Layer(1 << 20, "raw", operations=writes)
    return tidy(Case((below, Layer(1 << 20, passphrase="not short", operations=top))))


def test_a_case_shrinks_to_what_it_takes() -> None:
    def shows(case: Case) -> bool:
        return case.top.passphrase is not None and any(
            isinstance(one, WriteZeroes) for one in case.top.operations
        )

    small = shrink(big_case(), shows)
    layer = Layer(512, passphrase="secret", operations=(WriteZeroes(0, 512),))
    assert small == Case((layer,))
    assert features(small) == ("aes", "write-zeroes")
    assert shrink(big_case(), shows) == small


def test_a_case_that_cannot_be_smaller_stays() -> None:
    case = big_case()
    assert shrink(case, lambda candidate: candidate == case) == case


def test_shrinking_ends_after_so_many_cases() -> None:
    asked: list[Case] = []

    def shows(case: Case) -> bool:
        asked.append(case)
        return False

    shrink(big_case(), shows, tries=7)
    assert len(asked) == 7


def test_differences_of_one_fault_are_one_group() -> None:
    groups = Groups()
    first = Difference("refused", "read", "the disk", "flags: 0x00000014")
    second = Difference("refused", "read", "the disk", "flags: 0x00000010")
    group = groups.note(1, first)
    assert group is not None
    assert groups.note(2, first) is None
    other = groups.note(3, second)
    assert other is not None
    assert first.alike(second)
    assert groups.shrunk(group, ("extended-l2",), second.key())
    assert not groups.shrunk(other, ("extended-l2",), second.key())
    assert [(one.count, one.first) for one in groups.groups] == [(3, 1)]
    assert groups.note(4, second) is None
    assert Groups.from_json(groups.to_json()) == groups


def test_wrong_bytes_are_recognized() -> None:
    case = Case((Layer(4096, passphrase="ü"),))
    place = Place("data", 0x50000, 0, encrypted=True)
    key = passphrase_to_key("ü")
    right = bytes(range(256)) * 2
    disk = bytes(512) + right
    cipher = encrypt_sectors(right, 1, key)
    for wrong, said in (
        (cipher, "as they are stored"),
        (decrypt_sectors(cipher, 0x280, key), "host sector 640"),
        (decrypt_sectors(cipher, 0, key), "guest sector 0"),
        (decrypt_sectors(cipher, 1, passphrase_to_key(b"\x1a")), "0x1a for each character"),
        (decrypt_sectors(cipher, 1, passphrase_to_key(b"other")), "nothing right"),
        (decrypt_sectors(cipher, 77, key), "the IV is another"),
    ):
        found = looks_like(case, place, disk, bytes(512) + wrong, 512)
        assert found is not None
        assert said in found


def test_nothing_is_left_of_what_hung(tmp_path: Path) -> None:
    pids = tmp_path / "pid"

    def work() -> bytes:
        pids.write_text(str(os.getpid()), encoding="ascii")
        return endless()

    assert isinstance(isolated(work, 0.5), Hung)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pids.read_text(encoding="ascii")), 0)
