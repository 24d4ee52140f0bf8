"""One self-contained HTML page about one image: maps, and AES to play with on its sectors.

The parts are files of their own beside this one; here they become one.  The page may load nothing:
its Content-Security-Policy allows the one style and the one script that are in it, by their hashes.
What comes from the image stands in a block of JSON that cannot end early, and the script puts it on
the page as text only.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from importlib import resources
from typing import Any

from qcow2crypt.errors import TargetError
from qcow2crypt.explaining.page.picture import BYTES_MAX, picture
from qcow2crypt.image.base import Image
from qcow2crypt.targetfile import TargetFile

SCRIPTS = (
    *("aes.js", "sha256.js", "sector.js", "picture.js", "experiment.js"),
    *("draw.js", "maps.js", "bytes.js", "lab.js", "page.js"),
)


def page(
    image: Image, *, offset: int | None = None, key: bytes | None = None, bytes_max: int = BYTES_MAX
) -> str:
    """The page.  Arguments and errors as ``picture``.

    Without ``key`` it holds ciphertext only, and asks its reader for the passphrase.
    """
    return assemble(picture(image, offset=offset, key=key, bytes_max=bytes_max))


def write(
    image: Image,
    target: str | os.PathLike[str],
    *,
    offset: int | None = None,
    key: bytes | None = None,
    bytes_max: int = BYTES_MAX,
) -> None:
    """Write the page to a file, whole or not at all.  Raises as ``picture``, and TargetError."""
    text = page(image, offset=offset, key=key, bytes_max=bytes_max)
    with TargetFile(target) as file:
        if file.identity() in [one.identity() for one in image.host_files()]:
            raise TargetError(f"'{file.name}' is the image itself. Give the page another name")
        file.pwrite(text.encode(), 0)
        file.commit()


def assemble(content: dict[str, Any]) -> str:
    """The page for what ``picture`` gave."""
    style = part("page.css")
    script = '"use strict";\n(() => {\n' + "\n".join(map(part, SCRIPTS)) + "})();\n"
    fields = {
        "policy": policy(style, script),
        "style": style,
        "script": script,
        "image": as_json(content),
    }
    pieces = part("page.html").split("@")
    return "".join(fields[one] if number % 2 else one for number, one in enumerate(pieces))


def part(name: str) -> str:
    """The text of one of the files that a page is made of."""
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def policy(style: str, script: str) -> str:
    """What the page may do: use this style and this script, and nothing else."""
    return (
        f"default-src 'none'; style-src {_source(style)}; script-src {_source(script)}; "
        "base-uri 'none'; form-action 'none'"
    )


def as_json(content: dict[str, Any]) -> str:
    """JSON that is safe inside a script element, whatever an image put into it."""
    text = json.dumps(content, ensure_ascii=True, separators=(",", ":"))
    for character in "<>&":  # in JSON these stand in strings only
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
