"""``info`` and ``map`` of one image, by both programs: the same JSON.

Images are named by a list of qemu-img command lines; ``{a}`` there stands for AES options.
"""

from __future__ import annotations

import json

import golden
import pytest
from support.differential import PASSPHRASE, Case, NewCase, Target, opened, without_holes
from support.differential_content import content, data_bytes

AES = "encrypt.format=aes,encrypt.key-secret=s"
LUKS = "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10"
QCOW2 = "create -q -f qcow2"
IMAGES = {
    "version 3": [f"{QCOW2} X 10M"],
    "version 2": [f"{QCOW2} -o compat=0.10 X 10M"],
    "odd size": [f"{QCOW2} X 1000"],
    "empty": [f"{QCOW2} X 0"],
    "small clusters": [f"{QCOW2} -o cluster_size=512 X 10M"],
    "large clusters": [f"{QCOW2} -o cluster_size=2M X 10M"],
    "lazy refcounts": [f"{QCOW2} -o lazy_refcounts=on X 10M"],
    "zstd": [f"{QCOW2} -o compression_type=zstd X 10M"],
    "refcounts of 1 bit": [f"{QCOW2} -o refcount_bits=1 X 10M"],
    "refcounts of 64 bits": [f"{QCOW2} -o refcount_bits=64 X 10M"],
    "extended L2": [f"{QCOW2} -o extended_l2=on X 10M"],
    "metadata preallocated": [f"{QCOW2} -o preallocation=metadata X 10M"],
    "all preallocated": [f"{QCOW2} -o preallocation=full X 3M"],
    "external data file": [f"{QCOW2} -o data_file=X.data X 10M"],
    "external raw data file": [f"{QCOW2} -o data_file=X.data,data_file_raw=on X 10M"],
    "aes": [f"{QCOW2} --object secret,id=s,data=pw -o {AES} X 10M"],
    "aes, version 2": [f"{QCOW2} --object secret,id=s,data=pw -o {AES},compat=0.10 X 10M"],
    "luks": [f"{QCOW2} --object secret,id=s,data=pw -o {LUKS} X 10M"],
    "backing file": ["create -q -f raw base 1M", f"{QCOW2} -b base -F raw X"],
    "backing file elsewhere": [f"{QCOW2} -u -b /somewhere/else -F raw X 2M"],
    "backing file in a folder": [f"{QCOW2} -u -b folder/base -F qcow2 X 2M"],
    "backing file over the network": [f"{QCOW2} -u -b nbd://localhost/x -F raw X 2M"],
    "backing file as JSON": [
        "create -q -f raw base 1M",
        QCOW2 + ' -b json:{"driver":"raw","file":{"driver":"file","filename":"base"}} -F raw X 2M',
    ],
    "snapshots": [f"{QCOW2} X 1M", "snapshot -c one X", "snapshot -c zwéi X"],
    "snapshots, version 2": [
        f"{QCOW2} -o compat=0.10 X 1M",
        "snapshot -c one X",
        "snapshot -c two X",
        "snapshot -d one X",
    ],
    "snapshot, then resized": [f"{QCOW2} X 1M", "snapshot -c one X", "resize -q X 2M"],
    "bitmaps": [
        f"{QCOW2} X 1M",
        "bitmap --add X b0",
        "bitmap --add -g 4096 X b1",
        "bitmap --disable X b1",
    ],
    "grown": [f"{QCOW2} X 1M", "resize -q X 100G"],
    "shrunk": [f"{QCOW2} X 10M", "resize -q --shrink X 5M"],
    "made version 2": [f"{QCOW2} X 10M", "amend -o compat=0.10 X"],
    "made version 3": [f"{QCOW2} -o compat=0.10 X 10M", "amend -o compat=1.1 X"],
    "amended refcounts": [f"{QCOW2} X 10M", "amend -o refcount_bits=8,lazy_refcounts=on X"],
    "qcow": ["create -q -f qcow X 1M"],
    "qcow with aes": [f"create -q -f qcow --object secret,id=s,data=pw -o {AES} X 1M"],
    "qcow with a backing file": ["create -q -f raw base 1M", "create -q -f qcow -b base -F raw X"],
    "raw": ["create -q -f raw X 1M"],
    "raw, odd size": ["create -q -f raw X 1000"],
}


