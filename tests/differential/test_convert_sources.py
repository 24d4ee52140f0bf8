"""Every kind of source into every kind of target, with every way to look for zeros."""

from __future__ import annotations

import pytest
from support.differential import PASSPHRASE, SECTOR, Case, NewCase, Target, padded, without_holes
from support.differential_content import content, with_zeros
from support.differential_directions import three_directions
from support.differential_strategies import SPARSE_SIZES

from qcow2crypt.testing.witness import Disk

OLD = "the old passphrase"
SOURCES = ["raw", "plain", "aes", "zlib", "zstd", "holes"]
TARGETS = {
    "raw": Target("raw"),
    "plain-512": Target(cluster_size=512, version=2),
    "plain-64k": Target(),
    "aes-512": Target(cluster_size=512, passphrase=PASSPHRASE),
    "aes-4k": Target(cluster_size=4096, version=2, passphrase=PASSPHRASE),
    "aes-1M": Target(cluster_size=1 << 20, passphrase=PASSPHRASE),
}


def source_of(case: Case, kind: str, guest: bytes, cluster_size: int, *more: str) -> Disk:
    """A disk that holds ``guest``; all but a raw one are written by qemu-img."""
    raw = case.raw(guest, "raw")
    if kind == "raw":
        return raw
    if kind == "holes":
        return with_holes(case, guest)
    path = case.folder / "source"
    words = ["convert", *more, "-f", "raw", "-O", "qcow2"]
    if kind in {"plain", "aes"}:
        made = Target(cluster_size=cluster_size, passphrase=OLD if kind == "aes" else None)
        case.theirs(*words, *made.words, raw.path, path)
        without_holes(path)
        return made.disk(path)
    options = f"cluster_size={cluster_size},compression_type={kind}"
    case.theirs(*words, "-c", "-o", options, raw.path, path)
    without_holes(path)
    return Disk(path)


def with_holes(case: Case, guest: bytes) -> Disk:
    """A raw file in which every 4 KiB of zeros are a hole, where the file system has such."""
    path = case.folder / "source"
    with path.open("wb") as file:
        file.truncate(len(guest))
        for at in range(0, len(guest), 4096):
            part = guest[at : at + 4096]
            if any(part):
                file.seek(at)
                file.write(part)
    return Disk(path, "raw")


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
@pytest.mark.parametrize("cluster_size", [512, 2048, 4096, 65536, 2 << 20])
@pytest.mark.parametrize("kind", SOURCES)
def test_sources(new_case: NewCase, kind: str, cluster_size: int, target: Target) -> None:
    with new_case() as case:
        guest = content("unaligned", 400_000, cluster_size, seed=2)
        source = source_of(case, kind, guest, cluster_size)
        three_directions(case, source, padded(guest), target)


@pytest.mark.slow
@pytest.mark.parametrize("sparse_size", SPARSE_SIZES)
@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
@pytest.mark.parametrize("kind", SOURCES)
def test_how_long_a_run_of_zeros_must_be(
    new_case: NewCase, kind: str, target: Target, sparse_size: int
) -> None:
    with new_case() as case:
        guest = content("tiny", 300_500, 4096, seed=sparse_size)
        guest = guest + bytes(200_000) + content("borders", 200_700, 4096)
        source = source_of(case, kind, guest, 4096)
        three_directions(case, source, padded(guest), target, "-S", str(sparse_size))


@pytest.mark.parametrize("kind", ["plain", "aes"])
@pytest.mark.parametrize("cluster_size", [512, 4096, 65536])
def test_stored_zeros_are_not_kept(new_case: NewCase, kind: str, cluster_size: int) -> None:
    """A source in which everything is allocated gives the same target as a raw one."""
    with new_case() as case:
        guest = content("clusters", 500_000, cluster_size)
        source = source_of(case, kind, guest, cluster_size, "-S", "0")
        _, ours = three_directions(case, source, padded(guest), Target(passphrase=PASSPHRASE))
        from_image = ours.path.rename(case.folder / "from-image")
        _, ours = case.convert(case.raw(guest), Target(passphrase=PASSPHRASE))
        case.same_files(from_image, ours.path)


# Where qemu-img begins a request anew decides what it finds: zeros at the end of a request are
# never stored, and a cluster that two requests share is found by the second.  The sources here
# are made so that this shows.


@pytest.mark.parametrize("sparse_size", [0, 4096, 12288, 20480])
@pytest.mark.parametrize("rest", [SECTOR, 1536, 20480, 40960])
def test_a_source_that_ends_inside_a_cluster(
    new_case: NewCase, rest: int, sparse_size: int
) -> None:
    """The last, partial cluster of the source is read by itself."""
    with new_case() as case:
        end = 3 << 16
        guest = with_zeros(end + rest, [(end - 8192, 8192), (1 << 16, 4608)])
        source = source_of(case, "aes", guest, 1 << 16, "-S", "0")
        target = Target(cluster_size=512, passphrase=PASSPHRASE)
        three_directions(case, source, padded(guest), target, "-S", str(sparse_size))


