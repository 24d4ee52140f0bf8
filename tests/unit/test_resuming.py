"""Conversions that are stopped and gone on with: the same file, and no wrong one."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from support.mounting import loop_device

import qcow2crypt
from qcow2crypt import Qcow2Options
from qcow2crypt.errors import ArgumentError, SourceError, TargetError
from qcow2crypt.output import Output
from qcow2crypt.tasks import replaying, resuming
from qcow2crypt.tasks.conversion import convert_images
from qcow2crypt.tasks.journal import Journal
from qcow2crypt.tasks.leftover import left_over
from qcow2crypt.tasks.manner import Manner

MIB = 1 << 20
OPTIONS = [
    None,
    Qcow2Options(),
    Qcow2Options(encryption="aes"),
    Qcow2Options(encryption="aes", cluster_size=512),
    Qcow2Options(cluster_size=2 * MIB),
    Qcow2Options(cluster_size=32768, extended_l2=True, encryption="aes"),
    Qcow2Options(preallocation="full", encryption="aes", version=2),
    Qcow2Options(preallocation="metadata"),
]


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Note what is done after every piece."""
    monkeypatch.setattr(resuming, "INTERVAL", 1)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """13 MiB and a sector: data and zeros in pieces of all sizes, and holes."""
    rng = random.Random(5)
    path = tmp_path / "source.raw"
    with path.open("wb") as file:
        while file.tell() < 13 * MIB:
            file.write(rng.randbytes(512 * rng.choice([1, 7, 8, 64, 700, 5000])))
            file.seek(512 * rng.choice([0, 1, 8, 40, 300, 4096]), os.SEEK_CUR)
        file.truncate(13 * MIB)
        file.seek(0, os.SEEK_END)
        file.write(b"x" * 512)
    return path


class StoppedError(Exception):
    """What ends a conversion here."""


@dataclasses.dataclass
class Case:
    """One conversion."""

    source: Path
    target: Path
    options: Qcow2Options | None
    secret: str = "key"
    threads: int = 2

    def convert(self, stop_at: int | None = None) -> None:
        def progress(done: int, total: int) -> None:
            if stop_at is not None and done >= stop_at:
                raise StoppedError

        with qcow2crypt.open(self.source, format="raw") as image:
            convert_images(
                [image],
                self.target,
                target_format="raw" if self.options is None else "qcow2",
                target_secret=self._secret(),
                options=self.options,
                progress=progress,
                manner=Manner(self.threads),
                resume=True,
            )

    def convert_at_once(self, target: Path) -> None:
        with qcow2crypt.open(self.source, format="raw") as image:
            convert_images(
                [image],
                target,
                target_format="raw" if self.options is None else "qcow2",
                target_secret=self._secret(),
                options=self.options,
            )

    def _secret(self) -> str | None:
        return self.secret if self.options is not None and self.options.encryption else None


@pytest.fixture
def case(source: Path, tmp_path: Path) -> Case:
    return Case(source, tmp_path / "target", Qcow2Options(encryption="aes"))


@pytest.mark.parametrize("options", OPTIONS, ids=repr)
@pytest.mark.parametrize("threads", [1, 3])
def test_the_same_file(
    options: Qcow2Options | None, threads: int, source: Path, tmp_path: Path
) -> None:
    case = Case(source, tmp_path / "target", options, threads=threads)
    stops = 0
    for stop_at in (1, 3 * MIB, 4 * MIB, 9 * MIB, 13 * MIB, None):
        with contextlib.suppress(StoppedError):  # threads may all be done before it is told
            case.convert(stop_at)
        stops += bool(left_over(case.target))
        if case.target.exists():
            break
    assert stops >= (3 if threads == 1 else 1)
    case.convert_at_once(tmp_path / "usual")
    assert case.target.read_bytes() == (tmp_path / "usual").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["source.raw", "target", "usual"]


def test_what_is_done_is_not_done_again(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StoppedError):
        case.convert(9 * MIB)
    written: list[int] = []
    usual = Output.pwritev

    def count(self: Output, parts: list[memoryview], offset: int) -> None:
        if self.replaying is None:
            written.append(sum(memoryview(part).nbytes for part in parts))
        usual(self, parts, offset)

    monkeypatch.setattr(Output, "pwritev", count)
    monkeypatch.setattr(replaying, "AT_RANDOM", 0)
    case.convert()
    assert sum(written) < 6 * MIB


def test_nothing_stays_of_what_failed_at_once(case: Case) -> None:
    with pytest.raises(StoppedError):
        case.convert(0)
    assert left_over(case.target) == ()


def stopped(case: Case) -> tuple[Path, Path]:
    with pytest.raises(StoppedError):
        case.convert(9 * MIB)
    part, journal = map(Path, left_over(case.target))
    return part, journal


def test_another_passphrase(case: Case) -> None:
    stopped(case)
    case.secret = "other"
    with pytest.raises(TargetError, match="passphrase"):
        case.convert()
    assert len(left_over(case.target)) == 2
    case.secret = "key"
    case.convert()


def test_other_options(case: Case) -> None:
    part, journal = stopped(case)
    case.options = Qcow2Options(encryption="aes", cluster_size=4096)
    with pytest.raises(TargetError, match="options changed") as caught:
        case.convert()
    assert str(part) in str(caught.value)
    part.unlink()
    journal.unlink()
    case.convert()


def test_a_source_of_another_time(case: Case) -> None:
    stopped(case)
    os.utime(case.source, (1, 1))
    with pytest.raises(TargetError, match="files changed"):
        case.convert()


