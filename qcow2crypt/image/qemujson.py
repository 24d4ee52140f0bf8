"""JSON as QEMU takes it in names and options: strings in double or in single quotes.

Knows JSON, no key and no file.  No message repeats a part of the text: it may hold a passphrase.
"""

from __future__ import annotations

from typing import Any

from qcow2crypt.errors import ArgumentError


def parse_object(
    text: str, *, what: str, texts_only: bool = False, nulls: tuple[str, ...] = ()
) -> dict[str, str]:
    """The object in ``text``, flattened: ``{"file": {"filename": "a"}}`` is ``file.filename``.

    Booleans become ``on`` and ``off``, whole numbers their digits; ``texts_only`` refuses both.
    A key whose last part is one of ``nulls`` may be null, and becomes the empty text.
    Raises ArgumentError, which begins with ``what``, for text that is no such object, for other
    values and for a key twice.
    """
    import json  # most names are no JSON

    try:
        value = json.loads(_double_quoted(text), object_pairs_hook=_Pairs)
    except (ValueError, RecursionError):
        # The cause is left out: its text may show a passphrase.
        raise ArgumentError(
            f"{what}: this is not valid JSON; look at its quotes and braces"
        ) from None
    if not isinstance(value, _Pairs):
        raise ArgumentError(f"{what}: the JSON text must be an object, {{...}}")
    flat: dict[str, str | int] = {}
    _flatten(value, "", flat, what, nulls)
    if texts_only and not all(isinstance(value, str) for value in flat.values()):
        raise ArgumentError(f"{what}: a value is not text; put it in quotes")
    return {key: _as_text(value) for key, value in flat.items()}


def _as_text(value: str | int) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value)


class _Pairs(list[tuple[str, Any]]):
    """An object as its pairs, so that a key that is given twice can be seen."""


def _flatten(
    pairs: _Pairs, prefix: str, flat: dict[str, str | int], what: str, nulls: tuple[str, ...]
) -> None:
    for name, value in pairs:
        key = prefix + name
        if isinstance(value, _Pairs):
            _flatten(value, f"{key}.", flat, what, nulls)
            continue
        if key in flat:
            raise ArgumentError(f"{what}: a key is given twice")
        if isinstance(value, (str, int)):
            flat[key] = value
        elif value is None and name.rpartition(".")[2] in nulls:
            flat[key] = ""
        else:
            raise ArgumentError(
                f"{what}: a value is neither text, a whole number nor true or false"
            )


def _double_quoted(text: str) -> str:
    """Rewrite strings in single quotes; everything else stays as it is."""
    result: list[str] = []
    quote = ""
    escaped = False
    for character in text:
        if escaped:
            escaped = False
            result.append("'" if character == "'" else "\\" + character)
        elif quote and character == "\\":
            escaped = True
        elif character == quote:
            quote = ""
            result.append('"')
        elif not quote and character in "'\"":
            quote = character
            result.append('"')
        elif quote == "'" and character == '"':
            result.append('\\"')
        else:
            result.append(character)
    return "".join(result)
