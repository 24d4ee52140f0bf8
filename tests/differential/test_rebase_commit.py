"""``rebase`` and ``commit``: by qemu-img and by us, on copies of the same folder.

The same exit code and words, and afterwards every image of the folder has the same disk, names
the same backing file, and is sound.
"""

from __future__ import annotations

import random
import shlex
import shutil
from pathlib import Path

import pytest
from support.differential import run_main

from qcow2crypt.testing.witness import QemuImg

S0 = "--object secret,id=s0,data=hunter2"
S1 = "--object secret,id=s1,data=another"
CRYPT = "-o encrypt.format=aes,encrypt.key-secret"
BACKED = "driver=qcow2,encrypt.key-secret=s0,file.filename={},backing.driver=qcow2"
OVER_AES = BACKED.format("aesover.qcow2") + ",backing.encrypt.key-secret=s1"
OVER_PLAIN = BACKED.format("aesplain.qcow2")
PLAIN_AES = "driver=qcow2,file.filename=plainaes.qcow2,backing.encrypt.key-secret=s1"

OVERLAYS = {
    "over.qcow2": "-b base.raw -F raw",
    "long.qcow2": "-b base.raw -F raw LONG",
    "short.qcow2": "-b base.raw -F raw 100k",
    "v2.qcow2": "-b base.raw -F raw -o compat=0.10",
    "extended.qcow2": "-b base.raw -F raw -o extended_l2=on",
    "tiny.qcow2": "-b base.raw -F raw -o cluster_size=512",
    "onqcow.qcow2": "-b base.qcow2 -F qcow2",
    "middle.qcow2": "-b base.qcow2 -F qcow2 150k",
    "top.qcow2": "-b middle.qcow2 -F qcow2 290k",
    "plainaes.qcow2": "-u -b aes.qcow2 -F qcow2 300k",
    "aesplain.qcow2": f"-b base.qcow2 -F qcow2 {CRYPT}=s0",
    "aesover.qcow2": f"-u -b aes.qcow2 -F qcow2 {CRYPT}=s0 300k",
}
"""Made in this order, each with some writes."""

LINES = [
    *(f"commit {flag} {name}" for flag in ("", "-d") for name in list(OVERLAYS)[:9]),
    "commit -b base.qcow2 top.qcow2",
    "commit -b middle.qcow2 top.qcow2",
    "commit -b nothing top.qcow2",
    f"commit {S0} {S1} --image-opts {OVER_AES}",
    f"commit {S0} {S1} --image-opts {OVER_PLAIN}",
    f"commit {S0} {S1} --image-opts {PLAIN_AES}",
    "commit -q over.qcow2",
    "commit -t none -r 1M over.qcow2",
    "commit -t bogus over.qcow2",
    "commit",
    "commit over.qcow2 top.qcow2",
    "commit base.qcow2",
    "commit -f raw base.raw",
    "commit missing.qcow2",
    "commit snapshots.qcow2",
    *(
        f"rebase -b {base} {name}"
        for base in ("other.raw -F raw", "other.qcow2 -F qcow2", "''")
        for name in list(OVERLAYS)[:9]
    ),
    "rebase -b base.qcow2 -F qcow2 top.qcow2",
    "rebase -b base.raw -F raw base.qcow2",
    f"rebase {S0} {S1} -b @/other.raw -F raw --image-opts {OVER_AES}",
    f"rebase {S0} {S1} -b '' --image-opts {OVER_AES}",
    f"rebase {S0} {S1} -b @/base.qcow2 -F qcow2 --image-opts {PLAIN_AES}",
    f"rebase {S0} -b @/other.qcow2 -F qcow2 --image-opts {OVER_PLAIN}",
    "rebase -u -b other.raw -F raw over.qcow2",
    "rebase -u -b '' over.qcow2",
    "rebase -u over.qcow2",
    "rebase -u -b other.raw -F raw v2.qcow2",
    "rebase -u -b missing.vmdk -F vmdk tiny.qcow2",
    "rebase -u -b a-rather-long-name-for-a-file.raw -F raw base.qcow2",
    "rebase -b other.raw over.qcow2",
    "rebase -u -b other.raw over.qcow2",
    "rebase -b other.raw -F bogus over.qcow2",
    "rebase -b missing.raw -F raw over.qcow2",
    "rebase -b over.qcow2 -F qcow2 over.qcow2",
    "rebase over.qcow2",
    "rebase -b other.raw -F raw missing.qcow2",
    "rebase -b other.raw -F raw over.qcow2 top.qcow2",
    "rebase -b base.raw -F raw -f raw other.raw",
    "rebase -u -b " + "x" * 1100 + " -F raw over.qcow2",
]


