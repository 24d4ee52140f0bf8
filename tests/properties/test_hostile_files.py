"""Hostile file objects: short reads, errors, lies.  The image is read right, or refused by us.

Short reads are no fault, so nothing may show of them.
"""

from __future__ import annotations

import io
import itertools
from typing import Any

import golden
import pytest
from hypothesis import given
from hypothesis import strategies as st

import qcow2crypt
from qcow2crypt.errors import FormatError, Qcow2CryptError, SourceError

IMAGE = golden.load("aes-c4k-compressed.qcow2")
SNAPSHOT = golden.load("aes-c512-snapshot.qcow2")
NAMES = ("aes-c4k-compressed.qcow2", "aes-c512-snapshot.qcow2", "q160-aes-c512.qcow2")


class Bounded(io.BytesIO):
    """A file that counts its reads, and stops what never stops."""

    steps = 0

    def step(self) -> int:
        self.steps += 1
        assert self.steps < 100_000, "this reads for ever"
        return self.steps


class Short(Bounded):
    """Reads as many bytes as the next number says, if that is less than was asked for."""

    def __init__(self, data: bytes, lengths: list[int]) -> None:
        super().__init__(data)
        self._lengths = itertools.cycle(lengths)

    def readinto(self, buffer: Any, /) -> int:
        self.step()
        return super().readinto(memoryview(buffer)[: next(self._lengths)])


class Failing(Bounded):
    """Fails at one of its reads, and at all after that."""

    def __init__(self, data: bytes, after: int, error: BaseException) -> None:
        super().__init__(data)
        self._after, self._error = after, error

    def readinto(self, buffer: Any, /) -> int:
        if self.step() > self._after:
            raise self._error
        return super().readinto(buffer)


class Liar(Bounded):
    """Says that it has another size than it has."""

    def __init__(self, data: bytes, claim: int) -> None:
        super().__init__(data)
        self._claim = claim

    def tell(self) -> int:
        return self._claim

    def readinto(self, buffer: Any, /) -> int:
        self.step()
        return super().readinto(buffer)


class Changing(Bounded):
    """Gives other bytes at each read: a file that someone writes to."""

    def __init__(self, versions: list[bytes]) -> None:
        super().__init__(versions[0])
        self._versions = [io.BytesIO(data) for data in versions]

    def readinto(self, buffer: Any, /) -> int:
        version = self._versions[self.step() % len(self._versions)]
        version.seek(self.tell())
        return version.readinto(buffer)


def read_all(file: io.BytesIO) -> bytes:
    with qcow2crypt.open(file, secret=IMAGE.secret, format="qcow2") as image:
        list(itertools.islice(image.extents(), 1000))
        return image.pread(1 << 20, 0)


@pytest.mark.parametrize("name", NAMES)
@given(lengths=st.lists(st.integers(1, 700), min_size=1, max_size=5))
def test_short_reads_change_nothing(name: str, lengths: list[int]) -> None:
    image = golden.load(name)
    with qcow2crypt.open(Short(image.data, lengths), secret=image.secret) as disk:
        assert golden.sha256(disk.readall()) == image.manifest["guest_sha256"]
    told = qcow2crypt.info(Short(image.data, lengths))
    assert told == qcow2crypt.info(Short(image.data, [1 << 30]))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "error", [OSError(5, "Input/output error"), TimeoutError("too slow"), ValueError("closed")]
)
def test_an_error_at_any_read_is_a_source_error(name: str, error: Exception) -> None:
    image = golden.load(name)
    for after in itertools.count():
        file = Failing(image.data, after, error)
        try:
            with qcow2crypt.open(file, secret=image.secret) as disk:
                content = disk.readall()
        except SourceError as caught:
            assert caught.__cause__ is error
            assert "cannot read '<Failing>' at host offset 0x" in str(caught)
        else:
            assert golden.sha256(content) == image.manifest["guest_sha256"]
            break
    assert after > 3, "it never failed"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError(), RuntimeError("a bug")])
def test_what_is_no_fault_of_the_file_goes_through(error: BaseException) -> None:
    with pytest.raises(type(error)):
        read_all(Failing(IMAGE.data, 2, error))


@given(st.integers(0, 2 * len(IMAGE.data)) | st.sampled_from((2**31, 2**40, 2**63, 2**64, 2**90)))
def test_a_size_that_is_a_lie(claim: int) -> None:
    try:
        content = read_all(Liar(IMAGE.data, claim))
    except Qcow2CryptError as error:
        assert claim < len(IMAGE.data)
        assert isinstance(error, FormatError)
    else:
        if claim >= len(IMAGE.data):
            assert golden.sha256(content) == IMAGE.manifest["guest_sha256"]


@pytest.mark.parametrize("claim", [-1, -(2**70), "12", None, 2.5])
def test_a_size_that_is_no_size(claim: Any) -> None:
    with pytest.raises(Qcow2CryptError):
        read_all(Liar(IMAGE.data, claim))


@given(st.lists(st.integers(0, 3), min_size=2, max_size=8), st.integers(0, 2**32))
def test_a_file_that_changes_while_it_is_read(order: list[int], noise: int) -> None:
    """It may be refused, and what is read may be nonsense; it may not end in chaos."""
    zeros = IMAGE.data[:112].ljust(len(IMAGE.data), b"\0")
    ones = IMAGE.data[:112].ljust(len(IMAGE.data), b"\xff")
    mixed = IMAGE.data[:12288] + noise.to_bytes(8, "big") * 2048
    versions = [IMAGE.data, zeros, ones, mixed]
    try:
        content = read_all(Changing([versions[index] for index in order]))
    except Qcow2CryptError:
        return
    assert len(content) % 512 == 0
