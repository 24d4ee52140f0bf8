"""``convert --bitmaps`` by qemu-img and by us: the same files, the same bits, the same refusals.

New images are compared byte for byte.  With ``-n``, where clusters lie elsewhere, the bits are read
by a reader of the tests' own, and merged and compared by QEMU.
"""

from __future__ import annotations

import random
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.differential import PASSPHRASE, NewCase, Target, many
from support.dirty_bits import bitmaps, bitmaps_in, marked_in_use, with_table

from qcow2crypt.testing.witness import Disk, QemuImg

K = 1024
SIZE = 5 << 20
RAW = ("raw", "only a qcow2 image of version 3 can have bitmaps")
S0 = f"--object secret,id=s0,data={shlex.quote(PASSPHRASE)}"


def _source(qemu: QemuImg, path: Path, options: str = "", size: int = SIZE) -> None:
    """An image with bitmaps of several granularities, some disabled, some without a bit."""

    def run(line: str) -> None:
        qemu.run(*shlex.split(line))

    run(f"create -q -f qcow2 {options} {path} {size}")
    run(f"bitmap --add {path} first")
    run(f"bitmap --add -g 512 {path} fine")
    run(f"bitmap --add -g 1M {path} coarse")
    qemu.run_io("-c", "write -q -P 1 0 64k", "-c", "write -q -P 7 3M 700k", str(path))
    run(f"bitmap --add --disable -g 4k {path} off")
    run(f"bitmap --merge fine {path} off")
    run(f"bitmap --add {path} empty")


def _kept(path: Path) -> list[tuple[bytes, int, int, bytes]]:
    found = bitmaps_in(path.read_bytes())
    return [(one.name, one.flags, one.granularity_bits, one.bits) for one in found]


@pytest.mark.parametrize(
    "options", ["", "-o cluster_size=512", "-o cluster_size=2M,extended_l2=on"]
)
@pytest.mark.parametrize(
    "words",
    [
        "",
        "-o cluster_size=512",
        "-o cluster_size=2M",
        "-c",
        "-c -o cluster_size=4k",
        "-S 0",
        "-o refcount_bits=1,cluster_size=1k",
        "-o extended_l2=on",
        "-o preallocation=metadata",
        "-o preallocation=falloc,cluster_size=512",
        "-o lazy_refcounts=on",
        f"{S0} -o encrypt.format=aes,encrypt.key-secret=s0",
    ],
)
def test_same_files(new_case: NewCase, options: str, words: str) -> None:
    with new_case() as case:
        source, theirs, ours = (case.folder / name for name in ("source", "theirs", "ours"))
        _source(case.qemu, source, options)
        for run, target in ((case.theirs, theirs), (case.ours, ours)):
            run("convert", "--bitmaps", "-O", "qcow2", *shlex.split(words), source, target)
        case.same_files(theirs, ours)
        assert _kept(ours) == _kept(source)
        assert len(_kept(ours)) == 5
        case.nothing_to_find(Disk(ours, passphrase=PASSPHRASE if "aes" in words else None))
        case.ours("check", ours)


def test_an_encrypted_source_and_its_backing_file(new_case: NewCase) -> None:
    """Only the bitmaps of the top layer go, in clear."""
    with new_case() as case:
        base, source = case.folder / "base", case.folder / "source"
        _source(case.qemu, base)
        secret = shlex.split(S0)
        aes = "encrypt.format=aes,encrypt.key-secret=s0"
        case.theirs(
            *("create", "-q", *secret, "-f", "qcow2", "-o", aes),
            *("-b", base),
            "-F",
            "qcow2",
            source,
        )
        disk = Disk(source, passphrase=PASSPHRASE)
        opened = ("--image-opts", disk.options("s0"))
        case.theirs("bitmap", *secret, "--add", *opened, "mine")
        case.qemu_io(disk, "write -q -P 3 1M 100k")
        theirs, ours = case.folder / "theirs", case.folder / "ours"
        for run, target in ((case.theirs, theirs), (case.ours, ours)):
            run("convert", *secret, "--bitmaps", *opened, "-O", "qcow2", target)
        case.same_files(theirs, ours)
        assert [row[0] for row in _kept(ours)] == [b"mine"]
        assert any(_kept(ours)[0][3])


