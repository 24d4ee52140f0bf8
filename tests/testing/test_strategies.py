"""What is drawn: passphrases of every kind, layers that can be, scripts that QEMU carries out."""

from __future__ import annotations

import io
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import find, given, settings
from hypothesis import strategies as st

import qcow2crypt
from qcow2crypt.errors import Qcow2CryptError
from qcow2crypt.testing import images, strategies
from qcow2crypt.testing.case import Case, Discard, Layer, Resize, Write, WriteZeroes
from qcow2crypt.testing.ours import read_case
from qcow2crypt.testing.rules import tidy
from qcow2crypt.testing.script import shell_text
from qcow2crypt.testing.tools import QemuTools
from qcow2crypt.testing.witness import QemuImg

FEW = settings(max_examples=20)
SMALL = settings(max_examples=8)


@pytest.mark.parametrize(
    "wanted",
    [
        *(lambda secret, n=n: len(secret) == n for n in (0, 15, 16, 17)),
        lambda secret: b"\0" in secret,
        lambda secret: len(secret) > 16 and not _is_text(secret[:16]) and _is_text(secret),
        lambda secret: not _is_text(secret),
    ],
    ids=["0", "15", "16", "17", "NUL", "cut in a character", "not UTF-8"],
)
def test_every_kind_of_passphrase_is_drawn(wanted: object) -> None:
    find(strategies.passphrases(), wanted)  # type: ignore[arg-type]


def _is_text(secret: bytes) -> bool:
    try:
        secret.decode()
    except UnicodeDecodeError:
        return False
    return True


@given(secret=strategies.passphrase_texts())
def test_typed_passphrases_have_no_nul(secret: str) -> None:
    assert "\0" not in secret
    assert secret.encode().decode() == secret


@given(data=st.data(), size=st.integers(1, 1 << 20))
def test_ranges_lie_in_the_disk(data: st.DataObject, size: int) -> None:
    offset, length = data.draw(strategies.ranges(size, 4096))
    assert 0 <= offset < offset + length <= size


@given(layer=strategies.layers())
def test_layers_can_be(layer: Layer) -> None:
    assert tidy(Case((layer,))).top == layer


@given(layer=strategies.layers(encrypted=True, versions=(2,), cluster_sizes=(512,)))
def test_layers_are_as_asked_for(layer: Layer) -> None:
    assert layer.passphrase is not None
    assert (layer.version, layer.cluster_size, layer.extended_l2) == (2, 512, False)


@FEW
@given(data=st.data(), layer=strategies.layers())
def test_scripts_can_be(data: st.DataObject, layer: Layer) -> None:
    script = data.draw(strategies.write_scripts(layer))
    assert {type(one) for one in script} <= {Write, WriteZeroes, Discard, Resize}
    case = Case((replace(layer, operations=script),))
    assert tidy(case) == case
    assert shell_text(case).startswith("#!/bin/sh")


@FEW
@given(made=images.images("plain"))
def test_images_of_ours_are_whole(made: images.Made) -> None:
    with qcow2crypt.open(io.BytesIO(made.data), format="qcow2", external="none") as image:
        assert image.size == made.case.top.last_size


@SMALL
@given(data=st.data())
def test_images_of_qemu_are_read_by_us_as_by_qemu(data: st.DataObject, qemu_img: QemuImg) -> None:
    tools = QemuTools(qemu_img.img, qemu_img.io, qemu_img.version)
    made = data.draw(images.qemu_images(tools, "chains"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = made.unpack(folder)
        assert path.read_bytes() == made.data
        assert read_case(made.case, folder) == tools.read(made.case, folder)


@FEW
@given(data=images.damaged_images())
def test_damaged_images_are_read_or_refused_by_our_own_errors(data: bytes) -> None:
    try:
        with qcow2crypt.open(io.BytesIO(data), b"", external="none") as image:
            image.pread(1 << 20, 0)
    except Qcow2CryptError:
        pass


def test_a_case_that_we_cannot_write_is_left_out() -> None:
    """The profile has encrypted images with compressed clusters, which we do not write."""
    find(images.images("compressed"), lambda made: made.case.operations > 1, settings=SMALL)
