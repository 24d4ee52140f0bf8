"""Empty images: the same bytes as qemu-img's, the same limits."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.differential import CLUSTER_SIZES, PASSPHRASE, Case, NewCase, Target

SIZES = ["0", "1", "511", "512", "513", "1M", "1000001", "3G", "20G"]
LARGE = {
    512: ["64G", "86600M", "100G", "127G", "128G"],
    1024: ["128G", "512G"],
    2048: ["2T"],
    4096: ["8T"],
    65536: ["10T", "2P"],
    2 << 20: ["64P", "2E"],
}
"""The last of each is the largest: an L1 table has at most 32 MiB."""
TOO_LARGE = {
    512: ["129G", "137438953473"],
    1024: ["513G"],
    4096: ["8193G"],
    65536: ["2049T"],
    2 << 20: ["3E"],
}


def create_both(case: Case, target: Target, size: str) -> None:
    """Make it with both and hold the files against each other."""
    theirs, ours = case.folder / "theirs", case.folder / "ours"
    words = ["create", "-q", "-f", target.driver, *target.words]
    case.theirs(*words, theirs, size)
    case.ours(*words, ours, size)
    case.same_files(theirs, ours)
    if target.driver == "qcow2":
        case.nothing_to_find(target.disk(ours))
        case.same_info(target.disk(ours))


@pytest.mark.parametrize("passphrase", [None, PASSPHRASE], ids=["plain", "aes"])
@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("cluster_size", CLUSTER_SIZES)
def test_sizes(new_case: NewCase, cluster_size: int, version: int, passphrase: str | None) -> None:
    with new_case() as case:
        for size in SIZES:
            create_both(case, Target("qcow2", cluster_size, version, passphrase), size)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cluster_size", "size"), [(c, size) for c, sizes in LARGE.items() for size in sizes]
)
def test_large_disks(new_case: NewCase, cluster_size: int, size: str) -> None:
    """Long L1 tables, which may need more refcount blocks than the first."""
    with new_case() as case:
        create_both(case, Target(cluster_size=cluster_size, passphrase=PASSPHRASE), size)


@pytest.mark.parametrize("size", ["0", "1", "511", "1000001", "3G"])
def test_raw(new_case: NewCase, size: str) -> None:
    with new_case() as case:
        create_both(case, Target("raw"), size)


@pytest.mark.parametrize(
    "more",
    [
        "lazy_refcounts=on",
        "lazy_refcounts=off",
        "compression_type=zstd",
        "compression_type=zlib",
        "compression_type=zstd,lazy_refcounts=on",
        "refcount_bits=16",
        "preallocation=off,extended_l2=off,nocow=on",
        *(f"refcount_bits={1 << order}" for order in range(7)),
    ],
)
@pytest.mark.parametrize("cluster_size", [512, 4096, 8192, 2 << 20])
def test_options(new_case: NewCase, cluster_size: int, more: str) -> None:
    with new_case() as case:
        for passphrase in (None, PASSPHRASE):
            create_both(case, Target("qcow2", cluster_size, 3, passphrase, more), "10M")


def create_both_here(
    case: Case, monkeypatch: pytest.MonkeyPatch, target: Target, size: str, *words: str
) -> None:
    """The same, each in a folder of its own: data files are named relative to that."""
    for run, name in ((case.theirs, "theirs"), (case.ours, "ours")):
        folder = case.folder / name
        folder.mkdir(exist_ok=True)
        (folder / "base").write_bytes(bytes(range(256)) * 1000)
        monkeypatch.chdir(folder)
        run("create", "-q", "-f", "qcow2", *target.words, *words, "image", size)
    ours = case.folder / "ours"
    for path in ours.iterdir():
        case.same_files(case.folder / "theirs" / path.name, path)
    case.nothing_to_find(target.disk(Path("image")))
    case.same_info(target.disk(Path("image")))
    for path in (*ours.iterdir(), *(case.folder / "theirs").iterdir()):
        path.unlink()


PREALLOCATED = ["0", "512", "100001", "3M", "20M"]


@pytest.mark.parametrize("mode", ["metadata", "falloc", "full"])
@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("cluster_size", [512, 1024, 4096, 65536, 2 << 20])
def test_preallocation(new_case: NewCase, cluster_size: int, version: int, mode: str) -> None:
    with new_case() as case:
        for size in PREALLOCATED:
            create_both(case, Target("qcow2", cluster_size, version, more=f"preallocation={mode}"),
                        size)  # fmt: skip


@pytest.mark.parametrize("mode", ["metadata", "falloc"])
@pytest.mark.parametrize("bits", [1, 8, 64])
@pytest.mark.parametrize("cluster_size", [512, 4096])
def test_preallocation_and_refcount_widths(
    new_case: NewCase, cluster_size: int, bits: int, mode: str
) -> None:
    """Wide refcounts: many refcount blocks, and a refcount table that grows."""
    with new_case() as case:
        more = f"preallocation={mode},refcount_bits={bits}"
        for size in ("3M", "20M"):
            create_both(case, Target(cluster_size=cluster_size, more=more), size)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cluster_size", "bits", "size"),
    [(65536, 16, "5G"), (65536, 64, "1G"), (8192, 64, "600M"), (2 << 20, 16, "9G")],
)
def test_preallocation_of_more_than_one_request(
    new_case: NewCase, cluster_size: int, bits: int, size: str
) -> None:
    """qemu-img places at most 2 GiB at once, and looks at a whole L2 table each time."""
    with new_case() as case:
        more = f"preallocation=metadata,refcount_bits={bits}"
        create_both(case, Target(cluster_size=cluster_size, more=more), size)


@pytest.mark.parametrize("passphrase", [None, PASSPHRASE], ids=["plain", "aes"])
@pytest.mark.parametrize("mode", ["off", "metadata", "falloc", "full"])
@pytest.mark.parametrize("cluster_size", [16384, 65536, 2 << 20])
def test_extended_l2(
    new_case: NewCase, cluster_size: int, mode: str, passphrase: str | None
) -> None:
    """Encrypted ones too: no subcluster is allocated, so QEMU itself reads zeros there."""
    more = f"extended_l2=on,preallocation={mode}"
    with new_case() as case:
        for size in PREALLOCATED:
            create_both(case, Target("qcow2", cluster_size, 3, passphrase, more), size)


@pytest.mark.parametrize("mode", ["off", "metadata", "falloc", "full"])
@pytest.mark.parametrize("raw", ["on", "off"])
@pytest.mark.parametrize(
    ("cluster_size", "extended"), [(512, "off"), (65536, "off"), (65536, "on")]
)
def test_data_file(
    new_case: NewCase,
    monkeypatch: pytest.MonkeyPatch,
    cluster_size: int,
    extended: str,
    raw: str,
    mode: str,
) -> None:
    more = f"data_file=data,data_file_raw={raw},preallocation={mode},extended_l2={extended}"
    with new_case() as case:
        for size in PREALLOCATED:
            target = Target(cluster_size=cluster_size, more=more)
            create_both_here(case, monkeypatch, target, size)


@pytest.mark.parametrize("passphrase", [None, PASSPHRASE], ids=["plain", "aes"])
@pytest.mark.parametrize(
    ("version", "cluster_size", "more"),
    [
        (2, 512, ""),
        (2, 65536, ""),
        (3, 512, ""),
        (3, 65536, "lazy_refcounts=on,compression_type=zstd"),
        (3, 65536, "data_file=data"),
        (3, 16384, "extended_l2=on,preallocation=metadata"),
        (3, 65536, "extended_l2=on,preallocation=falloc"),
    ],
)
def test_backing_file(
    new_case: NewCase,
    monkeypatch: pytest.MonkeyPatch,
    version: int,
    cluster_size: int,
    more: str,
    passphrase: str | None,
) -> None:
    with new_case() as case:
        target = Target("qcow2", cluster_size, version, passphrase, more)
        create_both_here(case, monkeypatch, target, "1M", "-b", "base", "-F", "raw")


@pytest.mark.parametrize(
    ("version", "more"),
    [
        *((3, f"preallocation={mode}") for mode in ("metadata", "falloc", "full")),
        (2, "preallocation=full"),
        (3, "data_file=data,data_file_raw=on"),
        (3, "data_file=data,preallocation=falloc"),
        (3, "data_file=data,data_file_raw=on,extended_l2=on"),
        (3, "extended_l2=on,preallocation=full"),
    ],
)
@pytest.mark.parametrize("cluster_size", [16384, 2 << 20])
def test_an_encrypted_preallocated_disk_reads_as_zeros(
    new_case: NewCase,
    monkeypatch: pytest.MonkeyPatch,
    cluster_size: int,
    version: int,
    more: str,
) -> None:
    """Where QEMU's own would read as noise.  What is then written by QEMU stands there."""
    with new_case() as case:
        monkeypatch.chdir(case.folder)
        target = Target("qcow2", cluster_size, version, PASSPHRASE, more)
        case.ours("create", "-q", "-f", "qcow2", *target.words, "image", "5000000")
        disk = target.disk(Path("image"))
        size = 5000192
        case.nothing_to_find(disk)
        case.holds(disk, 0, 0, size)
        length = Path("image").stat().st_size
        case.qemu_io(disk, "write -P 7 70000 3000", f"write -P 8 {size - 512} 512")
        case.holds(disk, 7, 70000, 3000)
        case.holds(disk, 0, 73000, size - 512 - 73000)
        case.nothing_to_find(disk)
        if "preallocation" in more:
            assert Path("image").stat().st_size == length, "the space was not there already"