def test_a_source_that_was_changed_in_secret(case: Case) -> None:
    """The first piece is always compared."""
    stopped(case)
    status = case.source.stat()
    with case.source.open("r+b") as file:
        first = file.read(1)
        file.seek(0)
        file.write(bytes([first[0] ^ 1]))
    os.utime(case.source, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(TargetError, match="source"):
        case.convert()


def test_an_unfinished_file_that_was_damaged(case: Case) -> None:
    part, _ = stopped(case)
    content = bytearray(part.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 512] = bytes(512)
    part.write_bytes(content)
    with pytest.raises(TargetError, match="unfinished file"):
        case.convert()


def test_a_journal_that_was_cut(case: Case, tmp_path: Path) -> None:
    """Every cut gives the same file: what is not whole was not written."""
    case.convert_at_once(tmp_path / "usual")
    wanted = (tmp_path / "usual").read_bytes()
    for cut in (0, 1, 50, -1, -30):
        _, journal = stopped(case)
        content = journal.read_bytes()
        journal.write_bytes(content[:cut])
        case.convert()
        assert case.target.read_bytes() == wanted
        case.target.unlink()


def test_one_of_the_two_files_is_gone(case: Case) -> None:
    for number in (0, 1):
        stopped(case)[number].unlink()
        case.convert()
        assert left_over(case.target) == ()


def test_what_is_done_is_noted_when_an_error_ends_it(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither so many bytes nor so much time has passed."""
    monkeypatch.setattr(resuming, "INTERVAL", 1 << 40)
    monkeypatch.setattr(resuming, "INTERVAL_SECONDS", 1 << 40)
    with pytest.raises(StoppedError):
        case.convert(9 * MIB)
    starts: list[int] = []

    def first(done: int, total: int) -> None:
        starts.append(done)

    with qcow2crypt.open(case.source, format="raw") as image:
        convert_images(
            [image],
            case.target,
            target_format="qcow2",
            target_secret="key",
            options=case.options,
            progress=first,
            resume=True,
        )
    assert starts[0] >= 9 * MIB


def test_time_is_noted_too(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resuming, "INTERVAL", 1 << 40)
    monkeypatch.setattr(resuming, "INTERVAL_SECONDS", 0)
    ends: list[int] = []
    usual = Journal.append

    def append(self: Journal, records: list[list[int]]) -> None:
        ends.append(len(records))
        usual(self, records)

    monkeypatch.setattr(Journal, "append", append)
    case.convert()
    assert len(ends) > 1  # the first line is what the work is


def test_two_at_once(case: Case) -> None:
    _, path = stopped(case)
    journal = Journal(path)
    with pytest.raises(TargetError, match="another conversion"):
        case.convert()
    journal.close()
    case.convert()


def test_a_file_of_somebody_else(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped(case)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(TargetError, match="not a file of yours"):
        case.convert()


def test_a_source_that_changes_meanwhile(case: Case) -> None:
    def touch(done: int, total: int) -> None:
        if done >= 5 * MIB:
            os.utime(case.source, (5, 5))

    with qcow2crypt.open(case.source, format="raw") as image:
        with pytest.raises(SourceError, match="changed while it was read"):
            convert_images([image], case.target, progress=touch, resume=True)
        assert left_over(case.target) == ()
        os.utime(case.source, (6, 6))
        with pytest.raises(SourceError, match="changed while it was read"):
            convert_images([image], case.target, progress=touch)
        assert not case.target.exists()
        os.utime(case.source, (6, 6))
        convert_images([image], case.target, progress=touch, watched=False)


@pytest.mark.parametrize("changed", [False, True])
def test_a_device_that_is_written_to_meanwhile(changed: bool, case: Case, tmp_path: Path) -> None:
    """It has no time of a last change, but the system counts writes."""
    with loop_device(case.source) as device:
        with device.open("r+b") as file:  # in the cache still when the conversion begins
            file.write(bytes(MIB))

        def write(done: int, total: int) -> None:
            if changed and done >= 5 * MIB:
                with device.open("r+b") as file:
                    file.seek(3 * MIB)
                    file.write(os.urandom(512))

        with qcow2crypt.open(device, format="raw") as image:
            if changed:
                with pytest.raises(SourceError, match="changed while it was read"):
                    convert_images([image], case.target, progress=write)
                convert_images([image], case.target, progress=write, watched=False)
            else:
                convert_images([image], case.target, progress=write)
    assert case.target.exists()


def test_several_sources(source: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.raw"
    other.write_bytes(os.urandom(5 * MIB))
    target, usual = tmp_path / "target", tmp_path / "usual"

    def stop_at(where: int) -> Callable[[int, int], None]:
        def stop(done: int, total: int) -> None:
            if done >= where:
                raise StoppedError

        return stop

    with (
        qcow2crypt.open(source, format="raw") as one,
        qcow2crypt.open(other, format="raw") as two,
    ):
        for where in (3 * MIB, 13 * MIB + 512, 15 * MIB):
            with pytest.raises(StoppedError):
                convert_images(
                    [one, two],
                    target,
                    target_format="qcow2",
                    progress=stop_at(where),
                    manner=Manner(1),
                    resume=True,
                )
        convert_images([one, two], target, target_format="qcow2", resume=True)
        convert_images([one, two], usual, target_format="qcow2")
    assert target.read_bytes() == usual.read_bytes()


def test_what_cannot_go_on(case: Case) -> None:
    case.options = Qcow2Options(data_file="x")
    with pytest.raises(ArgumentError, match="resume"):
        case.convert()
