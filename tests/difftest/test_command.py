"""The command: subjects that are programs, its end, its state, and words that cannot be."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import pytest
from support.difftesting import TESTS, difftest, environment, words_for

from qcow2crypt.cli import main
from qcow2crypt.testing.witness import QemuImg

READER = TESTS / "support" / "broken" / "reader.py"
SCHEMA = TESTS.parent / "docs" / "schemas" / "difftest.schema.json"


def subject(how: str) -> list[str]:
    return ["--subject", f"{sys.executable} {READER} {how} {{image}} {{secret_file}} {{out}}"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "kind"),
    [
        ("refuses", "refused"),
        ("crashes", "crashed"),
        ("shortens", "other size"),
        ("forgets", "zeros"),
    ],
)
def test_what_a_program_does_wrong_is_told_apart(
    qemu_img: QemuImg, tmp_path: Path, how: str, kind: str
) -> None:
    found = difftest(tmp_path, *subject(how), "--profile", "aes", "--start", "1", "--cases", "1")
    assert found.status == 1
    group = found.group(kind, "read")
    assert group["refusal"] == (how == "refuses")
    report = found.report(group)
    assert "script.sh" in report
    if how == "forgets":
        assert "| what was given there looks like | zeros |" in report
        assert "| host offset | 0x50000, in layer0.qcow2 |" in report
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    jsonschema.validate(found.summary, schema)


@pytest.mark.slow
def test_a_writer_that_is_a_program_is_tested_too(qemu_img: QemuImg, tmp_path: Path) -> None:
    writer = f"{sys.executable} {READER.with_name('writer.py')} {{case}} {{folder}}"
    words = ["--subject", "reference", "--writer", writer, "--profile", "plain", "--start", "1"]
    found = difftest(tmp_path, *words, "--cases", "1")
    assert found.status == 1
    group = found.group("zeros", "write")
    assert found.case(group).operations == 1
    assert "the writer" in found.report(group)
    assert not [row for row in found.summary["differences"] if row["part"] == "read"]


@pytest.mark.slow
def test_a_report_can_be_seen_again(qemu_img: QemuImg, tmp_path: Path) -> None:
    words = [*subject("forgets"), "--profile", "aes", "--start", "1", "--cases", "1"]
    first = difftest(tmp_path, *words)
    case = tmp_path / "out" / first.group("zeros", "read")["report"] / "case.json"
    again = tmp_path / "again"
    again.mkdir()
    found = difftest(again, *subject("forgets"), "--case", str(case))
    assert found.group("zeros", "read")["features"] == []
    assert difftest(tmp_path / "again", "--resume", str(again / "out")).status == 1


@pytest.mark.slow
def test_refusals_may_be_allowed(qemu_img: QemuImg, tmp_path: Path) -> None:
    words = ("--profile", "aes", "--cases", "1", "--allow-refusals")
    found = difftest(tmp_path, *subject("refuses"), *words)
    assert found.status == 0
    assert found.summary["refused"] == 1


@pytest.mark.slow
def test_a_signal_ends_it_cleanly_and_it_goes_on(qemu_img: QemuImg, tmp_path: Path) -> None:
    """No process and no temporary file is left; what was found and counted is kept."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    out = tmp_path / "out"
    words = [*words_for(None), "--time", "100s", "--jobs", "2", "--output", str(out)]
    process = subprocess.Popen(
        words,
        env={**environment(), "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    state = out / "state.json"
    while not (state.exists() and json.loads(state.read_text(encoding="utf-8"))["counts"]):
        assert process.poll() is None
        time.sleep(0.05)
    children = _below(process.pid)
    assert len(children) >= 2
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert f"--resume {out}" in said
    assert not [child for child in children if _alive(child)]
    assert not list(temporary.glob("*"))
    before = json.loads(state.read_text(encoding="utf-8"))
    assert before["counts"]["cases"] > 0
    found = difftest(tmp_path, "--resume", str(out), "--time", "1s")
    assert found.status == 0
    assert found.summary["counts"]["cases"] >= before["counts"]["cases"] + len(before["again"])


def _below(number: int) -> list[int]:
    """The children of a process."""
    path = Path(f"/proc/{number}/task/{number}/children")
    if not path.exists():
        pytest.skip("this system does not tell the children of a process")
    return [int(word) for word in path.read_text(encoding="ascii").split()]


def _alive(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["image.qcow2"], "takes no file names"),
        (["--time", "long"], "--time is a number with s, m or h"),
        (["--jobs", "0"], "--jobs is a number from 1 on"),
        (["--subject", "qemu-img"], "nothing to compare"),
        (["--profile", "luks"], "there is no profile 'luks'"),
        (["--subject", "cat {image}"], "has no {out}"),
        (["--writer", "cat {case}"], "has no {folder}"),
        (["--resume", "nowhere"], "no run can go on there"),
        (["--resume", "nowhere", "--seed", "3"], "leave out --seed"),
        (["--case", "nowhere"], "'nowhere' cannot be read"),
    ],
)
def test_what_cannot_be_is_a_2_and_leaves_nothing(
    qemu_img: QemuImg,
    words: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["difftest", *words]) == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
