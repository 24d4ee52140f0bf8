"""``qcow2crypt map``: which parts of the guest disk are stored, and where in the file.

Needs no passphrase: the tables are never encrypted.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING

from qcow2crypt.cli.cmd_info import check_output
from qcow2crypt.cli.failures import UsageError
from qcow2crypt.cli.images import name_image
from qcow2crypt.cli.mapping import MapEntry, map_entries
from qcow2crypt.cli.objects import read_objects
from qcow2crypt.cli.opening import open_named
from qcow2crypt.cli.options import (
    EXTERNAL,
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
from qcow2crypt.image.layers import layers_of
from qcow2crypt.image.qcow2.reader import Qcow2Image

if TYPE_CHECKING:
    from qcow2crypt import Image

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
    EXTERNAL,
    FORCE_SHARE,
    HELP,
)


def run(arguments: Arguments, console: Console) -> int:
    """Print the map.  Raises what the library raises."""
    as_json = check_output(arguments) == "json"
    start = parse_size(arguments.last("start") or "0", what="--start-offset")
    length = arguments.last("length")
    limit = None if length is None else parse_size(length, what="--max-length")
    if len(arguments.operands) != 1:
        raise UsageError("map takes the name of one image")
    objects = read_objects(arguments.all("object"), console)
    name = name_image(
        arguments.operands[0],
        image_opts=arguments.flag("image-opts"),
        given_format=arguments.last("format"),
    )
    with open_named(name, arguments, objects, console, tables_only=True) as image:
        end = image.size if limit is None else min(image.size, start + limit)
        layers = list(layers_of(image))
        entries: Iterator[MapEntry] = map_entries(
            image.extents(start, end - start) if start < end else (),
            encrypted=[layer.info().encryption is not None for layer in layers],
            by_host_offset=not as_json,
        )
        if as_json:
            from qcow2crypt.cli.output_json import map_json

            first = next(entries, MapEntry(start, 0, present=False, zero=False, data=False))
            lines = map_json(chain((first,), entries))
        else:
            from qcow2crypt.cli.output_human import map_lines

            lines = map_lines(entries, [_data_name(layer) for layer in layers])
        for line in lines:
            console.out(line)
    return 0


def _data_name(layer: Image) -> str:
    """The file that holds the bytes of a layer."""
    return layer.data_file.name if isinstance(layer, Qcow2Image) else layer.name
