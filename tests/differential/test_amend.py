"""``amend`` and ``bitmap``: by qemu-img and by us, on copies.

The same exit code; the disk stays what it was, the image is sound, and says of itself what it
says after qemu-img.  (What QEMU spoils is compared with the disk before, not with QEMU.)
"""

from __future__ import annotations

import random
import shlex
import shutil
from pathlib import Path

import pytest
from support.differential import run_main

from qcow2crypt.testing.witness import Disk, QemuImg

S0 = "--object secret,id=s0,data=hunter2"
AES = "driver=qcow2,encrypt.key-secret=s0,file.filename={}"

IMAGES = {
    "v3.qcow2": "",
    "v2.qcow2": "-o compat=0.10",
    "small.qcow2": "-o cluster_size=512",
    "lazy.qcow2": "-o lazy_refcounts=on",
    "narrow.qcow2": "-o refcount_bits=1",
    "extended.qcow2": "-o extended_l2=on",
    "zstd.qcow2": "-o compression_type=zstd",
    "aes.qcow2": "-o encrypt.format=aes,encrypt.key-secret=s0",
    "aesover.qcow2": "-o encrypt.format=aes,encrypt.key-secret=s0 -b base.raw -F raw",
    "over.qcow2": "-b base.raw -F raw",
    "snapshots.qcow2": "",
    "bitmap.qcow2": "",
    "data.qcow2": "-o data_file=data.raw",
    "rawdata.qcow2": "-o data_file=rawdata.raw,data_file_raw=on",
}
OPTIONS = [
    "compat=0.10",
    "compat=1.1",
    "compat=v3,lazy_refcounts=on",
    "lazy_refcounts=on",
    "lazy_refcounts=off",
    "compat=0.10,lazy_refcounts=on",
    "refcount_bits=16",
    "refcount_bits=64",
    "refcount_bits=1",
    "compat=0.10,refcount_bits=16",
    "compat=0.10,refcount_bits=8",
    "size=2M",
]
LINES = [
    *(
        f"amend -o {option} {name}"
        for option in OPTIONS
        for name in IMAGES
        if not name.startswith(("aes", "bitmap", "data", "raw"))
        # Here we refuse: QEMU leaves what version 2 cannot read, or forgets what was asked.
        and (name, option[:11]) != ("zstd.qcow2", "compat=0.10")
        and (name, option) != ("lazy.qcow2", "compat=0.10,lazy_refcounts=on")
    ),
    *(
        f"amend {S0} -o {option} --image-opts {AES.format('aes.qcow2')}"
        for option in ("compat=1.1", "lazy_refcounts=on", "refcount_bits=8", "size=1M")
    ),
    "amend",
    "amend v3.qcow2",
    "amend -o compat=1.1",
    "amend -o compat=1.1 v3.qcow2 v2.qcow2",
    "amend -o compat=1.1 missing.qcow2",
    *(
        f"amend -o {option} v3.qcow2"
        for option in (
            *("''", "nosuch=1", "compat=0.9", "refcount_bits=7", "cluster_size=64k", "nocow=on"),
            *(
                "encrypt.format=aes",
                "encryption=off",
                "encryption=on",
                "encrypt.state=active",
                "backing_file=base.raw",
                "data_file=x",
            ),
            *("preallocation=off", "compression_type=zstd", "encrypt.new-secret=s0", "size=x"),
        )
    ),
    f"amend {S0} -o encrypt.format=aes --image-opts {AES.format('aes.qcow2')}",
    f"amend {S0} -o encrypt.new-secret=s0 --image-opts {AES.format('aes.qcow2')}",
    "amend -f raw -o size=1 base.raw",
    "amend -q -t none --force -o compat=0.10 v3.qcow2",
    "amend -t bogus -o compat=0.10 v3.qcow2",
]

DATA_LINES = [
    f"amend -o {option} {name}"
    for option in (
        *("data_file=other.raw", "data_file=", "data_file_raw=on", "data_file_raw=off"),
        *("data_file=missing.raw", "data_file=other.raw,data_file_raw=off,size=1M"),
        *("data_file=other.raw,data_file_raw=on", "compat=0.10,data_file=other.raw"),
    )
    for name in ("data.qcow2", "rawdata.qcow2", "v2.qcow2", "v3.qcow2")
]


