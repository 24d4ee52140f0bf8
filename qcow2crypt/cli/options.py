"""Options of a command: one table per command, read as getopt_long reads it.

Knows the shape of options, no command.  As with qemu-img, options may stand after file names,
short ones may be joined (``-pq``, ``-fqcow2``), long ones may be cut short while they stay
unique, and ``--`` ends them.
"""

from __future__ import annotations

import getopt
from collections.abc import Sequence
from typing import NamedTuple

from qcow2crypt.cli.failures import CommandError, UsageError


class Option(NamedTuple):
    """One option.  ``key`` is what the command asks for; ``-letter`` and ``--name`` set it.

    ``metavar`` is empty for a flag.  ``refused`` tells why an option that qemu-img knows cannot
    be used here yet: it is then known only to be refused by name.
    """

    key: str
    letter: str = ""
    name: str = ""
    metavar: str = ""
    about: str = ""
    refused: str = ""

    @property
    def spelling(self) -> str:
        """How a person writes it: ``-f FMT`` or ``--output FMT``."""
        names = [f"-{self.letter}"] if self.letter else []
        names += [f"--{self.name}"] if self.name else []
        return ", ".join(names) + (f" {self.metavar}" if self.metavar else "")


class Arguments:
    """A command line taken apart.  Values keep their order; flags have the value ``""``.

    The values may hold a passphrase (``--object data=``), so the repr shows none.
    """

    __slots__ = ("operands", "values")

    def __init__(self, values: dict[str, list[str]], operands: tuple[str, ...]) -> None:
        self.values = values
        self.operands = operands

    def flag(self, key: str) -> bool:
        """Whether the option was given."""
        return key in self.values

    def last(self, key: str) -> str | None:
        """The value that was given last, or None."""
        return self.values[key][-1] if key in self.values else None

    def all(self, key: str) -> list[str]:
        """Every value that was given, in order."""
        return self.values.get(key, [])


HELP = Option("help", "h", "help", about="show this help and exit")
FORCE_SHARE = Option(
    "force-share", "U", "force-share", about="read FILE even while another program writes to it"
)
EXTERNAL = Option(
    "external",
    name="external",
    metavar="beneath|any|none",
    about="files that an image may name: beneath its directory (default), any, none",
)
QUIET = Option("quiet", "q", about="say nothing but results and errors")
OBJECT = Option(
    "object",
    name="object",
    metavar="secret,id=ID,file=PATH",
    about="a passphrase by the name ID; data=TEXT and format=base64 are known too",
)
IMAGE_OPTS = Option(
    "image-opts", name="image-opts", about="FILE is driver=qcow2,file.filename=PATH,..."
)
OUTPUT = Option("output", name="output", metavar="human|json", about="the form of the output")
STRIP_NEWLINE = Option(
    "secret-strip-newline",
    name="secret-strip-newline",
    about="drop one newline at the end of a passphrase that is read from a file",
)


def source_format(about: str) -> Option:
    """``-f FMT``, which means something else for each command."""
    return Option("format", "f", "format", "FMT", about)


def secret_options(prefix: str, image: str) -> tuple[Option, ...]:
    """``--secret-file`` and its kin; ``prefix`` is empty or ``target-``."""
    rows = (
        ("file", "PATH", f"the passphrase of {image}: every byte of a file; - is standard input"),
        ("fd", "N", "the same from an open file descriptor"),
        ("env", "NAME", "the same from an environment variable"),
    )
    return tuple(
        Option(
            f"{prefix}secret-{kind}", name=f"{prefix}secret-{kind}", metavar=metavar, about=about
        )
        for kind, metavar, about in rows
    )


def layer_secret_options(prefix: str, image: str) -> tuple[Option, ...]:
    """``--layer-secret-file`` and its kin; ``prefix`` is empty, or ``second-``."""
    rows = (
        ("file", "PATH", f"of a backing file of {image}; LAYER is its depth (1, 2, ...) or name"),
        ("fd", "N", "the same from an open file descriptor"),
        ("env", "NAME", "the same from an environment variable"),
    )
    key = f"{prefix}layer-secret"
    return tuple(
        Option(f"{key}-{kind}", name=f"{key}-{kind}", metavar=f"LAYER={what}", about=about)
        for kind, what, about in rows
    )


CHAIN_OPTIONS = (EXTERNAL, *layer_secret_options("", "FILE"))
"""What every command takes that reads an image with all its backing files."""


def parse(table: Sequence[Option], words: Sequence[str], *, command: str) -> Arguments:
    """Take ``words`` apart.  Raises UsageError for an option that is unknown or lacks its value,
    CommandError for one that is known and not supported yet.
    """
    letters = "".join(o.letter + (":" if o.metavar else "") for o in table if o.letter)
    names = [o.name + ("=" if o.metavar else "") for o in table if o.name]
    try:
        pairs, operands = getopt.gnu_getopt(list(words), letters, names)
    except getopt.GetoptError as error:
        # getopt names -o and --o alike; its text, in whatever language, tells them apart.
        long = f"--{error.opt}" in error.msg
        raise UsageError(_explain(table, error.opt, command, long=long)) from None
    by_spelling = {f"-{o.letter}": o for o in table if o.letter}
    by_spelling |= {f"--{o.name}": o for o in table if o.name}
    values: dict[str, list[str]] = {}
    for spelling, value in pairs:
        option = by_spelling[spelling]
        if option.refused:
            raise CommandError(f"{command} {spelling} is not supported yet: {option.refused}")
        values.setdefault(option.key, []).append(value)
    return Arguments(values, tuple(operands))


def _explain(table: Sequence[Option], name: str, command: str, *, long: bool) -> str:
    """Why getopt refused ``name``, in words of our own (its own are translated)."""
    if not long:
        option = next((o for o in table if o.letter == name), None)
        spelling = f"-{name}"
    else:
        names = {o.name: o for o in table if o.name and o.name.startswith(name)}
        option = names.get(name) or (next(iter(names.values())) if len(names) == 1 else None)
        spelling = f"--{name}"
        if option is None and names:
            return f"{command} {spelling} could be {' or '.join(f'--{n}' for n in sorted(names))}"
    if option is None:
        return f"{command} has no option {spelling}"
    if option.metavar:
        return f"{command} {spelling} needs a value: {option.spelling}"
    return f"{command} {spelling} takes no value"


def help_text(table: Sequence[Option], usage: str, about: str) -> str:
    """The help of a command: usage, what it does, its options, what is not supported yet."""
    shown = [o for o in table if not o.refused]
    lines = [f"usage: {usage}", "", about.strip(), "", "options:"]
    for option in shown:
        spelling = f"  {option.spelling}"
        # Long spellings get a line of their own; the texts stay in one column.
        if len(spelling) > 28:
            lines.append(spelling)
            spelling = ""
        lines.append(f"{spelling:<30}{option.about}")
    refused = [f"-{o.letter}" if o.letter else f"--{o.name}" for o in table if o.refused]
    if refused:
        lines += ["", "options of qemu-img that are not supported yet:", f"  {' '.join(refused)}"]
    return "\n".join(lines)
