"""``qcow2crypt info``: what an image is, without its passphrase."""

from __future__ import annotations

import qcow2crypt
from qcow2crypt.cli.failures import CommandError, UsageError
from qcow2crypt.cli.images import check_encryption, name_image
from qcow2crypt.cli.objects import read_objects
from qcow2crypt.cli.opening import external_of
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
from qcow2crypt.cli.terminal import Console

USAGE = "qcow2crypt info [options] FILE"
ABOUT = """\
Describe an image: format, sizes, encryption, snapshots, and what keeps it from being read.
Needs no passphrase, and describes also images that cannot be read.

  qcow2crypt info disk.qcow2
  qcow2crypt info --backing-chain --output=json disk.qcow2
"""
OPTIONS = (
    source_format("the format of FILE; without it the first bytes decide"),
    OUTPUT,
    Option("chain", name="backing-chain", about="describe the backing files too, one by one"),
    OBJECT,
    IMAGE_OPTS,
    EXTERNAL,
    FORCE_SHARE,
    HELP,
)


def check_output(arguments: Arguments) -> str:
    """The value of --output: ``human`` or ``json``.  Raises CommandError for another one."""
    output = arguments.last("output") or "human"
    if output not in ("human", "json"):
        raise CommandError("--output is human or json")
    return output


def run(arguments: Arguments, console: Console) -> int:
    """Print the description.  Raises what the library raises."""
    as_json = check_output(arguments) == "json"
    if len(arguments.operands) != 1:
        raise UsageError("info takes the name of one image")
    read_objects(arguments.all("object"), console)
    name = name_image(
        arguments.operands[0],
        image_opts=arguments.flag("image-opts"),
        given_format=arguments.last("format"),
    )
    share = arguments.flag("force-share")
    if arguments.flag("chain"):
        from qcow2crypt.image.describechain import describe_chain

        infos = describe_chain(
            name.path, format=name.format, external=external_of(arguments), force_share=share
        )
    else:
        external_of(arguments)  # a wrong word is an error, though nothing else is opened
        infos = (qcow2crypt.info(name.path, format=name.format, force_share=share),)
    check_encryption(name, infos[0].encryption)
    found = [info.as_dict() for info in infos]
    if as_json:
        from qcow2crypt.cli.output_json import info_json

        console.out(info_json(found if arguments.flag("chain") else found[0]))
    else:
        from qcow2crypt.cli.output_human import info_lines

        for number, one in enumerate(found):
            if number:
                console.out("")
            for line in info_lines(one):
                console.out(line)
    return 0