@pytest.fixture(scope="module")
def prepared(qemu_img: QemuImg, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("rebase")
    noise = random.Random(5)
    data = noise.randbytes(200 << 10) + bytes(70 << 10) + noise.randbytes(30 << 10)
    (place / "base.raw").write_bytes(data)
    other = bytearray(data)
    other[5000:6000] = bytes(1000)
    other[70 << 10 : 90 << 10] = noise.randbytes(20 << 10)
    (place / "other.raw").write_bytes(other[: 250 << 10])
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)

        def run(line: str) -> None:
            qemu_img.run(*shlex.split(line))

        run("convert -O qcow2 base.raw base.qcow2")
        run("convert -O qcow2 -c other.raw other.qcow2")
        run("resize -q other.qcow2 400k")
        run(f"convert {S1} -O qcow2 {CRYPT}=s1 base.raw aes.qcow2")
        for name, words in OVERLAYS.items():
            made = words.split()
            size = made.pop() if made[-1][0].isdigit() or made[-1] == "LONG" else ""
            size = {"LONG": "500k"}.get(size, size)
            run(f"create -q {S0} -f qcow2 {' '.join(made)} {name} {size}")
            _fill(qemu_img, name, noise)
        run("convert -O qcow2 base.raw snapshots.qcow2")
        run("rebase -u -b base.raw -F raw snapshots.qcow2")
        run("snapshot -c one snapshots.qcow2")
        _fill(qemu_img, "snapshots.qcow2", noise)
    return place


def _options(name: str) -> str:
    return {
        "aesover.qcow2": OVER_AES,
        "aesplain.qcow2": OVER_PLAIN,
        "plainaes.qcow2": PLAIN_AES,
        "aes.qcow2": "driver=qcow2,encrypt.key-secret=s1,file.filename=aes.qcow2",
    }.get(name, f"driver=qcow2,file.filename={name}")


def _fill(qemu: QemuImg, name: str, noise: random.Random) -> None:
    size = 100 if name == "short.qcow2" else 150 if name == "middle.qcow2" else 290
    words: list[str] = []
    for _ in range(6):
        at = noise.randrange(size - 20)
        words += ["-c", f"write -q -P {noise.randrange(1, 255)} {at}k {noise.randint(1, 18)}k"]
    words += ["-c", f"write -q -z {noise.randrange(size - 70)}k 66k"]
    words += ["-c", f"discard -q {noise.randrange(size - 20)}k 8k"]
    secrets = shlex.split(f"{S0} {S1}")
    done = qemu._run(qemu.io, *secrets, "--image-opts", *words, _options(name), check=False)
    assert not done.returncode, done


def _disk(qemu: QemuImg, name: str) -> bytes | None:
    """The disk with its backing files; None where it cannot be read (a name of no file)."""
    secrets = shlex.split(f"{S0} {S1}")
    after = Path("after.raw")
    options = _options(name)
    info = qemu.run("info", "-U", "--output=json", name).stdout
    if '"backing-filename": "aes.qcow2"' not in info:
        options = ",".join(part for part in options.split(",") if not part.startswith("backing."))
    done = qemu.run("convert", *secrets, "--image-opts", "-O", "raw", options, after, check=False)
    return None if done.returncode else after.read_bytes()


def _words(line: str, folder: Path) -> list[str]:
    """The line for one folder: with image options, QEMU takes no name beside the image."""
    return [word.replace("@", str(folder)) for word in shlex.split(line)]


