"""Strings of the form ``key=value,key=value``, as QEMU writes them.

Knows the syntax, no key.  A comma inside a value is written twice.  A key alone means ``on``, a
key alone that begins with ``no`` means ``off`` without the ``no``: qemu-img takes both.
No message repeats a part of the text: it may hold a passphrase.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from qcow2crypt.cli.failures import CommandError


def split_options(text: str) -> Iterator[tuple[str, str | None]]:
    """Yield (key, value) in order; value None where there is no ``=``.

    One comma at the end is allowed.  Doubled commas are undone in values only.
    """
    position = 0
    while position < len(text):
        key_end = _find_any(text, position)
        key = text[position:key_end]
        if key_end < len(text) and text[key_end] == "=":
            value, position = _read_value(text, key_end + 1)
            yield key, value
        else:
            position = key_end + 1
            yield key, None


def _find_any(text: str, position: int) -> int:
    while position < len(text) and text[position] not in "=,":
        position += 1
    return position


def _read_value(text: str, position: int) -> tuple[str, int]:
    """The value from ``position`` on, and where the next key begins."""
    parts = []
    while True:
        comma = text.find(",", position)
        if comma < 0:
            parts.append(text[position:])
            return "".join(parts), len(text)
        parts.append(text[position:comma])
        if text[comma + 1 : comma + 2] != ",":
            return "".join(parts), comma + 1
        parts.append(",")
        position = comma + 2


def parse_options(
    text: str, *, what: str, implied_key: str | None = None, flags: bool = False
) -> dict[str, str]:
    """The options in ``text``; a later value for the same key wins, as in QEMU.

    ``implied_key`` is the key of a first option without ``=``.  ``flags`` allows keys alone.
    Raises CommandError, which begins with ``what`` and tells the number of the faulty option.
    """
    options: dict[str, str] = {}
    for number, (name, given) in enumerate(split_options(text), start=1):
        key, value = name, given
        if value is None:
            if number == 1 and implied_key is not None:
                key, value = implied_key, name
            elif flags:
                key, value = (name[2:], "off") if name.startswith("no") else (name, "on")
            else:
                raise CommandError(
                    f"{what}: option {number} has no '='; "
                    "write key=value, and a comma inside a value twice"
                )
        if not key:
            raise CommandError(
                f"{what}: option {number} has no name; "
                "write key=value, and a comma inside a value twice"
            )
        options[key] = value
    return options


def format_options(options: Mapping[str, str]) -> str:
    """The string for ``options``: what ``parse_options`` takes apart again."""
    return ",".join(f"{key}={escape_value(value)}" for key, value in options.items())


def escape_value(value: str) -> str:
    """``value`` as it stands in an option string: every comma twice."""
    return value.replace(",", ",,")


def parse_bool(text: str, *, what: str) -> bool:
    """``on yes true y`` or ``off no false n``.  Raises CommandError for anything else."""
    if text in ("on", "yes", "true", "y"):
        return True
    if text in ("off", "no", "false", "n"):
        return False
    raise CommandError(f"{what} is 'on' or 'off'")
