"""Chains of images that random scripts made: our guest bytes and extents beside qemu-img's.

QCOW2CRYPT_EXHAUSTIVE=1 makes it thousands of scripts.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from support.differential import EXHAUSTIVE, run_main, scratch_home
from support.differential_maps import comparable_info, comparable_map
from support.random_layers import RandomChain, random_chain

import qcow2crypt
from qcow2crypt.errors import SnapshotNotFoundError
from qcow2crypt.image.base import Extent, ExtentKind, Image
from qcow2crypt.image.layers import layers_of
from qcow2crypt.image.qcow2.reader import Qcow2Image
from qcow2crypt.testing.witness import Disk, QemuImg

Entry = dict[str, Any]
SCRIPTS = 5000 if EXHAUSTIVE else 100


@pytest.mark.parametrize("seed", range(SCRIPTS))
def test_random_scripts(seed: int, qemu_img: QemuImg, tmp_path: Path) -> None:
    with scratch_home(tmp_path) as folder:
        chain = random_chain(qemu_img, folder, seed)
        try:
            check_chain(chain, folder, random.Random(seed))
        except Exception as error:
            raise AssertionError("\n".join(chain.log)) from error


def check_chain(chain: RandomChain, folder: Path, choose: random.Random) -> None:
    """Compare everything that can be read through the top of the chain."""
    theirs = chain.content(folder / "theirs.raw")
    with qcow2crypt.open(chain.top.path, secrets=chain.secrets(), format=chain.top.driver) as image:
        assert image.size == len(theirs)
        assert image.readall() == theirs
        for _ in range(30):
            start = choose.randrange(len(theirs) + 1)
            length = choose.choice([1, 511, 512, 4096, choose.randrange(1 << 20)])
            assert image.pread(length, start) == theirs[start : start + length]
        check_clipped(image, choose)
        for depth, layer in enumerate(layers_of(image)):
            check_map(layer, list(layer.extents()), chain.map(depth))
            alone = chain.map(depth, alone=True)
            check_map(layer, list(layer.own_extents()), alone)
        check_snapshots(chain, image, folder)
    check_command_line(chain)


def test_an_id_wins_over_a_name(qemu_img: QemuImg, tmp_path: Path) -> None:
    path = tmp_path / "disk.qcow2"
    qemu_img.run("create", "-q", "-f", "qcow2", path, "1M")
    disk = Disk(path)
    for pattern, name in ((1, "2"), (2, "3"), (3, "4"), (4, "name"), (5, "name")):
        qemu_img.qemu_io(disk, [f"write -q -P {pattern} 0 512"])
        qemu_img.run("snapshot", "-c", name, path)
    with qcow2crypt.open(path) as image:
        for wanted in ("1", "2", "3", "4", "5", "name"):
            target = tmp_path / "out.raw"
            qemu_img.run("convert", "-l", wanted, "-O", "raw", path, target)
            with image.snapshot(wanted) as view:
                assert view.readall() == target.read_bytes()
        for wanted in ("6", "Name", ""):
            assert qemu_img.run("convert", "-l", wanted, path, target, check=False).returncode
            with pytest.raises(SnapshotNotFoundError, match="it has: 1 '2', 2 '3'"):
                image.snapshot(wanted)


def check_map(image: Image, extents: list[Extent], theirs: list[Entry]) -> None:
    """The map of one layer, or of it and all under it."""
    ours = [entry_of(extent, list(layers_of(image))[extent.depth]) for extent in extents]
    # QEMU looks for holes under data clusters where it believes that they were preallocated, and
    # then says "data" and "zero" at once.
    told = [entry | {"zero": entry["zero"] and not entry["data"]} for entry in theirs]
    assert comparable_map(ours, told) == comparable_map(told, told)


def check_command_line(chain: RandomChain) -> None:
    """``map`` and ``info`` in the same words; of the top, and of the whole chain."""
    words = [*chain.objects(), "--image-opts", chain.options()]
    done = run_main(["map", "--output=json", *words])
    assert done.status == 0, done
    theirs = chain.map()
    told = [entry | {"zero": entry["zero"] and not entry["data"]} for entry in theirs]
    assert comparable_map(json.loads(done.stdout), told) == comparable_map(told, told)
    words = ["info", "--output=json", "-f", chain.top.driver, str(chain.top.path)]
    done = run_main(words)
    assert done.status == 0, done
    assert comparable_info(json.loads(done.stdout)) == comparable_info(
        json.loads(chain.qemu.run(*words).stdout)
    )


def entry_of(extent: Extent, layer: Image) -> Entry:
    """An extent in the words of qemu-img."""
    kind = extent.kind
    entry: Entry = {
        "start": extent.guest_offset,
        "length": extent.length,
        "depth": extent.depth,
        "present": kind is not ExtentKind.UNALLOCATED,
        "zero": kind in (ExtentKind.ZERO, ExtentKind.UNALLOCATED),
        "data": kind in (ExtentKind.DATA, ExtentKind.COMPRESSED),
    }
    hidden = kind is ExtentKind.COMPRESSED or getattr(layer, "encrypted", False)
    if extent.host_offset is not None and not hidden:
        entry["offset"] = extent.host_offset
    return entry


def check_clipped(image: Image, choose: random.Random) -> None:
    """The extents of a part are those of the whole, clipped."""
    whole = list(image.extents())
    assert sum(extent.length for extent in whole) == image.size
    for _ in range(5):
        start = choose.randrange(image.size)
        end = min(image.size, start + choose.choice([1, 512, 70_000, 1 << 20]))
        expected = [clip(extent, start, end) for extent in whole if overlaps(extent, start, end)]
        found = image.extents(start, end - start)
        assert [(e.kind, e.length, e.depth, e.host_offset) for e in found] == expected


def overlaps(extent: Extent, start: int, end: int) -> bool:
    return extent.guest_offset < end and start < extent.guest_offset + extent.length


def clip(extent: Extent, start: int, end: int) -> tuple[ExtentKind, int, int, int | None]:
    first = max(start, extent.guest_offset)
    length = min(end, extent.guest_offset + extent.length) - first
    host: int | None = extent.host_offset
    if host is not None and extent.kind is not ExtentKind.COMPRESSED:
        host += first - extent.guest_offset
    return extent.kind, length, extent.depth, host


def check_snapshots(chain: RandomChain, image: Image, folder: Path) -> None:
    """Every snapshot, as far as QEMU shows it: it shows them in the present size of the disk."""
    assert [snapshot.id for snapshot in image.snapshots()] == chain.top.snapshots
    if not isinstance(image, Qcow2Image):
        return
    for snapshot in image.snapshots():
        theirs = chain.content(folder / "snapshot.raw", "-l", snapshot.id)
        with image.snapshot(snapshot.id) as view, image.snapshot(snapshot.name) as by_name:
            common = min(view.size, len(theirs))
            assert view.size == snapshot.disk_size
            assert view.pread(common, 0) == theirs[:common]
            assert by_name.pread(common, 0) == theirs[:common]
            assert sum(extent.length for extent in view.extents()) == view.size
