"""``--engines`` and ``--versions``: ciphers, and builds of QEMU, against each other."""

from __future__ import annotations

import json
import random
import subprocess
from pathlib import Path

import jsonschema
import pytest
from oracles.openssl import NO_OPENSSL
from support.difftesting import TESTS, environment, words_for

from qcow2crypt import engines
from qcow2crypt.difftest.builds import builds_in
from qcow2crypt.difftest.ciphers import all_ciphers, make_key, make_run
from qcow2crypt.difftest.engines import do_slice
from qcow2crypt.testing.witness import QemuImg

pytestmark = pytest.mark.slow

SCHEMA = TESTS.parent / "docs" / "schemas" / "difftest-engines.schema.json"
PLAIN = """#!/bin/sh
exec {real}/{program} "$@"
"""
OTHER_BYTES = """#!/bin/sh
# A build with another default: the same content in other bytes.
case "$1" in create) shift; set -- create -o cluster_size=32768 "$@" ;; esac
exec {real}/{program} "$@"
"""
OLD = """#!/bin/sh
# A build that does not know zstd.
case "$*" in create*zstd*) echo "qemu-img: Invalid parameter 'zstd'" >&2; exit 1 ;; esac
exec {real}/{program} "$@"
"""
FORGETFUL = """#!/bin/sh
# A build with a fault: what is discarded is forgotten.
n=$#
while [ $n -gt 0 ]; do
    word=$1; shift; n=$((n - 1))
    case "$word" in discard*) word=map ;; esac
    set -- "$@" "$word"
done
exec {real}/{program} "$@"
"""


def run(*words: str, variant: str | None = None) -> tuple[int, dict[str, object]]:
    command = [*words_for(variant), "--json", "--jobs", "1", *words]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment())
    assert done.returncode in (0, 1), done.stderr
    return done.returncode, json.loads(done.stdout)


def test_all_ciphers_agree() -> None:
    status, found = run("--engines", "--cases", "1", "--time", "100s")
    jsonschema.validate(found, json.loads(SCHEMA.read_text(encoding="utf-8")))
    assert status == 0, found
    names = {row["name"] for row in found["ciphers"]}  # type: ignore[attr-defined]
    kernels = {f"native:{row.name}" for row in engines.status().kernels if row.available}
    assert kernels | {"pure", "reference"} <= names
    assert all(row["runs"] > 0 for row in found["ciphers"])  # type: ignore[attr-defined]


def test_a_wrong_iv_is_found_and_made_small() -> None:
    pytest.importorskip("cryptography", reason=NO_OPENSSL)
    status, found = run("--engines", "--cases", "1", "--time", "100s", variant="big-endian-iv")
    assert status == 1
    rows = found["differences"]
    assert isinstance(rows, list)
    assert rows
    for row in rows:
        assert set(row["ciphers"]) & {"OpenSSL", "PyCryptodome"}
        assert row["sectors"] == 1
        assert not row["in_place"]
        assert row["outputs"][0] != row["outputs"][1]
        assert len(row["iv"]) == 32


def test_the_same_slice_is_the_same_runs() -> None:
    runs = [make_run(random.Random(7), make_key(random.Random(8))) for _ in range(2)]
    assert runs[0] == runs[1]
    first = all_ciphers()[0][:1]
    assert do_slice(first, 3, 4).sectors == do_slice(first, 3, 4).sectors
    assert do_slice(first, 3, 4).sectors != do_slice(first, 3, 5).sectors


def builds(folder: Path, qemu: QemuImg, **scripts: str) -> Path:
    """Folders with programs that call the real ones; there is one build of QEMU here."""
    real = Path(qemu.img).parent
    for program in ("qemu-img", "qemu-io"):
        for name in ("a", "b"):
            wrapper = folder / "builds" / name / program
            wrapper.parent.mkdir(parents=True, exist_ok=True)
            text = scripts.get(program.replace("-", "_"), PLAIN) if name == "b" else PLAIN
            wrapper.write_text(text.format(real=real, program=program), encoding="utf-8")
            wrapper.chmod(0o755)
    return folder / "builds"


def test_builds_may_differ_in_bytes(qemu_img: QemuImg, tmp_path: Path) -> None:
    place = builds(tmp_path, qemu_img, qemu_img=OTHER_BYTES)
    words = ("--versions", str(place), "--profile", "plain", "--cases", "10")
    status, found = run(*words, "--output", str(tmp_path / "out"))
    assert status == 0, found
    summary = found["runs"][0]  # type: ignore[index]
    counts = summary["counts"]
    assert counts["files that differ first in: header"] > 0
    assert counts["files with the same bytes"] > 0
    example = summary["examples"]["files that differ first in: header"]
    assert "layer0.qcow2 at host offset 0x" in example


def test_builds_must_not_differ_in_content(qemu_img: QemuImg, tmp_path: Path) -> None:
    place = builds(tmp_path, qemu_img, qemu_io=FORGETFUL)
    words = ("--versions", str(place), "--profile", "plain", "--cases", "8")
    status, found = run(*words, "--output", str(tmp_path / "out"))
    assert status == 1
    rows = found["runs"][0]["differences"]  # type: ignore[index]
    assert [row["features"] for row in rows] == [["discard"]]
    report = tmp_path / "out" / "build-1" / rows[0]["report"] / "report.md"
    assert str(place / "b") in report.read_text(encoding="utf-8")


def test_what_an_old_build_does_not_know_is_counted(qemu_img: QemuImg, tmp_path: Path) -> None:
    place = builds(tmp_path, qemu_img, qemu_img=OLD)
    words = ("--versions", str(place), "--profile", "plain", "--cases", "8")
    status, found = run(*words, "--output", str(tmp_path / "out"))
    summary = found["runs"][0]  # type: ignore[index]
    assert status == 0, found
    counts = summary["counts"]
    assert 0 < counts["not made by the subject"] < counts["cases"]
    assert counts["disks read"] == counts["cases"] - counts["not made by the subject"]
    assert "Invalid parameter 'zstd'" in summary["examples"]["not made by the subject"]


def test_builds_are_in_the_order_of_their_versions(tmp_path: Path) -> None:
    for name, version in (("a", "10.0.13 (Debian 1:10)"), ("b", "7.2.22"), ("c", "7.10.0-rc1")):
        (tmp_path / name).mkdir()
        for program in ("qemu-img", "qemu-io"):
            (tmp_path / name / program).write_text(
                f"#!/bin/sh\necho {program} version '{version}'\n"
            )
            (tmp_path / name / program).chmod(0o755)
    assert [Path(found).name for found in builds_in(tmp_path)] == ["a", "c", "b"]


def test_one_build_is_not_enough(tmp_path: Path) -> None:
    done = subprocess.run(
        [*words_for(None), "--versions", str(tmp_path)],
        check=False,
        capture_output=True,
        text=True,
        env=environment(),
    )
    assert done.returncode == 2
    assert "two or more are needed" in done.stderr