@pytest.mark.parametrize("line", LINES)
def test_lines(
    line: str, prepared: Path, qemu_img: QemuImg, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for side in ("theirs", "ours"):
        shutil.copytree(prepared, tmp_path / side)
    monkeypatch.chdir(tmp_path / "theirs")
    by_them = qemu_img.run(*_words(line, tmp_path / "theirs"), check=False)
    monkeypatch.chdir(tmp_path / "ours")
    by_us = run_main(_words(line, tmp_path / "ours"))
    assert by_us.status == by_them.returncode, (by_them, by_us)
    assert "a fault of" not in by_us.stderr
    assert by_us.stdout == by_them.stdout
    base = (tmp_path / "theirs/base.raw").read_bytes()
    assert (tmp_path / "ours/base.raw").read_bytes() == base
    touched = {name for name in (*OVERLAYS, "base.qcow2", "aes.qcow2") if name in line}
    if "top" in line:
        touched |= {"middle.qcow2", "base.qcow2"}
    if "onqcow" in line or "plain" in line:
        touched |= {"base.qcow2"}
    if "aes" in line:
        touched |= {"aes.qcow2"}
    if "snapshots" in line:
        touched |= {"snapshots.qcow2"}
    for name in sorted(touched):
        secrets = shlex.split(f"{S0} {S1}")
        found = []
        for side in ("theirs", "ours"):
            monkeypatch.chdir(tmp_path / side)
            info = qemu_img.run("info", name).stdout.replace(f"{tmp_path / side}/", "")
            kept = [row for row in info.splitlines() if "backing file" in row or "virtual" in row]
            found.append((kept, _disk(qemu_img, name)))
        assert found[0] == found[1], name
        options = _options(name).partition(",backing.")[0]
        options += ",backing=" if "backing file" in info else ""
        done = qemu_img.run("check", *secrets, "--image-opts", options)
        assert "No errors were found" in done.stdout


@pytest.mark.parametrize("base", ["a.qcow2", "b.qcow2", "./sub/../a.qcow2", "link.qcow2"])
@pytest.mark.parametrize("unsafe", [True, False])
def test_an_image_does_not_lie_on_itself(
    qemu_img: QemuImg, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: str, unsafe: bool
) -> None:
    """``qemu-img rebase -u`` makes a loop, and then nobody can open the image."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    (tmp_path / "link.qcow2").symlink_to("b.qcow2")
    qemu_img.run(*shlex.split("create -q -f qcow2 old.qcow2 1M"))
    qemu_img.run(*shlex.split("create -q -f qcow2 -b old.qcow2 -F qcow2 a.qcow2"))
    qemu_img.run(*shlex.split("create -q -f qcow2 -b a.qcow2 -F qcow2 b.qcow2"))
    if unsafe:
        (tmp_path / "old.qcow2").unlink()  # what is under it does not matter
    before = (tmp_path / "a.qcow2").read_bytes()
    done = run_main(["rebase", *(["-u"] if unsafe else []), "-b", base, "-F", "qcow2", "a.qcow2"])
    assert done.status == 1
    assert "would have a loop" in done.stderr
    assert (tmp_path / "a.qcow2").read_bytes() == before


def test_an_emptied_overlay_has_nothing_left(
    prepared: Path, qemu_img: QemuImg, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("over.qcow2", "extended.qcow2", "v2.qcow2", "base.raw"):
        shutil.copy(prepared / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    for name in ("over.qcow2", "extended.qcow2", "v2.qcow2"):
        assert run_main(["commit", name]).status == 0
        extents = qemu_img.run("map", "--output=json", name).stdout
        assert '"depth": 0' not in extents


def test_passphrases_for_each_layer(
    prepared: Path, qemu_img: QemuImg, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In our own words: the overlay's, its backing file's, and the new backing file's."""
    for name in ("aesover.qcow2", "aes.qcow2"):
        shutil.copy(prepared / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "top").write_text("hunter2")
    (tmp_path / "base").write_text("another")
    before = _disk(qemu_img, "aesover.qcow2")
    shutil.copy("aes.qcow2", "new.qcow2")
    qemu_img.run(
        *shlex.split(f"convert {S1} -n --target-image-opts -O qcow2 -f raw"),
        prepared / "other.raw",
        "driver=qcow2,encrypt.key-secret=s1,file.filename=new.qcow2",
        check=False,
    )
    line = (
        "rebase --secret-file top --layer-secret-file 1=base --new-secret-file base "
        "-b new.qcow2 -F qcow2 aesover.qcow2"
    )
    done = run_main(line.split())
    assert done.status == 0, done
    shutil.move("new.qcow2", "aes.qcow2")
    assert run_main(["rebase", "-u", "-b", "aes.qcow2", "-F", "qcow2", "aesover.qcow2"]).status == 0
    assert _disk(qemu_img, "aesover.qcow2") == before
    line = "commit --secret-file top --layer-secret-file aes.qcow2=base aesover.qcow2"
    done = run_main(line.split())
    assert done.status == 0, done
    assert _disk(qemu_img, "aesover.qcow2") == before
    assert _disk(qemu_img, "aes.qcow2") == before
