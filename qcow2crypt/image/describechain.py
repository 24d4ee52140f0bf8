"""Describe an image and all its backing files, without a passphrase.

Follows the names as opening does, under the same policy, and stops at the same loops.
"""

from __future__ import annotations

from qcow2crypt.errors import SourceError
from qcow2crypt.image.chain import FilesMet, backing_place, open_place
from qcow2crypt.image.describe import describe_file
from qcow2crypt.image.hostfile import HostFile, Source
from qcow2crypt.image.info import ImageInfo
from qcow2crypt.image.names import LayerOptions
from qcow2crypt.image.policy import DEFAULT, External, Policy, home_of


def describe_chain(
    source: Source,
    *,
    format: str | None = None,  # noqa: A002 - the word of qemu-img
    external: External = DEFAULT,
    force_share: bool = False,
) -> tuple[ImageInfo, ...]:
    """Describe the image and its backing files, the image first.

    Raises what ``describe`` raises, and ExternalReferenceError, BackingChainError.
    """
    files: list[HostFile] = []
    met = FilesMet()
    found: list[ImageInfo] = []
    options = LayerOptions(format=format)
    try:
        file = HostFile(source)
        files.append(file)
        policy = Policy(external, home_of(file))
        while True:
            met.add(file)
            file.lock(writing=False, force_share=force_share)
            info = describe_file(file, options.format)
            found.append(info)
            place = None
            if not options.no_backing:
                said = options.backing or LayerOptions()
                place = backing_place(
                    file, info.backing_file, info.backing_format, said, depth=len(found)
                )
            if place is None:
                return tuple(found)
            try:
                file = open_place(place, policy)
            except SourceError as error:
                where = f"backing file '{place.path}' of '{place.image}'"
                raise SourceError(f"{error} ({where})") from error
            files.append(file)
            options = place.options
    finally:
        for file in files:
            file.close()
