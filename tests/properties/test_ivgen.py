"""The IVs of a run are those that the textbook makes one by one."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import every_engine

from qcow2crypt import engines
from qcow2crypt.crypt import ivgen
from qcow2crypt.errors import ArgumentError
from qcow2crypt.reference import ivgen as textbook
from qcow2crypt.testing import strategies
from qcow2crypt.units import SECTOR_NUMBER_MAX

each_generator = pytest.mark.parametrize("name", ivgen.names())
KEY = bytes(range(16))


def one_by_one(name: str, key: bytes, first: int, count: int) -> bytes:
    generate = textbook.iv_generator(name, key)
    return b"".join(generate(first + i) for i in range(count))


def test_the_generators_are_those_of_the_textbook() -> None:
    assert set(ivgen.names()) == set(textbook.IV_GENERATORS)


ENGINES = ("native", "pure")  # one that makes IVs of its own, and one that leaves it to ivgen
each_engine = pytest.mark.parametrize("engine", ENGINES)


@each_generator
@each_engine
@given(data=st.data(), count=st.integers(0, 140), key=strategies.keys())
@settings(max_examples=60)
def test_a_run_is_its_sectors_one_by_one(
    name: str, engine: str, data: st.DataObject, count: int, key: bytes
) -> None:
    first = data.draw(strategies.sector_numbers(count))
    generate = ivgen.iv_generator(name, key, every_engine.engine(engine))
    assert generate(first, count) == one_by_one(name, key, first, count)


@pytest.mark.parametrize("engine", every_engine.ENGINES)
def test_essiv_is_the_same_with_every_engine(engine: str) -> None:
    generate = ivgen.iv_generator("essiv:sha256", KEY, every_engine.engine(engine))
    assert generate(2**40, 70) == one_by_one("essiv:sha256", KEY, 2**40, 70)


@each_engine
@pytest.mark.parametrize("name", ["plain", "plain64"])
@pytest.mark.parametrize("count", [4095, 4096, 4097, 9000])
@pytest.mark.parametrize("first", [0, 2**32 - 4096, SECTOR_NUMBER_MAX - 8999])
def test_long_runs(name: str, engine: str, count: int, first: int) -> None:
    generate = ivgen.iv_generator(name, KEY, every_engine.engine(engine))
    assert generate(first, count) == one_by_one(name, KEY, first, count)


def test_plain_starts_anew_after_32_bits_and_plain64_does_not() -> None:
    assert ivgen.plain(2**32 - 1, 2) == b"\xff" * 4 + bytes(12) + bytes(16)
    assert ivgen.plain64(2**32 - 1, 2)[16:] == bytes([0, 0, 0, 0, 1]) + bytes(11)
    assert ivgen.plain(7 * 2**32 + 5, 1) == ivgen.plain64(5, 1)


@each_engine
@each_generator
@pytest.mark.parametrize("count", [0, 1, 2])
def test_the_last_sector_has_an_iv(name: str, engine: str, count: int) -> None:
    generate = ivgen.iv_generator(name, KEY, every_engine.engine(engine))
    first = SECTOR_NUMBER_MAX - max(count - 1, 0)
    assert generate(first, count) == one_by_one(name, KEY, first, count)


@each_engine
@each_generator
@pytest.mark.parametrize(
    ("first", "count"),
    [
        (-1, 1),
        (-1, 0),
        (2**64, 1),
        (2**64, 0),
        (2**64 - 1, 2),
        (2**64 - 5000, 5001),
        (0, 2**64 + 1),
        (0, -1),
    ],
)
def test_runs_beyond_64_bits_are_refused(name: str, engine: str, first: int, count: int) -> None:
    generate = ivgen.iv_generator(name, KEY, every_engine.engine(engine))
    with pytest.raises(ArgumentError, match=r"are not all in 0 to 2|a run cannot have"):
        generate(first, count)


def test_a_generator_that_is_not_known() -> None:
    with pytest.raises(ArgumentError, match="no IV generator 'plain65'; there are: plain, plain64"):
        ivgen.iv_generator("plain65", KEY, engines.get())


class MakesIvs:
    """An engine that makes the IVs of plain64 by itself, and looks at no number."""

    name = "makes-ivs"

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []

    def expand_key(self, key: bytes) -> engines.ExpandedKey:
        return engines.get("pure").expand_key(key)

    def plain64(self, first: int, count: int) -> bytes:
        self.asked.append((first, count))
        return b"".join((first + i).to_bytes(16, "little") for i in range(count))


def test_an_engine_that_makes_ivs_is_asked_only_for_numbers_that_are() -> None:
    engine = MakesIvs()
    for name in ("plain64", "essiv:sha256"):
        generate = ivgen.iv_generator(name, KEY, engine)
        assert generate(7, 3) == one_by_one(name, KEY, 7, 3)
        with pytest.raises(ArgumentError):
            generate(2**64 - 1, 2)
    assert engine.asked == [(7, 3)] * 2
