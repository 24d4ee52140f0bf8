"""Options are read as getopt_long reads them for qemu-img."""

from __future__ import annotations

import pytest

from qcow2crypt.cli.failures import CommandError, UsageError
from qcow2crypt.cli.options import Option, help_text, parse

TABLE = (
    Option("format", "f", "format", "FMT", "the format"),
    Option("quiet", "q", about="quiet"),
    Option("p", "p", about="progress"),
    Option("output", name="output", metavar="human|json", about="form"),
    Option("object", name="object", metavar="O", about="secret"),
    Option("snapshot", "l", metavar="S", refused="reading a snapshot"),
)


@pytest.mark.parametrize(
    "words",
    [
        "-f qcow2 -p -q a b",
        "-fqcow2 -pq a b",
        "a -f qcow2 b -qp",
        "a b -pqf qcow2",
        "--format=qcow2 -p -q a b",
        "--for qcow2 a -pq -- b",
        "-p -q -f raw -f qcow2 a b",
    ],
)
def test_one_meaning_many_spellings(words: str) -> None:
    arguments = parse(TABLE, words.split(), command="x")
    assert arguments.operands == ("a", "b")
    assert arguments.last("format") == "qcow2"
    assert arguments.flag("p")
    assert arguments.flag("quiet")
    assert not arguments.flag("output")


def test_values_keep_their_order() -> None:
    arguments = parse(TABLE, ["--object", "1", "a", "--object=2", "--ob", ""], command="x")
    assert arguments.all("object") == ["1", "2", ""]
    assert arguments.all("format") == []
    assert arguments.last("format") is None


def test_what_follows_two_dashes_is_a_name() -> None:
    assert parse(TABLE, ["--", "-q", "--", "-"], command="x").operands == ("-q", "--", "-")
    assert parse(TABLE, ["-f", "-q", "-"], command="x").operands == ("-",)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("-x", "x has no option -x"),
        ("-1", "x has no option -1"),
        ("--bogus", "x has no option --bogus"),
        ("--bogus=secret", "x has no option --bogus"),
        ("-f", "x -f needs a value: -f, --format FMT"),
        ("--output", "x --output needs a value: --output human|json"),
        ("--o json", "x --o could be --object or --output"),
    ],
)
def test_a_faulty_option_is_named(words: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(TABLE, words.split(), command="x")
    assert str(caught.value) == message


def test_a_value_for_a_flag_is_refused() -> None:
    table = (Option("help", "h", "help"),)
    with pytest.raises(UsageError, match="x --help takes no value"):
        parse(table, ["--help=me"], command="x")


def test_an_option_of_qemu_img_is_refused_by_name() -> None:
    with pytest.raises(CommandError, match="x -l is not supported yet: reading a snapshot"):
        parse(TABLE, ["-l", "s"], command="x")


def test_values_are_not_in_the_repr() -> None:
    arguments = parse(TABLE, ["--object", "secret,id=a,data=hunter2"], command="x")
    assert "hunter2" not in repr(arguments)


def test_help_shows_every_option() -> None:
    text = help_text(TABLE, "qcow2crypt x", "Does x.")
    for option in TABLE:
        assert (option.spelling if not option.refused else f" -{option.letter}") in text
    assert text.startswith("usage: qcow2crypt x\n\nDoes x.\n")
