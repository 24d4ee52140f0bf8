"""``qcow2crypt explain``: follow one byte from the guest's disk to the file, or back.

Needs no passphrase for what can be said without one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qcow2crypt.cli.cmd_info import check_output
from qcow2crypt.cli.failures import CommandError, UsageError
from qcow2crypt.cli.images import ImageName, name_image
from qcow2crypt.cli.objects import read_objects
from qcow2crypt.cli.opening import Keyring, external_of, snapshot_of
from qcow2crypt.cli.options import (
    CHAIN_OPTIONS,
    FORCE_SHARE,
    HELP,
    IMAGE_OPTS,
    OBJECT,
    OUTPUT,
    STRIP_NEWLINE,
    Arguments,
    Option,
    secret_options,
    source_format,
)
from qcow2crypt.cli.sizes import SIZE_MAX, parse_number, parse_size
from qcow2crypt.cli.terminal import Console

if TYPE_CHECKING:
    from qcow2crypt.explaining.following import Question

USAGE = "qcow2crypt explain [options] FILE --offset N | --sector N | --host-offset N | --html OUT"
ABOUT = """\
Follow one byte of FILE: guest offset, sector, cluster, the entries of the tables with their bits
named, the place in the file, ciphertext, key, IV, CBC, plaintext.  --host-offset goes back: what
lies there, and which guest sector it belongs to.

Without a passphrase it stops at ciphertext and IV.  The key is shown only with --show-key.

  qcow2crypt explain --offset 1M disk.qcow2
  qcow2crypt explain --sector 2048 --secret-file key disk.qcow2
  qcow2crypt explain --host-offset 0x50000 disk.qcow2
  qcow2crypt explain --html page.html disk.qcow2

--html writes a page to look at the whole image and to try things out.  It holds ciphertext and asks
its reader for the passphrase; with --show-key it holds the key.
"""
OPTIONS = (
    Option("offset", name="offset", metavar="N", about="a guest offset in bytes: 4096, 0x1000, 4k"),
    Option("sector", name="sector", metavar="N", about="the number of a guest sector (512 bytes)"),
    Option("host-offset", name="host-offset", metavar="N", about="an offset in FILE, in bytes"),
    Option("l", "l", "snapshot", "SNAPSHOT", "the disk of an internal snapshot: its id or name"),
    Option("steps", name="steps", about="the rounds of AES in that block; needs --show-key"),
    Option("show-key", name="show-key", about="show the key: whoever sees it can read the disk"),
    OUTPUT,
    Option("json", name="json", about="the same as --output=json"),
    Option("html", name="html", metavar="OUT", about="a page of its own about FILE; begins at N"),
    Option("ask", name="ask", about="ask for the passphrase on the terminal"),
    Option("wrong-iv", name="wrong-iv", about="read sectors right that QEMU 2.7.0 spoiled"),
    source_format("the format of FILE; without it the first bytes decide"),
    *secret_options("", "FILE"),
    *CHAIN_OPTIONS,
    STRIP_NEWLINE,
    OBJECT,
    IMAGE_OPTS,
    FORCE_SHARE,
    HELP,
)

_SECTOR_MAX = SIZE_MAX // 512


def run(arguments: Arguments, console: Console) -> int:
    """Print the explanation.  Raises what the library raises."""
    as_json = arguments.flag("json") or check_output(arguments) == "json"
    if len(arguments.operands) != 1:
        raise UsageError("explain takes the name of one image")
    objects = read_objects(arguments.all("object"), console)
    name = name_image(
        arguments.operands[0],
        image_opts=arguments.flag("image-opts"),
        given_format=arguments.last("format"),
    )
    if arguments.last("html") is not None:
        from qcow2crypt.cli.explainpage import write_page

        keys = Keyring(name, arguments, objects, console)
        return write_page(arguments, name, keys, _page_offset(arguments))
    question = _question(arguments, name)
    keys = Keyring(name, arguments, objects, console)
    from qcow2crypt.explaining.following import explain_layers

    found = explain_layers(
        name.path,
        keys if arguments.flag("ask") else keys.given,
        question,
        options=name.options,
        external=external_of(arguments),
        force_share=arguments.flag("force-share"),
    )
    if as_json:
        import json

        console.out(json.dumps(found.to_dict(), indent=4))
    else:
        from qcow2crypt.cli.output_explain import print_explanation

        print_explanation(found, console)
    return 0


def _question(arguments: Arguments, name: ImageName) -> Question:
    from qcow2crypt.explaining.following import Question

    given = [key for key in ("offset", "sector", "host-offset") if arguments.last(key) is not None]
    if len(given) != 1:
        raise UsageError("explain needs one of --offset, --sector and --host-offset")
    if arguments.flag("steps") and not arguments.flag("show-key"):
        raise CommandError(
            "--steps needs --show-key: the state before and after AddRoundKey differ by a round "
            "key, and from one round key follows the key"
        )
    if given == ["host-offset"] and arguments.last("l") is not None:
        raise CommandError(
            "--host-offset and -l exclude each other: the way back finds every snapshot"
        )
    values = {key: _number(arguments.last(key), key) for key in given}
    return Question(
        offset=values.get("offset"),
        sector=values.get("sector"),
        host_offset=values.get("host-offset"),
        snapshot=snapshot_of(arguments.last("l"), name, arguments),
        steps=arguments.flag("steps"),
        show_key=arguments.flag("show-key"),
        wrong_iv="qemu-2.7.0" if arguments.flag("wrong-iv") else None,
    )


def _page_offset(arguments: Arguments) -> int | None:
    """The guest offset that the page begins with, if one is named."""
    given = [key for key in ("offset", "sector") if arguments.last(key) is not None]
    if len(given) > 1:
        raise UsageError("explain --html takes one of --offset and --sector")
    numbers = [_number(arguments.last(key), key) for key in given]
    return numbers[0] * (512 if given == ["sector"] else 1) if numbers else None


def _number(text: str | None, key: str) -> int:
    """A size as elsewhere, or the plain number of a sector.  Raises CommandError."""
    if key == "sector":
        return parse_number(text or "", what="--sector", smallest=0, largest=_SECTOR_MAX)
    return parse_size(text or "", what=f"--{key}")
