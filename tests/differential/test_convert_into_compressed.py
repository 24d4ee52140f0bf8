"""``convert -n -c``: compressed clusters for images that exist, of every kind, beside qemu-img.

The disk and each snapshot are what qemu-img makes of them without ``-c``: it cannot compress into
clusters that are in use.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.differential import run_main
from support.existing import (
    BASE,
    ENCRYPTED,
    SIZE,
    SNAPSHOTS,
    TARGETS,
    K,
    disk_of,
    snapshots_of,
    words_into,
)

from qcow2crypt.testing.witness import QemuImg


@pytest.mark.parametrize("source", ["full.raw", "part.raw", "overlay.qcow2"])
@pytest.mark.parametrize("name", sorted(TARGETS.keys() - ENCRYPTED - {"external", "rawdata"}))
def test_compressed_into_what_stays(
    qemu_img: QemuImg,
    folders: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    source: str,
) -> None:
    """With -c the disks and all snapshots are those that qemu-img makes without."""
    theirs, ours = folders
    monkeypatch.chdir(theirs)
    qemu_img.run(*words_into(source, name))
    wanted = [disk_of(qemu_img, name, one) for one in (None, *snapshots_of(qemu_img, name))]
    assert len(wanted) == 1 + (name in SNAPSHOTS)
    monkeypatch.chdir(ours)
    # Noise does not get shorter: some of the disk is to.
    text = (b"some words that can be made shorter " * 20_000)[: 90 * K]
    words = words_into(source, name, "-c")
    if source == "full.raw":
        data = bytearray(Path(source).read_bytes())
        data[110 * K : 200 * K] = text
        Path(source).write_bytes(data)
        wanted[0] = bytes(data)
    for _ in range(2):
        done = run_main(words)
        assert done.status == 0, done.stderr
        snapshots = (None, *snapshots_of(qemu_img, name))
        assert [disk_of(qemu_img, name, one) for one in snapshots] == wanted
        assert run_main(["check", "-q", name]).status == 0
        found = json.loads(qemu_img.run("check", "--output=json", name).stdout)
        assert "leaks" not in found
        assert found.get("compressed-clusters", 0) or source != "full.raw" or name == "big"


@pytest.mark.parametrize("name", ["fresh", "snapped", "small"])
def test_only_changes_are_compressed(
    qemu_img: QemuImg, folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """-c with -B: clusters that the target shows otherwise, and they alone."""
    place = folders[1]
    monkeypatch.chdir(place)
    if name != "small":
        qemu_img.run(*f"create -q -f qcow2 {BASE} {name}".split())
    data = bytearray(Path("base.raw").read_bytes())
    data[400 * K : 500 * K] = (b"words and words " * 10_000)[: 100 * K]
    Path("changed.raw").write_bytes(data)
    words = words_into("changed.raw", name, "-c", "-B", "base.raw", "-F", "raw")
    done = run_main(words)
    assert done.status == 0, done.stderr
    assert disk_of(qemu_img, name) == bytes(data)
    found = json.loads(qemu_img.run("check", "--output=json", name).stdout)
    assert "leaks" not in found
    if name != "small":
        assert found["compressed-clusters"] == found["allocated-clusters"] == 2


@pytest.mark.parametrize("old", ["empty", "full"])
def test_compressed(
    qemu_img: QemuImg, folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, old: str
) -> None:
    """qemu-img can compress into clusters that are empty; we replace full ones, too."""

    def by_them(words: list[str]) -> int:
        return qemu_img.run(*words).returncode

    def by_us(words: list[str]) -> int:
        return run_main(words).status

    for place, run in zip(folders, (by_them, by_us), strict=True):
        monkeypatch.chdir(place)
        qemu_img.run(*f"create -q -f qcow2 target {SIZE}".split())
        if old == "full":
            qemu_img.run_io("-c", "write -q -P 7 0 700k", "target")
            if place == folders[0]:
                continue
        assert run(["convert", "-n", "-c", "-f", "raw", "-O", "qcow2", "base.raw", "target"]) == 0
        assert disk_of(qemu_img, "target") == Path("base.raw").read_bytes()
        assert qemu_img.run("check", "target").returncode == 0
