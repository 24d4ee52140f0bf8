"""The options that say how ``convert`` copies: threads, rate, caches.  They change no byte."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from qcow2crypt.cli.failures import CommandError
from qcow2crypt.cli.options import Arguments, Option
from qcow2crypt.cli.sizes import parse_number, parse_size

if TYPE_CHECKING:
    from qcow2crypt.tasks.manner import CacheMode, Manner

MANNER_OPTIONS = (
    Option("m", "m", metavar="N", about="how many threads work side by side, 1 to 16"),
    Option("r", "r", "rate-limit", "RATE", "store so many bytes a second at most, such as 100M"),
    Option("W", "W", about="no effect on the result: writing is in order"),
    Option("t", "t", metavar="CACHE", about="unsafe: no sync; none, directsync: no page cache"),
    Option("T", "T", metavar="CACHE", about="none, directsync: SOURCE leaves the page cache"),
)
_MODES = ("none", "off", "writeback", "writethrough", "directsync", "unsafe")


def read_manner(arguments: Arguments) -> Manner:
    """What the options say.  Raises CommandError."""
    from qcow2crypt.tasks.manner import Manner

    numbers = [parse_number(v, what="-m", smallest=1, largest=16) for v in arguments.all("m")]
    rates = [parse_size(v, what="-r") for v in arguments.all("r")]
    return Manner(
        threads=numbers[-1] if numbers else None,
        rate_limit=rates[-1] if rates else None,
        target_cache=_mode(arguments, "t"),
        source_cache=_mode(arguments, "T") or "writeback",
    )


def check_cache(arguments: Arguments, key: str) -> None:
    """The value of -T must be one that qemu-img takes, where it has no effect."""
    _mode(arguments, key)


def _mode(arguments: Arguments, key: str) -> CacheMode | None:
    values = arguments.all(key)
    for value in values:
        if value not in _MODES:
            raise CommandError(f"-{key} is one of {', '.join(_MODES)}")
    if not values:
        return None
    return cast("CacheMode", "none" if values[-1] == "off" else values[-1])
