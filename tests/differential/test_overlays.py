"""New images over a backing file: what is written, zeroed and left out, read by both programs.

The writer is driven by itself: ``convert`` uses a part of what it can.
"""

from __future__ import annotations

import itertools
import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from support.differential import PASSPHRASE, NewCase, many

from qcow2crypt.image import open_image
from qcow2crypt.image.qcow2.options import Qcow2Options
from qcow2crypt.targetfile import TargetFile
from qcow2crypt.tasks.creation import disk_writer
from qcow2crypt.testing.witness import Disk
from qcow2crypt.units import GuestOffset


@st.composite
def chosen_options(draw: st.DrawFn) -> tuple[dict[str, Any], bool]:
    """Options, and whether to compress."""
    options: dict[str, Any] = {"cluster_size": draw(st.sampled_from((512, 4096, 16384, 65536)))}
    compress = draw(st.booleans())
    if not compress and draw(st.booleans()):
        options["encryption"] = "aes"
    if options["cluster_size"] >= 16384 and draw(st.booleans()):
        options["extended_l2"] = True
        if not compress and draw(st.booleans()):
            options["preallocation"] = draw(st.sampled_from(("metadata", "falloc")))
    elif draw(st.booleans()):
        options["version"] = 2
    return options, compress


@many
@given(chosen_options(), st.integers(0, 300), st.integers(0, 300), st.data())
def test_an_overlay(
    new_case: NewCase,
    chosen: tuple[dict[str, Any], bool],
    sectors: int,
    base_sectors: int,
    data: st.DataObject,
) -> None:
    kinds, compress = chosen
    options = Qcow2Options(backing_file="base", backing_format="raw", **kinds)
    noise = random.Random(data.draw(st.integers(0, 2**32), label="seed"))
    base = noise.randbytes(base_sectors * 512)
    size = sectors * 512
    expected = bytearray(base[:size].ljust(size, b"\0"))
    borders = sorted(data.draw(st.sets(st.integers(0, sectors), max_size=10), label="borders"))
    with new_case() as case:
        (case.folder / "base").write_bytes(base)
        path = case.folder / "image"
        secret = PASSPHRASE if options.encryption else None
        with open_image(case.folder / "base", format="raw") as backing, TargetFile(path) as file:
            writer = disk_writer(
                file,
                size,
                "qcow2",
                options,
                secret=secret,
                engine=None,
                backing=backing,
                compress=compress,
            )
            for first, end in itertools.pairwise(borders):
                at, length = GuestOffset(first * 512), (end - first) * 512
                action = data.draw(st.sampled_from(("write", "text", "zero", "skip")))
                if action == "zero":
                    writer.write_zeroes(at, length)
                    expected[at : at + length] = bytes(length)
                elif action != "skip":
                    text = (b"some text " * length)[:length]
                    content = noise.randbytes(length) if action == "write" else text
                    writer.write(at, content)
                    expected[at : at + length] = content
            writer.finish()
            file.commit()
        disk = Disk(path, passphrase=secret)
        case.nothing_to_find(disk)
        case.same_guest(case.guest_by_us(disk), bytes(expected), "we read it", path)
        case.same_guest(case.guest_by_them(disk), bytes(expected), "qemu-img reads it", path)