@many
@given(data=st.data())
def test_random_bitmaps(new_case: NewCase, data: st.DataObject) -> None:
    """Tables of any content: clusters of bits, all ones, nothing; bits behind the disk's end."""
    source_bits, target_bits = (data.draw(st.integers(9, 17)) for _ in range(2))
    size = data.draw(st.integers(1, 12_000)) * 512
    names = data.draw(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=4, unique=True))
    noise = random.Random(data.draw(st.integers(0, 1 << 16)))
    with new_case() as case:
        source, theirs, ours = (case.folder / name for name in ("source", "theirs", "ours"))
        options = ("-o", f"cluster_size={1 << source_bits}")
        case.theirs("create", "-q", "-f", "qcow2", *options, source, str(size))
        for name in names:
            granularity = data.draw(st.integers(9, 20))
            more = data.draw(st.sampled_from([(), ("--disable",)]))
            case.theirs("bitmap", "--add", *more, "-g", str(1 << granularity), source, name)
        # Nobody counts the clusters that this adds: the last change of the source.
        for seen in bitmaps_in(source.read_bytes()):
            clusters: dict[int, bytes | None] = {}
            for index in range(seen.entries):
                kind = noise.choice(["nothing", "ones", "bits", "few", "zeros"])
                if kind == "bits":
                    clusters[index] = noise.randbytes(1 << source_bits)
                elif kind == "few":
                    few = bytearray(1 << source_bits)
                    few[noise.randrange(min(len(seen.bits), len(few)))] = 1 << noise.randrange(8)
                    clusters[index] = bytes(few)
                elif kind != "nothing":
                    clusters[index] = None if kind == "ones" else bytes(1 << source_bits)
            source.write_bytes(with_table(source.read_bytes(), seen.name, clusters))
        options = ("-o", f"cluster_size={1 << target_bits}")
        for run, target in ((case.theirs, theirs), (case.ours, ours)):
            run("convert", "--bitmaps", "-O", "qcow2", *options, source, target)
        case.same_files(theirs, ours)
        assert [row[:3] for row in _kept(ours)] == [row[:3] for row in _kept(source)]
        case.nothing_to_find(Disk(ours))


EXISTING: dict[str, tuple[str, tuple[str, ...]]] = {
    "simple": ("", ()),
    "snapshot": ("", ("snapshot -c one target",)),
    "bitmaps": ("-o cluster_size=512", ("bitmap --add --disable target there",)),
    "backed": ("-b base -F raw", ()),
    "lazy": ("-b base -F raw -o lazy_refcounts=on", ("bitmap --add --disable target there",)),
    "data-file": ("-o data_file=data", ()),
    "narrow": ("-b base -F raw -o refcount_bits=1", ()),
    "extended": ("-b base -F raw -o extended_l2=on", ()),
}


