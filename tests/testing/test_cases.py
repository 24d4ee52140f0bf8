"""Cases: the same from the same seed, and carried out alike by QEMU, by a shell and by us."""

from __future__ import annotations

import os
import random
import subprocess
import time
from pathlib import Path

import pytest

from qcow2crypt.errors import ArgumentError, DifftestError, UnsupportedFeatureError
from qcow2crypt.testing.case import (
    Case,
    Discard,
    Fill,
    Layer,
    Operation,
    Resize,
    Snapshot,
    Write,
    WriteZeroes,
)
from qcow2crypt.testing.generate import PROFILES, make_case
from qcow2crypt.testing.ours import read_case, write_case
from qcow2crypt.testing.rules import tidy
from qcow2crypt.testing.script import MakeFile, calls, shell_text, steps
from qcow2crypt.testing.tools import QemuTools, run
from qcow2crypt.testing.witness import QemuImg

CLUSTER = 65536


def case_number(number: int, profile: str = "all") -> Case:
    return make_case(random.Random(f"{profile} {number}"), profile)


@pytest.mark.parametrize("profile", PROFILES)
def test_the_same_seed_gives_the_same_case(profile: str) -> None:
    assert case_number(3, profile) == case_number(3, profile)
    assert len({case_number(number, profile) for number in range(20)}) > 15


@pytest.mark.parametrize("profile", PROFILES)
def test_cases_are_tidy_and_outlive_json(profile: str) -> None:
    for number in range(50):
        case = case_number(number, profile)
        assert tidy(case) == case
        assert Case.from_json(case.to_json()) == case


def test_profiles_are_about_what_they_say() -> None:
    cases = {name: [case_number(number, name) for number in range(40)] for name in PROFILES}
    assert all(case.top.passphrase is not None for case in cases["aes"])
    assert all(case.top.passphrase is None for case in cases["plain"])
    assert all(len(case.layers) > 1 for case in cases["chains"])
    assert all(case.top.extended_l2 for case in cases["subclusters"])
    assert sum(bool(case.top.snapshots) for case in cases["snapshots"]) > 10
    packed = [
        case
        for case in cases["compressed"]
        if any(isinstance(one, Write) and one.compressed for one in case.top.operations)
    ]
    assert len(packed) > 15


def test_an_unknown_profile_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(ArgumentError, match=r"'luks'.*aes, plain"):
        make_case(random.Random(1), "luks")


def test_what_is_no_case_is_refused() -> None:
    with pytest.raises(ArgumentError, match="no case"):
        Case.from_json({"layers": [{"size": 512, "colour": "blue"}]})


def kept(layer: Layer, below: Layer | None = None) -> tuple[object, ...]:
    layers = (layer,) if below is None else (below, layer)
    return tidy(Case(layers)).top.operations


def test_operations_are_clipped_to_the_disk_and_to_clusters() -> None:
    layer = Layer(
        3 * CLUSTER + 512,
        operations=(
            Write(3 * CLUSTER, 4096),
            Discard(1, 2 * CLUSTER),
            Write(9 * CLUSTER, 512),
            WriteZeroes(0, 0),
        ),
    )
    assert kept(layer) == (Write(3 * CLUSTER, 512), Discard(CLUSTER, CLUSTER))


def test_compressed_writes_keep_off_used_clusters() -> None:
    packed = Write(0, CLUSTER, compressed=True)
    assert kept(Layer(CLUSTER, operations=(packed, packed))) == (packed,)
    assert kept(Layer(CLUSTER, operations=(Write(0, 512), packed))) == (Write(0, 512),)


def test_what_qemu_zeroes_when_a_disk_grows_is_used() -> None:
    packed = Write(0, 1024, compressed=True)
    layer = Layer(512, operations=(Resize(1024), packed))
    assert kept(layer, Layer(1024)) == (Resize(1024),)
    assert kept(layer, Layer(512)) == (Resize(1024), packed)


def test_a_disk_that_shrank_does_not_grow() -> None:
    layer = Layer(CLUSTER, operations=(Resize(512), Resize(CLUSTER)))
    assert kept(layer) == (Resize(512),)


def test_snapshots_are_made_once_and_only_where_they_can_be() -> None:
    create, delete = Snapshot("create", "a"), Snapshot("delete", "a")
    assert kept(Layer(512, operations=(delete, create, create, delete))) == (create, delete)
    assert kept(Layer(512, data_file=True, operations=(create,))) == ()
    assert kept(Layer(512, refcount_bits=1, operations=(create,))) == ()


def test_a_snapshot_keeps_the_size_of_its_time() -> None:
    first, *others = (Snapshot("create", name) for name in ("a", "b", "c"))
    operations: tuple[Operation, ...] = (first, Resize(1024), *others, Snapshot("delete", "b"))
    assert Layer(512, operations=operations).snapshots == {"a": 512, "c": 1024}


