"""check: sound and damaged images, given to ``qemu-img check`` and to us.

Before a repair the verdict and every number are the same.  After ours, QEMU finds nothing where
it finds nothing after its own, and the disk is the one that its repair leaves.  The exception:
where a table lies in a cluster that holds data, too, QEMU changes the data and we do not.
"""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any, Literal

import golden
import pytest
from support.damaged import random_image

from qcow2crypt.errors import Qcow2CryptError
from qcow2crypt.image.hostfile import HostFile
from qcow2crypt.image.qcow2.bulk import references
from qcow2crypt.image.qcow2.bulk.snapshotting import create_snapshot, delete_snapshot
from qcow2crypt.image.qcow2.check import census_l2, copied
from qcow2crypt.image.qcow2.runs import single_entries
from qcow2crypt.image.qcow2.structure import read_structure
from qcow2crypt.tasks.checking import CheckResult, check
from qcow2crypt.testing.damage import damage_metadata
from qcow2crypt.testing.witness import Disk, QemuImg

IMAGES = 24
DAMAGES = 10

Verdict = tuple[int, dict[str, Any]]


def theirs(qemu_img: QemuImg, path: Path, *options: str) -> Verdict:
    """The exit code and the JSON of qemu-img, if it prints any."""
    done = qemu_img.run("check", "--output=json", "-f", "qcow2", *options, path, check=False)
    found = json.loads(done.stdout) if done.stdout.strip() else {}
    return done.returncode, {key: n for key, n in found.items() if key != "filename"}


def ours(path: Path, repair: Literal["leaks", "all"] | None = None) -> Verdict:
    """The same of our check."""
    try:
        result = check(str(path), repair=repair, format="qcow2")
    except Qcow2CryptError:
        return 1, {}
    return result.status, numbers(result)


def numbers(result: CheckResult) -> dict[str, Any]:
    if result.failure is not None:
        return {}
    return {key: n for key, n in result.as_dict().items() if key != "filename"}


def damaged(tmp_path: Path, qemu_img: QemuImg, seed: int) -> list[tuple[str, bytes]]:
    """A sound image and damaged ones, each with its name."""
    path = tmp_path / "sound.qcow2"
    random_image(path, qemu_img, seed)
    data = path.read_bytes()
    rows = [(f"seed {seed}, sound", data)]
    for number in range(DAMAGES):
        one = 1000 * seed + number
        rows.append((f"seed {seed}, damage {one}", damage_metadata(data, one)))
    return rows


@pytest.mark.parametrize("seed", range(IMAGES))
def test_same_verdict_and_numbers(tmp_path: Path, qemu_img: QemuImg, seed: int) -> None:
    path = tmp_path / "image.qcow2"
    for name, data in damaged(tmp_path, qemu_img, seed):
        path.write_bytes(data)
        assert ours(path) == theirs(qemu_img, path), name
        assert path.read_bytes() == data