@pytest.mark.parametrize("kind", EXISTING)
def test_into_an_existing_image(
    new_case: NewCase, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    options, more = EXISTING[kind]
    with new_case() as case:
        for run, name in ((case.theirs, "theirs"), (case.ours, "ours")):
            folder = case.folder / name
            folder.mkdir()
            monkeypatch.chdir(folder)
            Path("base").write_bytes(b"b" * SIZE)
            _source(case.qemu, Path("source"))
            case.theirs(*shlex.split(f"create -q -f qcow2 {options} target {SIZE}"))
            for line in more:
                case.theirs(*shlex.split(line))
            run("convert", "--bitmaps", "-n", "-O", "qcow2", "source", "target")
        assert _kept(Path("target")) == _kept(case.folder / "theirs" / "target")
        assert len(_kept(Path("target"))) == 5 + ("there" in str(more))
        disk = Disk(Path("target"))
        case.nothing_to_find(disk)
        case.ours("check", "target")
        assert case.qemu.compare(Disk(Path("source")), disk)
        # QEMU itself reads the bits: what it merges into a bitmap of its own is the same.
        for name in ("first", "fine", "coarse", "off", "empty"):
            case.theirs("bitmap", "--add", "--disable", "target", f"merged-{name}")
            case.theirs("bitmap", "--merge", name, "target", f"merged-{name}")
        for source, merged in zip(_kept(Path("source")), _kept(Path("target"))[-5:], strict=True):
            assert any(source[3]) == any(merged[3])
            assert merged[0] == b"merged-" + source[0]


@pytest.mark.parametrize("words", ["", "-c"])
def test_those_of_the_target_record_and_the_copies_do_not(
    new_case: NewCase, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    """The same bits as with qemu-img, which is told here not to write zeros over zeros."""
    with new_case() as case:
        found = []
        for run, name in ((case.theirs, "theirs"), (case.ours, "ours")):
            folder = case.folder / name
            folder.mkdir()
            monkeypatch.chdir(folder)
            _source(case.qemu, Path("source"))
            case.theirs("create", "-q", "-f", "qcow2", "target", str(SIZE))
            case.theirs("bitmap", "--add", "target", "there")
            case.theirs("bitmap", "--add", "--disable", "target", "idle")
            more = (*words.split(), "--bitmaps", "--target-is-zero")
            run("convert", "-n", *more, "-O", "qcow2", "source", "target")
            found.append(bitmaps(Path("target").read_bytes()))
        assert found[0] == found[1]
        before = bitmaps(Path("source").read_bytes())
        own = {name: found[1].pop(name) for name in ("there", "idle")}
        assert found[1] == before
        assert own["there"].dirty == {bit // 128 for bit in before["fine"].dirty}
        assert not own["idle"].dirty
        case.nothing_to_find(Disk(Path("target")))


def _broken(qemu: QemuImg) -> None:
    _source(qemu, Path("source"))
    content = marked_in_use(Path("source").read_bytes(), b"fine", b"empty")
    Path("source").write_bytes(content)


def _old(qemu: QemuImg) -> None:
    qemu.run("create", "-q", "-f", "qcow2", "-o", "compat=0.10", "source", str(SIZE))


def _plain(qemu: QemuImg) -> None:
    _source(qemu, Path("source"))


def _there(qemu: QemuImg) -> None:
    _source(qemu, Path("source"))
    shutil.copy("source", "target")


def _larger(qemu: QemuImg) -> None:
    _source(qemu, Path("source"))
    qemu.run("create", "-q", "-f", "qcow2", "target", str(SIZE + 512))


def _old_target(qemu: QemuImg) -> None:
    _source(qemu, Path("source"))
    qemu.run("create", "-q", "-f", "qcow2", "-o", "compat=0.10", "target", str(SIZE))


def _raw_target(qemu: QemuImg) -> None:
    _source(qemu, Path("source"))
    qemu.run("create", "-q", "-f", "raw", "target", str(SIZE))


def _raw_source(qemu: QemuImg) -> None:
    qemu.run("create", "-q", "-f", "raw", "source", str(SIZE))


@pytest.mark.parametrize(
    ("make", "words", "says"),
    [
        (_broken, "--bitmaps -O qcow2 source target", "bitmap 'fine' of 'source' is inconsistent"),
        (_broken, "--bitmaps source target", "is inconsistent"),
        (_plain, "--bitmaps source target", RAW[1]),
        (_plain, "--bitmaps -O qcow2 -o compat=0.10 source target", RAW[1]),
        (_plain, "--bitmaps -O qcow2 source source target", "from one source only"),
        (_plain, "--skip-broken-bitmaps -O qcow2 source target", "needs --bitmaps"),
        (_raw_source, "--bitmaps -f raw -O qcow2 source target", "bitmaps of 'source'"),
        (_old, "--bitmaps -O qcow2 source target", "bitmaps of 'source'"),
        (_there, "--bitmaps -n -O qcow2 source target", "has a bitmap 'first' already"),
        (_larger, "--bitmaps -n -O qcow2 source target", "of a disk of 5242880 bytes"),
        (_old_target, "--bitmaps -n -O qcow2 source target", RAW[1]),
        (_raw_target, "--bitmaps -n -O raw source target", RAW[1]),
    ],
)
def test_refused_by_both(
    new_case: NewCase,
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[QemuImg], None],
    words: str,
    says: str,
) -> None:
    """An error for both programs; ours leaves the target as it was."""
    with new_case() as case:
        monkeypatch.chdir(case.folder)
        make(case.qemu)
        before = Path("target").read_bytes() if Path("target").exists() else None
        ours = case.ours("convert", *shlex.split(words), check=False)
        assert (ours.status, says in ours.stderr) == (1, True), ours.stderr
        assert (Path("target").read_bytes() if Path("target").exists() else None) == before
        assert case.theirs("convert", *shlex.split(words), check=False).status == 1


def test_inconsistent_bitmaps_are_left_out(
    new_case: NewCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    with new_case() as case:
        monkeypatch.chdir(case.folder)
        _broken(case.qemu)
        words = ["convert", "--bitmaps", "--skip-broken-bitmaps", "-O", "qcow2", "source"]
        theirs = case.theirs(*words, "theirs")
        ours = case.ours(*words, "ours")
        case.same_files(Path("theirs"), Path("ours"))
        assert [row[0] for row in _kept(Path("ours"))] == [b"first", b"coarse", b"off"]
        for name in ("fine", "empty"):
            assert f"'{name}'" in theirs.stderr
            assert f"warning: bitmap '{name}' is inconsistent and was left out" in ours.stderr


def test_no_bitmaps_to_copy(new_case: NewCase) -> None:
    """A source that could have some and has none is no error; and a snapshot has its image's."""
    with new_case() as case:
        target = Target()
        source = case.make(target, SIZE)
        for more in ((), ("-l", "one")):
            theirs, ours = case.convert(source, target, "--bitmaps", *more)
            case.same_files(theirs.path, ours.path)
            assert len(_kept(ours.path)) == (5 if more else 0)
            _source(case.qemu, source.path)
            case.theirs("snapshot", "-c", "one", source.path)


def test_not_to_standard_output() -> None:
    from support.differential import run_main

    done = run_main(["convert", "--bitmaps", "source", "-"])
    assert done.status == 1
    assert "--bitmaps cannot be with standard output" in done.stderr
