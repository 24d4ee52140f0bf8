"""Images that QEMU's tools changed after they were made: both read the same, and convert alike.

Each row is a list of steps: qemu-io commands as a list, qemu-img commands as a string in which
``X`` stands for the image.  ``c`` is the cluster size.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable
from typing import TypeAlias

import golden
import pytest
from support.differential import PASSPHRASE, Case, NewCase, Target, without_holes
from support.differential_directions import three_directions

from qcow2crypt.testing.witness import Disk

Step: TypeAlias = "str | list[str]"
Steps: TypeAlias = "Callable[[int], list[Step]]"
CLUSTERS = 40


def fill(c: int, pattern: int = 1) -> list[str]:
    """Data in most of the disk, every cluster another byte."""
    return [f"write -q -P {pattern + n} {n * c} {c}" for n in range(CLUSTERS) if n % 7]


CHANGES: dict[str, Steps] = {
    "nothing": lambda _c: [],
    "across clusters": lambda c: [
        [f"write -q -P 5 {c - 512} 1024", f"write -q -P 6 {3 * c + c // 2} {2 * c}"]
    ],
    "less than a sector": lambda c: [
        ["write -q -P 5 1 1", f"write -q -P 6 {c - 3} 7", f"write -q -P 7 {2 * c + 100} 700"],
    ],
    "overwritten": lambda c: [fill(c), fill(c, 80), [f"write -q -P 9 {c + 100} {3 * c}"]],
    "in reverse order": lambda c: [fill(c)[::-1]],
    "zeros written": lambda c: [fill(c), [f"write -q -P 0 {2 * c} {3 * c}"]],
    "zero clusters": lambda c: [
        fill(c),
        [f"write -q -z {2 * c} {3 * c}", f"write -q -z {9 * c - 512} {c}"],
        [f"write -q -z {14 * c} {c}"],
    ],
    "zero clusters, unmapped": lambda c: [
        fill(c),
        [f"write -q -z -u {2 * c} {3 * c}", f"write -q -z -u {9 * c - 512} {c}"],
    ],
    "zero clusters, written again": lambda c: [
        fill(c),
        [f"write -q -z {2 * c} {3 * c}", f"write -q -P 77 {3 * c + 512} 512"],
    ],
    "discarded": lambda c: [
        fill(c),
        [f"discard -q {2 * c} {3 * c}", f"discard -q {9 * c - 512} {c}"],
        [f"write -q -P 3 {3 * c} 512"],
    ],
    "compressed": lambda c: [
        [f"write -q -c -P 5 {c} {c}", f"write -q -c -P 6 {2 * c} {2 * c}"],
        [f"write -q -c -P 7 {30 * c} {c}"],
    ],
    "compressed, overwritten": lambda c: [
        [f"write -q -c -P 5 {c} {3 * c}"],
        [f"write -q -P 6 {2 * c + c // 2 - 256} 512"],
    ],
    "grown": lambda c: [fill(c), f"resize -q X {200 * c}", [f"write -q -P 3 {150 * c} 512"]],
    "grown to an odd size": lambda c: [fill(c), f"resize -q X {CLUSTERS * c + 512 * 7}"],
    "shrunk": lambda c: [fill(c), f"resize -q --shrink X {20 * c + 512}"],
    "shrunk and grown": lambda c: [
        fill(c),
        f"resize -q --shrink X {20 * c + 512}",
        f"resize -q X {30 * c}",
    ],
    "a snapshot": lambda c: [
        fill(c),
        "snapshot -c one X",
        fill(c, 90),
        [f"write -q -P 7 {c - 512} 1024"],
    ],
    "a snapshot, gone back to": lambda c: [
        fill(c),
        "snapshot -c one X",
        fill(c, 90),
        "snapshot -a one X",
        [f"write -q -P 7 {5 * c} 512"],
    ],
    "snapshots, deleted": lambda c: [
        fill(c),
        "snapshot -c one X",
        fill(c, 50)[::2],
        "snapshot -c two X",
        fill(c, 90)[::3],
        "snapshot -d one X",
    ],
    "made version 2": lambda c: [
        fill(c),
        [f"write -q -z {2 * c} {3 * c}", f"write -q -z -u {10 * c} {c}"],
        "amend -o compat=0.10 X",
    ],
    "made version 3": lambda c: [fill(c), "amend -o compat=1.1 X", [f"write -q -z {c} {c}"]],
}
NEW_IN_3: dict[str, Steps] = {
    "other refcounts": lambda c: [fill(c), "amend -o refcount_bits=8 X", fill(c, 60)],
    "lazy refcounts": lambda c: [fill(c), "amend -o lazy_refcounts=on X", fill(c, 60)],
    "not closed": lambda c: ["amend -o lazy_refcounts=on X", [*fill(c), "flush", "abort"]],
    "bitmaps": lambda c: ["bitmap --add X b0", fill(c), "bitmap --add -g 512 X b1"],
}


def change(case: Case, image: Disk, steps: list[Step]) -> None:
    """Do the steps.  "abort" ends qemu-io before it can close the image."""
    for step in steps:
        if isinstance(step, list):
            if step[-1] == "abort":
                case.qemu.qemu_io(image, step, check=False)
                case.commands.append("qemu-io " + shlex.join(step))
            else:
                case.qemu_io(image, *step)
            continue
        command, *words = shlex.split(step)
        at = words.index("X")
        words[at : at + 1] = ["--image-opts", image.options("old")]
        case.theirs(command, *image.secret("old"), *words)


def read_and_convert(case: Case, image: Disk) -> None:
    """Both read the image alike and make the same new ones of it."""
    without_holes(image.path)
    guest = case.both_read_the_same(image)
    three_directions(case, image, guest, Target(cluster_size=512, passphrase="new"))
    three_directions(case, image, guest, Target("raw"))


@pytest.mark.slow
@pytest.mark.parametrize("passphrase", [None, PASSPHRASE], ids=["plain", "aes"])
@pytest.mark.parametrize("cluster_size", [512, 4096, 65536])
@pytest.mark.parametrize("name", CHANGES)
def test_changed(new_case: NewCase, name: str, cluster_size: int, passphrase: str | None) -> None:
    for version in (2, 3):
        if name == f"made version {version}":
            continue
        with new_case() as case:
            made = Target("qcow2", cluster_size, version, passphrase)
            image = case.make(made, CLUSTERS * cluster_size)
            change(case, image, CHANGES[name](cluster_size))
            read_and_convert(case, image)


@pytest.mark.parametrize("passphrase", [None, PASSPHRASE], ids=["plain", "aes"])
@pytest.mark.parametrize("cluster_size", [512, 4096, 65536])
@pytest.mark.parametrize("name", NEW_IN_3)
def test_changed_version_3(
    new_case: NewCase, name: str, cluster_size: int, passphrase: str | None
) -> None:
    with new_case() as case:
        image = case.make(Target("qcow2", cluster_size, 3, passphrase), CLUSTERS * cluster_size)
        change(case, image, NEW_IN_3[name](cluster_size))
        if name == "not closed":
            assert case.same_info(image)["dirty-flag"] is True
        read_and_convert(case, image)


@pytest.mark.parametrize("passphrase", [None, PASSPHRASE], ids=["plain", "aes"])
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 32, 64])
def test_refcount_widths(new_case: NewCase, bits: int, passphrase: str | None) -> None:
    with new_case() as case:
        made = Target(cluster_size=4096, passphrase=passphrase, more=f"refcount_bits={bits}")
        image = case.make(made, CLUSTERS * 4096)
        change(case, image, [fill(4096), ["write -q -c -P 8 0 4096", "write -q -z 4096 8192"]])
        read_and_convert(case, image)


@pytest.mark.parametrize("passphrase", [None, PASSPHRASE], ids=["plain", "aes"])
@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("cluster_size", [512, 4096, 65536])
@pytest.mark.parametrize("preallocation", ["metadata", "falloc", "full"])
def test_preallocated(
    new_case: NewCase, preallocation: str, cluster_size: int, version: int, passphrase: str | None
) -> None:
    """In an encrypted image what was never written reads as noise: the same for both."""
    with new_case() as case:
        c = cluster_size
        more = f"preallocation={preallocation}"
        image = case.make(Target("qcow2", c, version, passphrase, more), CLUSTERS * c + 512)
        steps: list[Step] = [[f"write -q -P 1 {3 * c - 512} 1024", f"write -q -z {9 * c} {c}"]]
        change(case, image, [*steps, [f"write -q -P 2 {20 * c + 10} 100"]])
        without_holes(image.path)
        guest = case.both_read_the_same(image)
        assert (guest[:16] == bytes(16)) == (passphrase is None)
        read_and_convert(case, image)


@pytest.mark.parametrize("preallocation", ["metadata", "falloc"])
@pytest.mark.parametrize("passphrase", [None, PASSPHRASE], ids=["plain", "aes"])
def test_grown_with_preallocation(
    new_case: NewCase, preallocation: str, passphrase: str | None
) -> None:
    with new_case() as case:
        image = case.make(Target(cluster_size=4096, passphrase=passphrase), CLUSTERS * 4096)
        change(case, image, [fill(4096), f"resize -q --preallocation={preallocation} X 500k"])
        read_and_convert(case, image)


@pytest.mark.parametrize("name", golden.READABLE)
def test_golden_images(new_case: NewCase, name: str) -> None:
    """Images of old QEMUs too."""
    found = golden.load(name)
    with new_case() as case:
        path = case.folder / "image"
        path.write_bytes(found.data)
        for base in found.path.parent.glob("base*.raw"):
            shutil.copy(base, case.folder)
        driver = "qcow" if name.endswith(".qcow") else "qcow2"
        read_and_convert(case, Disk(path, driver, found.secret))


@pytest.mark.parametrize("passphrase", [None, PASSPHRASE], ids=["plain", "aes"])
def test_a_damaged_image_is_refused_by_both(new_case: NewCase, passphrase: str | None) -> None:
    """A compressed cluster whose bytes were overwritten: no program guesses."""
    with new_case() as case:
        image = case.make(Target(cluster_size=4096, passphrase=passphrase), CLUSTERS * 4096)
        change(case, image, [["write -q -c -P 5 4096 4096"]])
        data = bytearray(image.path.read_bytes())
        with_data = max(at for at in range(0, len(data), 512) if any(data[at : at + 512]))
        data[with_data : with_data + 512] = b"\xff" * 512
        image.path.write_bytes(data)
        for run in (case.theirs, case.ours):
            words = [*image.secret("old"), "--image-opts", image.options("old")]
            outcome = run("convert", "-O", "raw", *words, case.folder / "raw", check=False)
            assert outcome.status == 1
            assert outcome.stderr
