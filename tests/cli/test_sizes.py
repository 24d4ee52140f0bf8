"""Sizes are read and printed as qemu-img does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcow2crypt.cli.failures import CommandError
from qcow2crypt.cli.sizes import SIZE_MAX, format_size, parse_number, parse_size
from qcow2crypt.testing.witness import QemuImg

GOOD = {
    "0": 0, "1": 1, "512": 512, "1b": 1, "1B": 1, "1k": 1024, "1K": 1024, "1.5k": 1536,
    "1m": 1 << 20, "1.5G": 1610612736, "0x100": 256, "0X10": 16, "0x1k": 1024, "0x1E": 30,
    "0x1b": 27, "0x1bk": 27648, "+1": 1, " 1": 1, "\t2k": 2048, "1.k": 1024, "1.0": 1, "0.0": 0,
    "00": 0, "007": 7, "0.5k": 512, "0.3M": 314573, "1.23456789k": 1264, "0.99999k": 1024,
    "1.0005k": 1025, "1.0b": 1, "7E": 7 << 60,
    "7.99999E": 9223360507639729792, "3.14159265358979323846G": 3373259426, "0.000001G": 1074,
    "1.00000000000000000001k": 1024, "1e": 1 << 60, "1.5E": 3 << 59, str(SIZE_MAX): SIZE_MAX,
}  # fmt: skip
BAD = [
    "", "k", "1e3", "1kk", "1KB", "1MiB", "-1", "-0", "1 ", "1.1", "1.7b", "0.5b", "1,5G", ".5k",
    ".", "+", "1..", "1.5.5k", "1 k", "1e1k", "inf", "nan", "0x", "0x1.8k", "0x1.0", "٣", "1\n",
    "8E", "16E",
    "9223372036854775808", "18446744073709551616", "1" * 5000, "0x" + "f" * 5000,
]  # fmt: skip


@pytest.mark.parametrize(("text", "size"), GOOD.items())
def test_a_size_is_read(text: str, size: int) -> None:
    assert parse_size(text, what="size") == size


@pytest.mark.parametrize("text", BAD)
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(CommandError, match=r"^size: this"):
        parse_size(text, what="size")


@pytest.mark.parametrize("text", [*GOOD, *(text for text in BAD if not text.startswith("-"))])
def test_qemu_img_reads_the_same(text: str, qemu_img: QemuImg, tmp_path: Path) -> None:
    # Creating may fail after the size was read and printed: the disk would be too large.
    done = qemu_img.run("create", "-f", "raw", tmp_path / "x", text, check=False)
    found = re.search(r"fmt=raw size=(\d+)", done.stdout)
    assert (int(found[1]) if found else None) == GOOD.get(text)


@given(st.text(max_size=30))
def test_any_text_is_a_size_or_refused(text: str) -> None:
    try:
        size = parse_size(text, what="size")
    except CommandError:
        return
    assert 0 <= size <= SIZE_MAX


@given(st.integers(0, SIZE_MAX))
def test_digits_are_themselves(size: int) -> None:
    assert parse_size(str(size), what="size") == size
    assert parse_size(hex(size), what="size") == size


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"), (512, "512 B"), (1024, "1 KiB"), (1536, "1.5 KiB"), (1000448, "977 KiB"),
        (1022976, "999 KiB"), (1024000, "0.977 MiB"), (1048576, "1 MiB"), (1234944, "1.18 MiB"),
        (999999488, "954 MiB"), (1048576000, "0.977 GiB"), (1 << 40, "1 TiB"), (3 << 59, "1.5 EiB"),
    ],
)  # fmt: skip
def test_a_size_is_printed(size: int, text: str) -> None:
    assert format_size(size) == text


@pytest.mark.parametrize("sectors", [0, 1, 2, 3, 1954, 1998, 2000, 2047, 2412, 241127, 2045899])
def test_qemu_img_prints_the_same(sectors: int, qemu_img: QemuImg, tmp_path: Path) -> None:
    path = tmp_path / "x"
    with path.open("wb") as file:
        file.truncate(sectors * 512)
    line = qemu_img.run("info", "-f", "raw", path).stdout.splitlines()[2]
    assert line == f"virtual size: {format_size(sectors * 512)} ({sectors * 512} bytes)"


@pytest.mark.parametrize(
    ("text", "number"), [("16", 16), ("+16", 16), (" 16", 16), ("0x10", 16), ("020", 16), ("0", 0)]
)
def test_a_number_is_read_as_c_reads_it(text: str, number: int) -> None:
    assert parse_number(text, what="n", smallest=0, largest=64) == number


@pytest.mark.parametrize("text", ["", "8k", "8.0", "-1", "65", "x", "08", "1" * 5000])
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(CommandError, match=r"^n: .*0 to 64"):
        parse_number(text, what="n", smallest=0, largest=64)