@pytest.fixture(scope="module")
def prepared(qemu_img: QemuImg, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("amend")
    noise = random.Random(6)
    (place / "base.raw").write_bytes(noise.randbytes(300 << 10))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        for name, words in IMAGES.items():
            qemu_img.run(*shlex.split(f"create -q {S0} -f qcow2 {words} {name} 400k"))
            disk = _disk(Path(name))
            steps = ["write -q -P 5 0 150k", "write -q -P 6 200k 130k", "write -q -P 7 390k 10k"]
            qemu_img.qemu_io(disk, steps)
            if name == "snapshots.qcow2":
                qemu_img.run("snapshot", "-c", "one", name)
                qemu_img.qemu_io(disk, ["write -q -P 9 70k 10k"])
            elif name != "v2.qcow2":
                # With a place in the file, without one, and a part of one.
                qemu_img.qemu_io(
                    disk, ["write -q -z 64k 64k", "write -q -z -u 256k 64k", "write -q -z 10k 3k"]
                )
        qemu_img.run("bitmap", "--add", "-g", "32k", "bitmap.qcow2", "one")
        qemu_img.run("bitmap", "--add", "--disable", "bitmap.qcow2", "two, with a comma")
    return place


def _disk(path: Path) -> Disk:
    return Disk(path, passphrase="hunter2" if path.name.startswith("aes") else None)


def _content(qemu: QemuImg, path: Path) -> bytes:
    raw = path.with_suffix(".after")
    qemu.convert(_disk(path), Disk(raw, "raw"))
    return raw.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("line", LINES)
def test_lines(
    line: str, prepared: Path, qemu_img: QemuImg, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = shlex.split(line)
    touched = [name for name in IMAGES if f" {name}" in line or f"={name}" in line]
    for side in ("theirs", "ours"):
        (tmp_path / side).mkdir()
        for name in [*touched, "base.raw"]:
            shutil.copy(prepared / name, tmp_path / side / name)
    monkeypatch.chdir(tmp_path / "theirs")
    by_them = qemu_img.run(*words, check=False)
    monkeypatch.chdir(tmp_path / "ours")
    by_us = run_main(words)
    assert by_us.status == by_them.returncode, (by_them, by_us)
    assert "a fault of" not in by_us.stderr
    assert by_us.stdout == by_them.stdout
    for name in touched:
        ours, theirs = tmp_path / "ours" / name, tmp_path / "theirs" / name
        report = qemu_img.check(_disk(ours))
        assert not report.get("corruptions")
        assert not report.get("leaks")
        assert _content(qemu_img, ours) == _content(qemu_img, theirs)
        if not by_us.status:
            rows = [
                qemu_img.info(_disk(path))["format-specific"]["data"] for path in (ours, theirs)
            ]
            assert rows[0] == rows[1]


@pytest.mark.parametrize("line", DATA_LINES)
def test_data_files(
    line: str, prepared: Path, qemu_img: QemuImg, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = shlex.split(line)
    name = words[-1]
    files = (name, "data.raw", "rawdata.raw")
    for side in ("theirs", "ours"):
        (tmp_path / side).mkdir()
        for file in files:
            shutil.copy(prepared / file, tmp_path / side / file)
    monkeypatch.chdir(tmp_path / "theirs")
    by_them = qemu_img.run(*words, check=False)
    monkeypatch.chdir(tmp_path / "ours")
    by_us = run_main(words)
    assert by_us.status == by_them.returncode, (by_them, by_us)
    for file in files[1:]:
        assert (tmp_path / "ours" / file).read_bytes() == (tmp_path / "theirs" / file).read_bytes()
    if by_us.status:
        # QEMU has changed the name already when it finds that there is no way to version 2.
        assert (tmp_path / "ours" / name).read_bytes() == (prepared / name).read_bytes()
        return
    rows = [qemu_img.info(Disk(tmp_path / side / name)) for side in ("theirs", "ours")]
    assert rows[0]["format-specific"] == rows[1]["format-specific"]
    assert rows[0]["virtual-size"] == rows[1]["virtual-size"]


def test_the_image_is_not_its_own_data_file(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in ("data.qcow2", "data.raw"):
        shutil.copy(prepared / file, tmp_path / file)
    monkeypatch.chdir(tmp_path)
    done = run_main(["amend", "-o", "data_file=./data.qcow2", "data.qcow2"])
    assert done.status == 1
    assert "is the image itself" in done.stderr


def test_a_data_file_that_is_gone(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message names the way out, and that is one."""
    shutil.copy(prepared / "data.qcow2", tmp_path / "data.qcow2")
    shutil.copy(prepared / "data.raw", tmp_path / "moved.raw")
    monkeypatch.chdir(tmp_path)
    for word in ("amend -o data_file=moved.raw data.qcow2", "map data.qcow2"):
        done = run_main(shlex.split(word))
        assert done.status == 1
        assert "--image-opts with data-file.filename=PATH" in done.stderr
    opts = "driver=qcow2,file.filename=data.qcow2,data-file.filename=moved.raw"
    assert not run_main(["amend", "-o", "data_file=moved.raw", "--image-opts", opts]).status
    assert run_main(["compare", "data.qcow2", str(prepared / "v3.qcow2")]).status == 0


def test_help_lists_what_qemu_lists(qemu_img: QemuImg) -> None:
    """Less backing files and LUKS."""
    theirs = qemu_img.run("amend", "-f", "qcow2", "-o", "help").stdout.splitlines()
    left = [row for row in theirs if not row.strip().startswith(("backing_", "encrypt."))]
    assert run_main(["amend", "-o", "help"]).stdout.splitlines() == left


@pytest.mark.parametrize("name", ["aes.qcow2", "aesover.qcow2"])
def test_an_encrypted_image_goes_to_version_2_unharmed(
    name: str, prepared: Path, qemu_img: QemuImg, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """QEMU makes garbage of its zeros."""
    for file in (name, "base.raw"):
        shutil.copy(prepared / file, tmp_path / file)
    monkeypatch.chdir(tmp_path)
    before = _content(qemu_img, tmp_path / name)
    line = f"amend {S0} -o compat=0.10 --image-opts {AES.format(name)}"
    assert run_main(shlex.split(line)).status == 0
    assert _content(qemu_img, tmp_path / name) == before
    assert not qemu_img.check(_disk(tmp_path / name)).get("leaks")
    assert (tmp_path / name).read_bytes()[7] == 2
    qemu_img.qemu_io(_disk(tmp_path / name), ["write -q -P 9 60k 100k", "read -P 9 60k 100k"])
    assert run_main(shlex.split(line.replace("0.10", "1.1"))).status == 0
    assert not qemu_img.check(_disk(tmp_path / name)).get("leaks")


def test_refused_where_data_would_be_lost(
    prepared: Path, qemu_img: QemuImg, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(prepared / "v3.qcow2", tmp_path / "v3.qcow2")
    shutil.copy(prepared / "bitmap.qcow2", tmp_path / "bitmap.qcow2")
    monkeypatch.chdir(tmp_path)
    qemu_img.run("snapshot", "-c", "one", "v3.qcow2")
    shutil.copy(prepared / "zstd.qcow2", tmp_path / "zstd.qcow2")
    for name, word in (
        ("v3.qcow2", "snapshot"),
        ("bitmap.qcow2", "bitmaps"),
        ("zstd.qcow2", "qcow2crypt convert -o compat=0.10"),
    ):
        before = (tmp_path / name).read_bytes()
        done = run_main(["amend", "-o", "compat=0.10", name])
        assert done.status == 1
        assert word in done.stderr
        assert (tmp_path / name).read_bytes() == before


def test_bitmaps_are_listed(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(prepared)
    done = run_main(["bitmap", "--list", "bitmap.qcow2"])
    assert done.stdout == "one\t32768\tauto\ntwo, with a comma\t65536\t-\n"
    assert run_main(["bitmap", "--list", "v3.qcow2"]).stdout == ""
    for words in (["--add", "bitmap.qcow2", "x"], ["--merge", "a", "bitmap.qcow2", "b"]):
        done = run_main(["bitmap", *words])
        assert done.status == 1
        assert "qemu-img" in done.stderr