@pytest.mark.parametrize("cluster_size", [512, 1024, 4096])
def test_a_source_in_one_piece_over_many_l2_tables(new_case: NewCase, cluster_size: int) -> None:
    """An extent is followed to the end of an L2 table, though it goes on behind it."""
    with new_case() as case:
        end = cluster_size // 8 * cluster_size
        size = 2 * end + 5 * cluster_size
        made = Target(cluster_size=cluster_size, passphrase=OLD, more="preallocation=full")
        source = case.make(made, size)
        for at in range(0, size, 1 << 16):
            case.qemu_io(source, f"write -q -P 7 {at} {min(1 << 16, size - at)}")
        case.qemu_io(
            source,
            f"write -q -P 0 {end - 8192} 8192",
            f"write -q -z -u 0 {cluster_size}",
        )
        guest = case.both_read_the_same(source)
        target = Target(cluster_size=512, passphrase=PASSPHRASE)
        three_directions(case, source, guest, target, "-S", "12k")


@pytest.mark.parametrize("passphrase", [None, PASSPHRASE], ids=["plain", "aes"])
@pytest.mark.parametrize("sectors", [21, 39, 55, 101])
def test_requests_that_meet_in_a_cluster_where_a_refcount_block_ends(
    new_case: NewCase, sectors: int, passphrase: str | None
) -> None:
    """The last free cluster that a block counts is taken before the next block is placed."""
    with new_case() as case:
        # In clusters of 1024 bytes a refcount block counts 512 KiB.  Pieces of the source lie in
        # reverse order, so that each is a request; each ends in the middle of a target cluster.
        piece = sectors * SECTOR
        size = (3 << 20) // piece * piece
        source = case.make(Target(cluster_size=512), size)
        starts = range(size - piece, -1, -piece)
        case.qemu_io(source, *(f"write -q -P {1 + at % 251} {at} {piece}" for at in starts))
        guest = case.both_read_the_same(source)
        target = Target(cluster_size=1024, passphrase=passphrase)
        three_directions(case, source, guest, target)


@pytest.mark.parametrize("sparse_size", [12288, 65536, 131072])
def test_zeros_are_looked_for_in_units_of_the_guest_disk(
    new_case: NewCase, sparse_size: int
) -> None:
    """A request that begins inside a unit does not shift the units."""
    with new_case() as case:
        size = 1 << 20
        source = case.make(Target(cluster_size=4096, passphrase=OLD), size)
        zeros = [(80_000, 70_000), (196_608, 65_536), (300_000, 140_000), (600_000, 16_384)]
        case.qemu_io(
            source,
            f"write -q -P 1 4096 {size - 4096}",
            *(f"write -q -P 0 {start} {length}" for start, length in zeros),
        )
        guest = case.both_read_the_same(source)
        target = Target(cluster_size=512, passphrase=PASSPHRASE)
        three_directions(case, source, guest, target, "-S", str(sparse_size))


# Writing into an image that exists.


@pytest.mark.parametrize("old", ["raw", "plain", "aes"])
@pytest.mark.parametrize("size", [300_032, 200_192])
def test_into_an_existing_target(new_case: NewCase, old: str, size: int) -> None:
    """-n: what lies behind the end of a smaller source stays.  Only the guest disks are equal."""
    with new_case() as case:
        before, after = content("clusters", 300_032, 4096, 5), content("tiny", size, 4096, 6)
        new = case.raw(after, "new")
        wanted = after + before[size:]
        for run in (case.theirs, case.ours):
            target = source_of(case, old, before, 4096)
            words = ["convert", "-n", "-f", "raw", *target.secret("old"), "-O", target.driver]
            if target.encrypted:
                words = ["convert", "-n", "--target-image-opts", *target.secret("old")]
                words += ["--image-opts", new.options(""), target.options("old")]
            else:
                words += [str(new.path), str(target.path)]
            run(*words)
            case.same_guest(case.guest_by_us(target), wanted, "we read", target.path)
            case.same_guest(case.guest_by_them(target), wanted, "they read", target.path)
            if target.driver == "qcow2":
                case.nothing_to_find(target)


def test_compression_and_encryption_are_refused_together(new_case: NewCase) -> None:
    with new_case() as case:
        source = case.raw(content("full", 70_000, 4096))
        words = ["convert", "-c", "-f", "raw", "-O", "qcow2", *Target(passphrase="pw").words]
        for run in (case.theirs, case.ours):
            target = case.folder / "target"
            outcome = run(*words, source.path, target, check=False)
            assert outcome.status == 1
            assert "ompression and encryption" in outcome.stderr
            assert not target.exists() or run == case.theirs
