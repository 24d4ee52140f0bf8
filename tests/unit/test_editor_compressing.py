"""Compressed clusters in an image that changes: content, counts, shared clusters, refusals."""

from __future__ import annotations

import random
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import qcow2crypt
from qcow2crypt.errors import ArgumentError, FormatError, TargetError
from qcow2crypt.image.hostfile import HostFile
from qcow2crypt.image.qcow2.edit.editor import Qcow2Editor
from qcow2crypt.image.qcow2.edit.protected import ProtectedClusters
from qcow2crypt.image.qcow2.edit.refcounts import Refcounts
from qcow2crypt.image.qcow2.options import Qcow2Options
from qcow2crypt.image.qcow2.structure import read_structure
from qcow2crypt.units import GuestOffset

SIZE = 64 * 4096
KINDS = {
    "plain": Qcow2Options(cluster_size=4096),
    "small": Qcow2Options(cluster_size=512),
    "v2": Qcow2Options(cluster_size=4096, version=2),
    "subclusters": Qcow2Options(cluster_size=16384, extended_l2=True),
    "one bit": Qcow2Options(cluster_size=1024, refcount_bits=1),
    "two bits": Qcow2Options(cluster_size=1024, refcount_bits=2),
    "lazy": Qcow2Options(cluster_size=4096, lazy_refcounts=True),
}


def shorter(data: bytes) -> bytes:
    deflater = zlib.compressobj(wbits=-12)
    return deflater.compress(data) + deflater.flush()


def edit(path: Path, options: Qcow2Options = KINDS["plain"]) -> Qcow2Editor:
    qcow2crypt.create(path, SIZE, options=options)
    image = qcow2crypt.open(path, mode="r+")
    assert isinstance(image, Qcow2Editor)
    return image


def sound(path: Path) -> bool:
    found = qcow2crypt.check(path)
    return not (found.corruptions or found.leaks or found.check_errors)


def snapshot(image: Qcow2Editor, name: str, options: Qcow2Options) -> bool:
    """Make one, if the refcounts can count all its references."""
    try:
        image.create_snapshot(name)
    except TargetError:
        assert options.refcount_bits == 2
        return False
    return True


