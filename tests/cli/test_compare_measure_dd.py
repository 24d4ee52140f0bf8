"""``compare``, ``measure`` and ``dd``: passphrases, output and exit codes beside qemu-img's own."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
from cli.commandline import PASSPHRASE, Outcome, Run, run_program
from cli.schemas import schema

import qcow2crypt

IDENTICAL = Outcome(0, "Images are identical.\n", "")


@pytest.fixture
def other_key(tmp_path: Path) -> Path:
    path = tmp_path / "other.key"
    path.write_text("another one")
    return path


@pytest.fixture
def rekeyed(tmp_path: Path, encrypted: Path, key: Path, other_key: Path, run: Run) -> Path:
    path = tmp_path / "rekeyed.qcow2"
    done = run(
        "convert", "-q", "-O", "qcow2", "-o", "encrypt.format=aes", "--secret-file", key,
        "--target-secret-file", other_key, encrypted, path,
    )  # fmt: skip
    assert done.status == 0
    return path


def test_one_passphrase_for_each_image(
    encrypted: Path, rekeyed: Path, raw: Path, key: Path, other_key: Path, run: Run
) -> None:
    keys = ("--secret-file", key, "--second-secret-file", other_key)
    assert run("compare", *keys, "-q", encrypted, rekeyed) == Outcome(0, "", "")
    assert run("compare", "--secret-file", key, encrypted, raw) == IDENTICAL
    assert run("compare", "--second-secret-file", key, "-f", "raw", raw, encrypted) == IDENTICAL
    swapped = ("--secret-file", other_key, "--second-secret-file", key)
    done = run("compare", "-q", *swapped, encrypted, rekeyed)
    assert done == Outcome(1, "", "")


def test_a_passphrase_that_is_missing_is_asked_for_by_name(
    encrypted: Path, rekeyed: Path, raw: Path, key: Path, run: Run
) -> None:
    done = run("compare", encrypted, raw)
    assert (done.status, done.out) == (2, "")
    assert "--secret-file" in done.err
    done = run("compare", "--secret-file", key, encrypted, rekeyed)
    assert (done.status, done.out) == (2, "")
    assert "--second-secret-file" in done.err
    assert PASSPHRASE not in done.err


def test_one_stream_is_not_read_twice(encrypted: Path, rekeyed: Path, run: Run) -> None:
    done = run("compare", "--secret-file", "-", "--second-secret-file", "-", encrypted, rekeyed)
    assert (done.status, done.out) == (2, "")
    assert "one stream" in done.err


def test_passphrases_of_layers(
    tmp_path: Path, encrypted: Path, raw: Path, key: Path, other_key: Path, run: Run
) -> None:
    options = qcow2crypt.Qcow2Options(
        encryption="aes", backing_file=encrypted.name, backing_format="qcow2"
    )
    top = tmp_path / "top.qcow2"
    qcow2crypt.create(top, raw.stat().st_size, options=options, secret="another one")
    words = ("--secret-file", other_key, "--layer-secret-file", f"1={key}")
    assert run("compare", "-q", *words, top, raw).status == 0
    second = ("--second-secret-file", other_key, "--second-layer-secret-file", f"1={key}")
    assert run("compare", "-q", *second, raw, top).status == 0
    assert run("compare", "-q", *words, *second, top, top).status == 0
    done = run("compare", "-q", *words, "--second-secret-file", other_key, top, top)
    assert done.status == 2
    assert "--second-layer-secret-file 1=PATH" in done.err
    assert run("measure", "-O", "qcow2", *words, top).status == 0
    new = tmp_path / "new"
    assert run("dd", f"if={top}", f"of={new}", "bs=64k", *words) == Outcome(0, "", "")
    assert new.read_bytes() == raw.read_bytes()


def test_progress(raw: Path, run: Run) -> None:
    done = run("compare", "-p", raw, raw)
    assert (done.status, done.out) == (0, IDENTICAL.out)
    assert "(100.00/100%)" in done.err
    done = run("compare", "--progress=json", raw, raw)
    lines = [json.loads(line) for line in done.err.splitlines()]
    assert lines[-1]["done"] == lines[-1]["total"] == raw.stat().st_size
    for line in lines:
        jsonschema.validate(line, schema("progress"))


def test_measure_keeps_to_its_schema(raw: Path, encrypted: Path, key: Path, run: Run) -> None:
    for words in (
        ("--size", "10G"),
        ("-O", "qcow2", "--size", "10G"),
        ("-O", "qcow2", "-f", "raw", raw),
        ("-O", "qcow2", "--secret-file", key, encrypted),
    ):
        done = run("measure", "--output=json", *words)
        assert (done.status, done.err) == (0, "")
        found = json.loads(done.out)
        jsonschema.validate(found, schema("measure"))
        people = run("measure", *words).out.splitlines()
        assert people[0] == f"required size: {found['required']}"
        assert people[1] == f"fully allocated size: {found['fully-allocated']}"
        assert len(people) == len(found)


def test_measure_lists_its_options(run: Run) -> None:
    done = run("measure", "-O", "qcow2", "-o", "help")
    assert done.status == 0
    assert "cluster_size=<size>" in done.out


def test_dd_decrypts_a_part(
    tmp_path: Path, encrypted: Path, raw: Path, key: Path, run: Run
) -> None:
    new = tmp_path / "new"
    done = run("dd", "--secret-file", key, f"if={encrypted}", f"of={new}", "bs=1k", "skip=3")
    assert done == Outcome(0, "", "")
    assert new.read_bytes() == raw.read_bytes()[3072:]


def test_dd_behind_the_end_says_so(tmp_path: Path, raw: Path, run: Run) -> None:
    new = tmp_path / "new"
    done = run("dd", "-f", "raw", f"if={raw}", f"of={new}", "bs=1M", "skip=2")
    assert (done.status, new.read_bytes()) == (0, b"")
    assert "nothing to copy" in done.err


def test_dd_warns_of_a_misleading_name(tmp_path: Path, raw: Path, run: Run) -> None:
    done = run("dd", f"if={raw}", f"of={tmp_path / 'x.qcow2'}", "bs=1M")
    assert done.status == 0
    assert "becomes a raw image" in done.err


@pytest.mark.parametrize("command", ["compare", "measure", "dd"])
def test_help(command: str, run: Run) -> None:
    done = run(command, "--help")
    assert (done.status, done.err) == (0, "")
    assert done.out.startswith(f"usage: qcow2crypt {command}")


def test_a_passphrase_that_may_be_wrong_is_told(tmp_path: Path) -> None:
    """Where the contents differ and one of them is noise."""
    plain, secret = tmp_path / "plain.raw", tmp_path / "secret.qcow2"
    plain.write_bytes(b"a disk with text " * 8192)
    for name in ("right", "wrong"):
        (tmp_path / name).write_text(name)
    new: list[str | Path] = ["-O", "qcow2", "-o"]
    new += ["encrypt.format=aes", "--target-secret-file", tmp_path / "right"]
    assert run_program("convert", "-f", "raw", *new, plain, secret).status == 0
    for name, status in (("right", 0), ("wrong", 1)):
        secrets = ("--secret-file", tmp_path / name)
        done = run_program("compare", "-F", "raw", *secrets, secret, plain)
        assert done.status == status
        assert ("does not look like a disk" in done.err) == (status == 1)