def test_version_2_discards_nothing_above_a_backing_file() -> None:
    layer = Layer(CLUSTER, version=2, operations=(Discard(0, CLUSTER),))
    assert kept(layer) == (Discard(0, CLUSTER),)
    assert kept(layer, Layer(CLUSTER)) == ()


def test_fills_are_as_long_as_asked() -> None:
    for kind in ("pattern", "numbers", "random"):
        assert len(Fill(kind, 5).data(1000)) == 1000
    blocks = Fill("numbers", 9).data(4096)
    assert len({blocks[at : at + 16] for at in range(0, 4096, 16)}) == 256


def test_the_shell_makes_the_same_files(qemu_img: QemuImg, tmp_path: Path) -> None:
    """What a person pastes and what is run here end in the same bytes."""
    fills = (Fill("numbers", 7), Fill("random", 8), Fill("pattern", 9))
    writes = tuple(Write(index * 4096, 1536, fill) for index, fill in enumerate(fills))
    base = Layer(1 << 20, "raw", operations=writes)
    top = Layer(1 << 20, passphrase='it\'s, "$x" ü', operations=(*writes[:2], Resize(1 << 19)))
    case = tidy(Case((base, top)))
    shell, here = tmp_path / "shell", tmp_path / "here"
    shell.mkdir()
    here.mkdir()
    path = os.pathsep.join((str(Path(qemu_img.img).parent), os.environ["PATH"]))
    subprocess.run(
        ["/bin/sh"],
        input=shell_text(case),
        text=True,
        check=True,
        cwd=shell,
        env={**os.environ, "PATH": path},
        stdout=subprocess.DEVNULL,
    )
    QemuTools.find().make(case, here)
    names = sorted(entry.name for entry in here.iterdir())
    assert names == sorted(entry.name for entry in shell.iterdir())
    for name in names:
        assert (shell / name).read_bytes() == (here / name).read_bytes(), name


def test_neighbouring_requests_are_one_call() -> None:
    case = Case((Layer(CLUSTER, operations=(Write(0, 512), Write(512, 512), Discard(0, 512))),))
    assert [call.program for call in calls(case)] == ["qemu-img", "qemu-io"]
    assert not any(isinstance(step, MakeFile) for step in steps(case))


@pytest.mark.parametrize("profile", PROFILES)
def test_qemu_and_we_agree(qemu_img: QemuImg, tmp_path: Path, profile: str) -> None:
    """Each reads what the other made; a few cases here, thousands by ``difftest``."""
    tools = QemuTools.find()
    for number in range(2):
        case = case_number(number, profile)
        theirs, ours = tmp_path / f"theirs{number}", tmp_path / f"ours{number}"
        theirs.mkdir()
        ours.mkdir()
        tools.make(case, theirs)
        wanted = tools.read(case, theirs)
        assert read_case(case, theirs) == wanted, case
        try:
            write_case(case, ours)
        except UnsupportedFeatureError:
            continue
        assert tools.read(case, ours) == wanted, case
        assert not tools.check(case, ours), case


def test_what_we_do_not_write_is_refused_by_name(tmp_path: Path) -> None:
    packed = Write(0, CLUSTER, compressed=True)
    for case in (
        Case((Layer(512, "qcow"),)),
        Case((Layer(CLUSTER, passphrase="x", operations=(packed,)),)),
    ):
        with pytest.raises(UnsupportedFeatureError):
            write_case(case, tmp_path)


def test_a_refusal_of_qemu_names_command_and_version(qemu_img: QemuImg, tmp_path: Path) -> None:
    case = Case((Layer(512, operations=(Write(4096, 512),)),))  # behind the end: not tidy
    with pytest.raises(DifftestError, match=r"(?s)write -P 1 4096 512.*QEMU \d+\.\d+"):
        QemuTools.find().make(case, tmp_path)


def test_a_program_that_is_killed_leaves_nothing(tmp_path: Path) -> None:
    done = run(["sh", "-c", "sleep 1000 & echo $! > pid; wait"], tmp_path, 0.5)
    assert done.status is None
    assert "took too long" in done.complaint()
    number = int((tmp_path / "pid").read_text(encoding="ascii"))
    while _runs(number):  # it may take a moment to end; a thousand seconds are too long
        time.sleep(0.01)


def _runs(number: int) -> bool:
    """Whether a process does anything yet; one that nobody waited for does not."""
    try:
        status = Path(f"/proc/{number}/stat").read_text(encoding="ascii")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.split()[2] not in "ZX"


def test_missing_programs_are_named(tmp_path: Path) -> None:
    with pytest.raises(DifftestError, match="qemu-img and qemu-io are needed"):
        QemuTools.find(tmp_path)