@pytest.mark.parametrize("name", KINDS)
@given(data=st.data())
def test_random_changes(
    tmp_path_factory: pytest.TempPathFactory, name: str, data: st.DataObject
) -> None:
    """Compressed and plain writes, zeros, flushes and snapshots, beside a model of the disk."""
    path = tmp_path_factory.mktemp("compressing") / "image"
    options = KINDS[name]
    size = options.cluster_size
    noise = random.Random(data.draw(st.integers(0, 1 << 16)))
    model = bytearray(SIZE)
    kept: dict[str, bytes] = {}
    steps = data.draw(
        st.lists(st.sampled_from("ccccccwzfs" if options.refcount_bits > 1 else "ccccwzf"))
    )
    with edit(path, options) as image:
        for step in steps:
            start = noise.randrange(min(12, SIZE // size)) * size
            if step == "c":
                content = (noise.randbytes(noise.randrange(1, size // 2)) * size)[:size]
                stored = shorter(content)
                if len(stored) < size:
                    image.write_compressed(stored, start)
                    model[start : start + size] = content
            elif step == "w":
                content = noise.randbytes(noise.randrange(1, 2 * size))
                image.pwrite(content, start)
                model[start : start + len(content)] = content
            elif step == "z":
                image.write_zeroes(start, size, unmap=True)
                model[start : start + size] = bytes(size)
            elif step == "f":
                image.flush()
            elif len(kept) < 2 and snapshot(image, f"s{len(kept)}", options):
                kept[f"s{len(kept)}"] = bytes(model)
            assert image.pread(4 * size, start) == model[start : start + 4 * size]
    with qcow2crypt.open(path) as image:
        assert image.readall() == model
        for number, content in kept.items():
            with image.snapshot(number) as view:
                assert view.readall() == content
    assert sound(path)
    path.unlink()
    path.parent.rmdir()


def test_clusters_share_and_let_go(tmp_path: Path) -> None:
    """Small compressed clusters lie in one host cluster, which is free when all are gone."""
    path = tmp_path / "image"
    with edit(path) as image:
        empty = -(-path.stat().st_size // 4096) * 4096
        for number in range(8):
            image.write_compressed(shorter(bytes([number + 1]) * 4096), number * 4096)
        runs = image._map.compressed_runs(GuestOffset(0), 8 * 4096)
        assert len(runs) == 8
        assert len({run.host_offset // 4096 for run in runs}) == 1
        image.flush()
        full = path.stat().st_size
        assert full - empty <= 2 * 4096  # an L2 table and this one
        image.write_zeroes(0, 8 * 4096, unmap=True)
        image.flush()
        image.pwrite(b"x" * 4096, 20 * 4096)
        image.flush()
        assert path.stat().st_size <= empty + 2 * 4096
    assert sound(path)


def test_a_place_that_was_given_back_is_not_filled_on(tmp_path: Path) -> None:
    """What lies there by then is somebody else's; and what was read there before is forgotten."""
    path = tmp_path / "image"
    with edit(path) as image:
        image.pwrite(b"\0" * 4096, 30 * 4096)
        image.write_compressed(shorter(b"a" * 4096), 0)
        assert image.pread(4096, 0) == b"a" * 4096
        image.write_zeroes(0, 4096, unmap=True)
        image.flush()
        image.write_compressed(shorter(b"b" * 4096), 0)
        assert image.pread(4096, 0) == b"b" * 4096
        image.write_zeroes(0, 4096, unmap=True)
        image.flush()
        image.pwrite(b"c" * 4096, 4096)
        image.write_compressed(shorter(b"d" * 4096), 0)
        assert image.pread(8192, 0) == b"d" * 4096 + b"c" * 4096
    assert sound(path)


@pytest.mark.parametrize(
    ("stored", "offset"),
    [(b"", 0), (b"x" * 4096, 0), (b"x", 512), (b"x", SIZE)],
)
def test_what_is_no_compressed_cluster(tmp_path: Path, stored: bytes, offset: int) -> None:
    with edit(tmp_path / "image") as image, pytest.raises(ArgumentError):
        image.write_compressed(stored, offset)


def test_not_in_clear_into_an_encrypted_image(tmp_path: Path) -> None:
    path = tmp_path / "image"
    qcow2crypt.create(path, SIZE, secret="key", options=Qcow2Options(encryption="aes"))
    before = path.read_bytes()
    with qcow2crypt.open(path, "key", "r+") as image:
        assert isinstance(image, Qcow2Editor)
        with pytest.raises(ArgumentError, match="cannot be compressed into"):
            image.write_compressed(b"x", 0)
    assert path.read_bytes() == before


def test_a_full_disk_leaves_the_cluster_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "image"
    with edit(path) as image:
        image.write_compressed(shorter(b"a" * 4096), 0)
        image.write_compressed(shorter(b"b" * 4096), 4096)
        with monkeypatch.context() as patch:

            def refuse(*_words: object) -> None:
                raise TargetError("No space left on device")

            patch.setattr(HostFile, "pwrite", refuse)
            with pytest.raises(TargetError):
                image.write_compressed(shorter(b"c" * 4096), 0)
        assert image.pread(8192, 0) == b"a" * 4096 + b"b" * 4096
        image.write_compressed(shorter(b"d" * 4096), 4096)
        assert image.pread(8192, 0) == b"a" * 4096 + b"d" * 4096
    assert sound(path)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16, 32, 64])
def test_one_reference_more(tmp_path: Path, bits: int) -> None:
    """Up to what the width holds, and not for clusters that are free or hold metadata."""
    path = tmp_path / "image"
    qcow2crypt.create(path, SIZE, options=Qcow2Options(cluster_size=512, refcount_bits=bits))
    file = HostFile(path, writable=True)
    header = read_structure(file).header
    protected = ProtectedClusters()
    refcounts = Refcounts(file, header, protected)
    first = refcounts.allocate(2)
    most = min((1 << bits) - 1, 300)
    for count in range(1, most):
        assert refcounts.can_share(first)
        refcounts.share(first)
        assert refcounts.get(first) == count + 1
    if most < 300:
        assert not refcounts.can_share(first)
        with pytest.raises(TargetError, match=f"a refcount of {bits} bits cannot count"):
            refcounts.share(first)
    assert (refcounts.get(first), refcounts.get(first + 1)) == (most, 1)
    with pytest.raises(FormatError, match="counted as free"):
        refcounts.share(first + 2)
    protected.add(first + 1)
    with pytest.raises(FormatError):
        refcounts.share(first + 1)
    refcounts.write_blocks()
    again = Refcounts(file, header, ProtectedClusters())
    assert again.get(first) == most
    file.close()


def test_the_last_user_ends_the_filling(tmp_path: Path) -> None:
    path = tmp_path / "image"
    qcow2crypt.create(path, SIZE, options=Qcow2Options(cluster_size=512))
    file = HostFile(path, writable=True)
    refcounts = Refcounts(file, read_structure(file).header, ProtectedClusters())
    first = refcounts.allocate(1)
    refcounts.filling = first
    refcounts.share(first)
    refcounts.release(first)
    refcounts.settle()
    assert refcounts.filling == first
    refcounts.release(first)
    refcounts.settle()
    assert refcounts.filling is None
    file.close()