@pytest.mark.parametrize(
    ("target", "size"),
    [
        *((Target(cluster_size=c), size) for c, sizes in TOO_LARGE.items() for size in sizes),
        (Target(cluster_size=256), "1M"),
        (Target(cluster_size=1000), "1M"),
        (Target(cluster_size=4 << 20), "1M"),
        (Target(cluster_size=0), "1M"),
        (Target(version=2, more="lazy_refcounts=on"), "1M"),
        (Target(version=2, more="compression_type=zstd"), "1M"),
        (Target(version=2, more="refcount_bits=8"), "1M"),
        (Target(more="refcount_bits=3"), "1M"),
        (Target(more="refcount_bits=128"), "1M"),
        (Target(more="compression_type=lz4"), "1M"),
        (Target(more="bogus=1"), "1M"),
        (Target(), "-1"),
        (Target(), "9E"),
        (Target(), "16E"),
        (Target("raw"), "9E"),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{value.cluster_size}-{value.more}",
)
def test_limits(new_case: NewCase, target: Target, size: str) -> None:
    """Both refuse, and nothing is left behind."""
    with new_case() as case:
        for run in (case.theirs, case.ours):
            path = case.folder / "target"
            outcome = run("create", "-q", "-f", target.driver, *target.words, path, size,
                          check=False)  # fmt: skip
            assert outcome.status == 1, outcome
            assert outcome.stderr
            assert not path.exists()
