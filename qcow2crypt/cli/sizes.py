"""Sizes as qemu-img takes and prints them.  Knows numbers and suffixes, nothing of images.

Follows the behaviour of qemu-img 7.2: suffixes are powers of 1024 in either case, a fraction
needs a suffix, the result is rounded to the nearest byte, hexadecimal is taken without fraction.
"""

from __future__ import annotations

import re

from qcow2crypt.cli.failures import CommandError

SIZE_MAX = 2**63 - 1
"""The largest size or offset of an image."""

_SUFFIXES = "bkmgtpe"
_UNITS = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
# [0-9], not \d: digits of other scripts are no digits here.
_DECIMAL = r"(?i)[ \t\n\v\f\r]*\+?([0-9]+)(?:\.([0-9]*))?([bkmgtpe]?)"
_HEXADECIMAL = r"(?i)[ \t\n\v\f\r]*\+?0x([0-9a-f]+)([kmgtp]?)"
_HELP = "write a number of bytes, or a number with one of the suffixes k, M, G, T, P, E"


def parse_size(text: str, *, what: str, largest: int = SIZE_MAX) -> int:
    """The bytes that ``text`` stands for: ``1.5G`` is 1610612736.

    Raises CommandError, which begins with ``what``, when it is no size or above ``largest``.
    """
    size = _parse_hexadecimal(text)
    if size is None:
        size = _parse_decimal(text)
    if size is None:
        raise CommandError(f"{what}: this is not a size; {_HELP}")
    if size > largest:
        raise CommandError(f"{what}: this size is too large; the most is {largest} bytes")
    return size


def _parse_hexadecimal(text: str) -> int | None:
    match = re.fullmatch(_HEXADECIMAL, text)
    if match is None:
        return None
    digits, suffix = match.groups()
    return int(digits, 16) * _factor(suffix)


def _parse_decimal(text: str) -> int | None:
    match = re.fullmatch(_DECIMAL, text)
    if match is None:
        return None
    whole, fraction, suffix = match.groups()
    factor = _factor(suffix)
    # Longer numbers are far above every limit, and int() is slow or refuses thousands of digits.
    if len(whole.lstrip("0")) > 20:
        return 10**20 * factor
    # In floating point, as qemu-img computes it: a size must not depend on the tool.
    part = float(f"0.{fraction or 0}")
    if part and factor == 1:
        return None
    return int(whole) * factor + int(part * factor + 0.5)


def _factor(suffix: str) -> int:
    return 1 << 10 * _SUFFIXES.index(suffix.lower()) if suffix else 1


def parse_number(text: str, *, what: str, smallest: int, largest: int) -> int:
    """A plain number in decimal, hexadecimal (``0x``) or octal (a leading ``0``), as C reads it.

    Raises CommandError, which begins with ``what``.
    """
    match = re.fullmatch(r"\s*\+?(?:0x([0-9a-fA-F]{1,16})|0([0-7]{0,22})|([1-9][0-9]{0,19}))", text)
    if match is None:
        raise CommandError(f"{what}: this is not a number from {smallest} to {largest}")
    hexadecimal, octal, decimal = match.groups()
    if hexadecimal is not None:
        number = int(hexadecimal, 16)
    elif octal is not None:
        number = int(octal or "0", 8)
    else:
        number = int(decimal)
    if not smallest <= number <= largest:
        raise CommandError(f"{what}: {number} is not a number from {smallest} to {largest}")
    return number


def format_size(size: int) -> str:
    """``size`` for people, three digits: ``1.5 GiB``; from 1000 on the next unit is taken."""
    unit = 0
    value = float(size)
    while value >= 1000 and unit < len(_UNITS) - 1:
        value /= 1024
        unit += 1
    return f"{value:.3g} {_UNITS[unit]}B"
