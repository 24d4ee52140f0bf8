"""Empty images: the same bytes as qemu-img's, the same limits."""

from __future__ import annotations

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
    ],
)
@pytest.mark.parametrize("cluster_size", [512, 4096, 8192, 2 << 20])
def test_options(new_case: NewCase, cluster_size: int, more: str) -> None:
    with new_case() as case:
        for passphrase in (None, PASSPHRASE):
            create_both(case, Target("qcow2", cluster_size, 3, passphrase, more), "10M")


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
