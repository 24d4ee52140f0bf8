"""``qcow2crypt map``: which parts of the guest disk are stored, and where in the file.

Needs no passphrase: the tables are never encrypted.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import qcow2crypt
from qcow2crypt.cli.cmd_info import check_output
from qcow2crypt.cli.failures import UsageError
from qcow2crypt.cli.images import name_image
from qcow2crypt.cli.mapping import MapEntry, map_entries
from qcow2crypt.cli.objects import read_objects
from qcow2crypt.cli.options import (
    FORCE_SHARE,
    HELP,
    IMAGE_OPTS,
    OBJECT,
    OUTPUT,
    Arguments,
    Option,
    source_format,
)
from qcow2crypt.cli.sizes import parse_size
from qcow2crypt.cli.terminal import Console

USAGE = "qcow2crypt map [options] FILE"
ABOUT = """\
Show which parts of the guest disk are stored in FILE, and at which offset.  Needs no passphrase:
the tables of an encrypted image are not encrypted.

  qcow2crypt map disk.qcow2
  qcow2crypt map --output=json --start-offset=1M --max-length=64k disk.qcow2
"""
OPTIONS = (
    source_format("the format of FILE; without it the first bytes decide"),
    OUTPUT,
    Option("start", "s", "start-offset", "OFFSET", "where to begin, in guest bytes"),
    Option("length", "l", "max-length", "LENGTH", "how many guest bytes to look at"),
    OBJECT,
    IMAGE_OPTS,
    FORCE_SHARE,
    HELP,
)

_NO_PASSPHRASE = b""
"""Opening an AES image asks for a passphrase; the extents do not depend on it."""


def run(arguments: Arguments, console: Console) -> int:
    """Print the map.  Raises what the library raises."""
    as_json = check_output(arguments) == "json"
    start = parse_size(arguments.last("start") or "0", what="--start-offset")
    length = arguments.last("length")
    limit = None if length is None else parse_size(length, what="--max-length")
    if len(arguments.operands) != 1:
        raise UsageError("map takes the name of one image")
    read_objects(arguments.all("object"), console)
    name = name_image(
        arguments.operands[0],
        image_opts=arguments.flag("image-opts"),
        given_format=arguments.last("format"),
    )
    with qcow2crypt.open(name.path, _NO_PASSPHRASE, format=name.format) as image:
        end = image.size if limit is None else min(image.size, start + limit)
        entries: Iterator[MapEntry] = map_entries(
            image.extents(start, end - start) if start < end else (),
            raw=image.format == "raw",
            encrypted=image.info().encryption is not None,
            by_host_offset=not as_json,
        )
        if as_json:
            from qcow2crypt.cli.output_json import map_json

            first = next(entries, MapEntry(start, 0, present=False, zero=False, data=False))
            lines = map_json(chain((first,), entries))
        else:
            from qcow2crypt.cli.output_human import map_lines

            lines = map_lines(entries, name.path)
        for line in lines:
            console.out(line)
    return 0