@pytest.mark.parametrize("seed", range(200, 206))
def test_runs_and_single_entries_agree(
    tmp_path: Path, qemu_img: QemuImg, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fast way through a table and the slow one: numbers, repairs and snapshots."""

    def all_of_it(data: bytes) -> list[object]:
        stream = io.BytesIO(data)
        result = check(io.BytesIO(data))
        found: list[object] = [numbers(result), sorted(map(str, result.findings))]
        repaired = check(stream, repair="all")
        found += [numbers(repaired), stream.getvalue()]
        file = HostFile(stream, writable=True)
        with contextlib.suppress(Qcow2CryptError):
            create_snapshot(file, read_structure(file), "twin", clock=lambda: 0)
            found.append(stream.getvalue())
            delete_snapshot(file, read_structure(file), "twin")
        return [*found, stream.getvalue()]

    for name, data in damaged(tmp_path, qemu_img, seed):
        fast = all_of_it(data)
        with monkeypatch.context() as patch:
            for module in (census_l2, copied, references):
                patch.setattr(module, "entry_runs", lambda table, step: single_entries(table))
            assert fast == all_of_it(data), name


@pytest.mark.parametrize("repair", ["leaks", "all"])
@pytest.mark.parametrize("seed", range(100, 100 + IMAGES // 2))
def test_repairs_no_less(
    tmp_path: Path, qemu_img: QemuImg, seed: int, repair: Literal["leaks", "all"]
) -> None:
    names = ("ours", "theirs", "unrepaired")
    mine, qemus, unrepaired = (tmp_path / f"{name}.qcow2" for name in names)
    for name, data in damaged(tmp_path, qemu_img, seed):
        mine.write_bytes(data)
        qemus.write_bytes(data)
        before = theirs(qemu_img, mine)
        expected, expected_numbers = theirs(qemu_img, qemus, "-r", repair)
        status, found = ours(mine, repair)
        after, left = theirs(qemu_img, mine)
        if status != 1:
            assert status == after, (name, found, left)
        unrepaired.write_bytes(data)
        if expected == 1:
            continue
        if not (status <= expected and contents(qemu_img, mine, qemus)):
            # A table is data, too: QEMU wrote flags into it, and we left it alone.
            assert contents(qemu_img, mine, unrepaired), (name, expected_numbers, found)
            assert not contents(qemu_img, qemus, unrepaired), (name, expected_numbers, found)
            continue
        # Neither kind of repair adds to the damage.
        for what in ("corruptions", "check-errors"):
            assert left.get(what, 0) <= before[1].get(what, 0), (name, what)


def contents(qemu_img: QemuImg, first: Path, second: Path) -> bool:
    """The same guest bytes, or both cannot be read."""
    done = [qemu_img.run("compare", a, second, check=False) for a in (first, second)]
    return done[0].returncode == done[1].returncode


@pytest.mark.parametrize("part", [2, 3, 10])
@pytest.mark.parametrize("cluster_size", [512, 4096, 65536])
def test_a_file_cut_short(tmp_path: Path, qemu_img: QemuImg, cluster_size: int, part: int) -> None:
    """What lies behind the end reads as zeros, and still does when a repair makes the file grow."""
    disk, cut = Disk(tmp_path / "whole.qcow2"), Disk(tmp_path / "cut.qcow2")
    qemu_img.create(disk, 4 << 20, {"cluster_size": cluster_size})
    qemu_img.qemu_io(disk, ["write -P 3 0 4M"])
    data = bytearray(disk.path.read_bytes())
    data = data[: len(data) // part // 512 * 512]
    table = int.from_bytes(data[48:56], "big")
    data[table : table + 8] = bytes(8)  # no refcounts for the first part of the file
    cut.path.write_bytes(data)
    before, after = tmp_path / "before.raw", tmp_path / "after.raw"
    qemu_img.convert(cut, Disk(before, "raw"))
    left = check(str(cut.path), repair="all")
    assert (left.status, left.as_dict()) == (
        theirs(qemu_img, cut.path)[0],
        {**theirs(qemu_img, cut.path)[1], "filename": str(cut.path),
         "corruptions-fixed": left.corruptions_fixed},
    )  # fmt: skip
    qemu_img.convert(cut, Disk(after, "raw"))
    assert after.read_bytes() == before.read_bytes()


@pytest.mark.parametrize("name", golden.NAMES)
def test_golden_images(name: str, tmp_path: Path, qemu_img: QemuImg) -> None:
    if not name.endswith(".qcow2"):
        return
    path = tmp_path / "image.qcow2"
    path.write_bytes(golden.load(name).data)
    status, found = ours(path)
    assert status == 0, found
    # QEMU asks for backing files and passphrases first, and so says nothing of some of these.
    expected, expected_numbers = theirs(qemu_img, path)
    assert expected == 1 or (status, found) == (expected, expected_numbers)


def test_snapshots_survive_where_qemu_loses_them(tmp_path: Path, qemu_img: QemuImg) -> None:
    """With bitmaps beside them, ``qemu-img check -r`` 7.2 drops every snapshot; we do not."""
    disk = Disk(tmp_path / "image.qcow2")
    qemu_img.create(disk, 1 << 20)
    qemu_img.qemu_io(disk, ["write -P 3 0 256k"])
    qemu_img.run("snapshot", "-c", "kept", disk.path)
    qemu_img.run("bitmap", "--add", disk.path, "b0")
    result = check(str(disk.path), repair="all")
    assert result.status == 0
    assert [each["name"] for each in qemu_img.info(disk)["snapshots"]] == ["kept"]
    assert "leaks" not in qemu_img.check(disk)