def made(case: Case, commands: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Run qemu-img commands in the folder of the case."""
    monkeypatch.chdir(case.folder)
    for command in commands:
        case.theirs(*command.split(" "))


@pytest.mark.parametrize("commands", IMAGES.values(), ids=IMAGES)
def test_info(new_case: NewCase, commands: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with new_case() as case:
        made(case, commands, monkeypatch)
        case.same_description("X")
        case.same_description(str(case.folder / "X"))
        case.same_description("./X")
        case.same_description(f"../{case.folder.name}/X")
        case.same_description("-f", "raw", "X")


@pytest.mark.parametrize("name", [name for name in golden.NAMES if not name.endswith(".luks")])
def test_info_of_golden_images(new_case: NewCase, name: str) -> None:
    """LUKS with ESSIV, overlays, old QEMUs: what no command line here makes quickly."""
    with new_case() as case:
        image = golden.load(name)
        case.same_description(image.path)


MIB = 1 << 20
PARTS = ["-s 0", "-s 10000", "-s 1 -l 1", "-s 300k", "-s 1M", "-s 2M", "-l 0", "-l 70000", "-l 9G"]


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("kind", ["raw", "plain", "aes", "zlib", "zstd"])
@pytest.mark.parametrize("cluster_size", [512, 4096, 65536])
def test_map(new_case: NewCase, kind: str, cluster_size: int, part: str) -> None:
    with new_case() as case:
        raw = case.raw(content("clusters", MIB, 65536))
        image = raw
        if kind != "raw":
            path = case.folder / "image"
            compressed = ["-c"] if kind in {"zlib", "zstd"} else []
            more = f"compression_type={kind}" if compressed else ""
            made_as = Target("qcow2", cluster_size, 3, PASSPHRASE if kind == "aes" else None, more)
            words = ["convert", *compressed, "-f", "raw", "-O", "qcow2", *made_as.words]
            case.theirs(*words, raw.path, path)
            without_holes(path)
            image = made_as.disk(path)
        case.same_map(image, *part.split())


@pytest.mark.parametrize("passphrase", [None, PASSPHRASE], ids=["plain", "aes"])
@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("cluster_size", [512, 4096, 65536])
def test_map_of_every_kind_of_cluster(
    new_case: NewCase, cluster_size: int, version: int, passphrase: str | None
) -> None:
    with new_case() as case:
        c = cluster_size
        image = case.make(Target("qcow2", c, version, passphrase), 100 * c)
        case.qemu_io(
            image,
            f"write -q -c -P 1 {3 * c} {c}",
            f"write -q -c -P 2 {4 * c} {c}",
            f"write -q -P 3 {6 * c} {5 * c}",
            f"write -q -P 4 {20 * c} {c}",
            f"write -q -P 5 {19 * c} {c}",
            f"write -q -z {7 * c} {c}",
            f"write -q -z -u {8 * c} {c}",
            f"discard -q {9 * c} {c}",
            f"write -q -z {30 * c} {3 * c}",
            f"write -q -P 6 {99 * c} {c}",
        )
        without_holes(image.path)
        case.both_read_the_same(image)
        for part in PARTS:
            case.same_map(image, *part.split())


def test_map_shows_whole_sectors(new_case: NewCase) -> None:
    """A known difference: qemu-img gives the padding of the last sector an entry of its own."""
    with new_case() as case:
        image = case.raw(data_bytes(1000, 1))
        theirs = case.theirs("map", "--output=json", *opened(image)).stdout
        ours = case.ours("map", "--output=json", *opened(image)).stdout
        assert [(e["start"], e["length"], e["data"]) for e in json.loads(theirs)] == [
            (0, 1000, True),
            (1000, 24, False),
        ]
        assert [(e["start"], e["length"], e["data"]) for e in json.loads(ours)] == [(0, 1024, True)]


def test_map_does_not_look_for_holes_under_data(new_case: NewCase) -> None:
    """A known difference: in plain images QEMU reports holes of the host file as zeros.

    The guest reads the same zeros from both.
    """
    with new_case() as case:
        image = case.make(Target(more="preallocation=metadata"), MIB)
        theirs = json.loads(case.theirs("map", "--output=json", *opened(image)).stdout)
        ours = json.loads(case.ours("map", "--output=json", *opened(image)).stdout)
        assert [(e["length"], e["zero"], e["data"]) for e in theirs] == [(MIB, True, True)]
        assert [(e["length"], e["zero"], e["data"]) for e in ours] == [(MIB, False, True)]
        assert theirs[0]["offset"] == ours[0]["offset"]
        assert case.guest_by_us(image) == case.guest_by_them(image) == bytes(MIB)
