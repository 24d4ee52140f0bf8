"""``key=value`` strings and JSON: what goes in comes out, and hostile text only ever is refused."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcow2crypt.cli.failures import CommandError
from qcow2crypt.cli.qemujson import parse_object
from qcow2crypt.cli.qemuopts import format_options, parse_bool, parse_options

KEYS = st.text(st.characters(exclude_characters="=,"), min_size=1, max_size=12)
# Commas, quotes and braces far more often than chance has them.
VALUES = st.text(st.sampled_from(",=\"'{}\\no \n") | st.characters(), max_size=20)


@given(st.dictionaries(KEYS, VALUES, max_size=6))
def test_options_round_trip(options: dict[str, str]) -> None:
    assert parse_options(format_options(options), what="x") == options


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("", {}),
        ("a=1", {"a": "1"}),
        ("a=1,", {"a": "1"}),
        ("a=1,a=2", {"a": "2"}),
        ("a=1,,2", {"a": "1,2"}),
        ("a=1,,,b=2", {"a": "1,", "b": "2"}),
        ("a=,,=,b=", {"a": ",=", "b": ""}),
        ("a=b=c", {"a": "b=c"}),
        ("first,b=2", {"kind": "first", "b": "2"}),
        ("kind=x,kind=y", {"kind": "y"}),
        (",b=2", {"kind": "", "b": "2"}),
    ],
)
def test_options_are_read(text: str, options: dict[str, str]) -> None:
    assert parse_options(text, what="x", implied_key="kind") == options


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("encryption", {"encryption": "on"}),
        ("noencryption", {"encryption": "off"}),
        ("nocow", {"cow": "off"}),  # as QEMU reads it
        ("a=1,b,c=2", {"a": "1", "b": "on", "c": "2"}),
    ],
)
def test_keys_alone_are_flags(text: str, options: dict[str, str]) -> None:
    assert parse_options(text, what="x", flags=True) == options


@pytest.mark.parametrize(
    ("text", "number"), [("=1", 1), ("a=1,=2", 2), ("a=1,,,=2", 2), ("a=1,hunter2", 2), ("no", 1)]
)
def test_a_fault_is_told_by_number(text: str, number: int) -> None:
    with pytest.raises(CommandError, match=f"^x: option {number} has no"):
        parse_options(text, what="x")


JSON = st.recursive(
    st.text() | st.integers() | st.booleans(), lambda inner: st.dictionaries(st.text(), inner)
)


@pytest.mark.slow
@given(st.dictionaries(st.text(st.characters(exclude_characters="."), min_size=1), JSON))
def test_json_is_flattened(value: dict[str, object]) -> None:
    def flatten(value: object, prefix: str) -> dict[str, str]:
        if isinstance(value, dict):
            parts = [flatten(inner, f"{prefix}.{key}") for key, inner in value.items()]
            return {key: text for part in parts for key, text in part.items()}
        if isinstance(value, bool):
            return {prefix[1:]: "on" if value else "off"}
        return {prefix[1:]: str(value)}

    expected = flatten(value, "")
    try:
        assert parse_object(json.dumps(value), what="x") == expected
    except CommandError as error:
        # {"a": {"b": 1}, "a.b": 2}: two ways to write one key
        assert "twice" in str(error)


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("{'a': 'b'}", {"a": "b"}),
        ("""{'a': 'say "b"'}""", {"a": 'say "b"'}),
        (r"""{'a': 'it\'s', "b": "it's"}""", {"a": "it's", "b": "it's"}),
        (r"""{"a": "\u00e4\\\"'"}""", {"a": "ä\\\"'"}),
        ('{"a": {"b": {"c": true}}, "d": 5}', {"a.b.c": "on", "d": "5"}),
        ("{}", {}),
    ],
)
def test_json_in_either_quotes(text: str, options: dict[str, str]) -> None:
    assert parse_object(text, what="x") == options


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "1", "null", '{"a": null}', '{"a": 1.5}', '{"a": [1]}', '{"a": 1, "a": 2}',
        '{"a": {"b": 1}, "a.b": 2}', "{'a': 'b}", '{"a": NaN}', "[" * 100_000, '{"a":' * 100_000,
        '{"a": %s}' % ("1" * 5000),
    ],
)  # fmt: skip
def test_other_json_is_refused(text: str) -> None:
    with pytest.raises(CommandError, match=r"^x: "):
        parse_object(text, what="x")


SECRET = "hunter2"


@given(
    st.sampled_from([parse_options, parse_object]),
    st.text(st.sampled_from(",='\"{}[]:\\") | st.characters(), max_size=12),
    st.text(st.sampled_from(",='\"{}[]:\\") | st.characters(), max_size=12),
)
def test_no_message_repeats_the_text(
    parse: Callable[..., dict[str, str]], before: str, after: str
) -> None:
    try:
        parse(f"{before}{SECRET}{after}", what="x")
    except CommandError as error:
        assert SECRET not in str(error)
        assert error.__cause__ is None


def test_words_for_yes_and_no() -> None:
    assert all(parse_bool(word, what="x") for word in ("on", "yes", "true", "y"))
    assert not any(parse_bool(word, what="x") for word in ("off", "no", "false", "n"))
    for word in ("", "1", "ON", "maybe"):
        with pytest.raises(CommandError, match=r"^x is 'on' or 'off'"):
            parse_bool(word, what="x")
