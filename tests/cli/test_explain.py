"""explain on the command line: schema, statuses, options for passphrases, what is never shown."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import golden
import jsonschema
import pytest
from cli.commandline import HOME, PASSPHRASE, Outcome, Run
from cli.schemas import FOLDER, schema

import qcow2crypt
from qcow2crypt.cli import passphrases

KEY = PASSPHRASE.encode().ljust(16, b"\0").hex()


def answer(done: Outcome) -> dict[str, Any]:
    assert (done.status, done.err) == (0, "")
    found: dict[str, Any] = json.loads(done.out)
    jsonschema.validate(found, schema("explain"))
    return found


@pytest.mark.parametrize("name", [name for name in golden.NAMES if ".qcow" in name])
def test_golden_images(name: str, run: Run) -> None:
    """Both ways, for people and for programs, with and without the passphrase."""
    image = golden.load(name)
    words = ["explain", "--external", "any", image.path]
    sector = max((one["sector"] for one in image.sectors), default=0)
    for where in (["--sector", str(sector)], ["--host-offset", "0"], ["--host-offset", "0x803"]):
        found = answer(run(*words, *where, "--json"))
        assert found["plaintext"] is None or not found["blocks"]
        people = run(*words, *where)
        assert (people.status, people.err) == (0, "")
        lines = [line for line in people.out.splitlines() if str(image.path.parent) not in line]
        assert [line for line in lines if len(line) > 80] == []


def test_the_passphrase_options_of_other_commands(encrypted: Path, key: Path, run: Run) -> None:
    wanted = qcow2crypt.explain(encrypted, offset=20_003, secret=PASSPHRASE).to_dict()
    words = ("explain", "--json", "--offset", "20003")
    assert answer(run(*words, "--secret-file", key, encrypted)) == wanted
    opts = f"driver=qcow2,encrypt.key-secret=s0,file.filename={encrypted}"
    secret = ("--object", f"secret,id=s0,file={key}")
    assert answer(run(*words, *secret, "--image-opts", opts)) == wanted
    assert wanted["byte"] is not None
    done = run("explain", "--offset", "0", "--image-opts", opts + ",encrypt.format=luks")
    assert done.status == 1
    assert "encrypted as 'aes', but encrypt.format=luks is given" in done.err
    assert wanted["key"]["key"] is None


def test_nothing_is_asked_without_a_passphrase(encrypted: Path, run: Run) -> None:
    found = answer(run("explain", "--output=json", "--offset", "20003", encrypted))
    assert found["plaintext"] is None
    assert found["iv"]["number"] == 20003 // 512
    assert "--secret-file" in found["notes"][-1]


def test_ask(encrypted: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passphrases, "has_terminal", lambda: True)
    monkeypatch.setattr(passphrases, "ask", lambda question: PASSPHRASE.encode())
    found = answer(run("explain", "--json", "--ask", "--offset", "20003", encrypted))
    assert found["byte"] is not None


def test_a_passphrase_for_each_layer(encrypted: Path, key: Path, tmp_path: Path, run: Run) -> None:
    top = tmp_path / "top.qcow2"
    other = tmp_path / "other"
    other.write_text("another one")
    done = run("create", "-q", "-f", "qcow2", "-b", encrypted, "-F", "qcow2", "-o",
               "encrypt.format=aes", "--secret-file", other, top)  # fmt: skip
    assert done == Outcome(0, "", "")
    words = ("explain", "--json", "--offset", "20003", "--secret-file", other, top)
    found = answer(run(*words))
    assert [layer["kind"] for layer in found["layers"]] == ["unallocated", "data"]
    assert found["plaintext"] is None
    assert "--layer-secret-file 1=PATH" in found["notes"][-1]
    found = answer(run(*words, "--layer-secret-file", f"1={key}"))
    assert found["byte"] == qcow2crypt.explain(encrypted, offset=20003, secret=PASSPHRASE).byte


def test_the_key_only_on_demand(encrypted: Path, key: Path, run: Run) -> None:
    words = ("explain", "--offset", "20003", "--secret-file", key, encrypted)
    for more in ((), ("--json",)):
        hidden = run(*words, *more).out.replace(" ", "")
        shown = run(*words, *more, "--show-key").out.replace(" ", "")
        assert KEY not in hidden
        assert PASSPHRASE not in run(*words, *more).out
        assert KEY in shown
    found = answer(run(*words, "--json", "--show-key", "--steps"))
    assert found["steps"][-1]["state"] == found["blocks"][20003 % 512 // 16]["decrypted"]
    done = run(*words, "--steps")
    assert (done.status, done.out) == (1, "")
    assert "--steps needs --show-key" in done.err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "explain needs one of --offset, --sector and --host-offset"),
        (("--offset", "1", "--sector", "1"), "explain needs one of"),
        (("--offset", "x"), "--offset: this is not a size"),
        (("--sector", "1k"), "--sector: this is not a number"),
        (("--offset", "1M"), "is behind the end of the disk of"),
        (("--host-offset", "1T"), "is not inside"),
        (("--offset", "0", "-l", "none"), "has no internal snapshot 'none'; it has: none"),
        (("--host-offset", "0", "-l", "1"), "exclude each other"),
        (("--output=xml", "--offset", "0"), "--output is"),
    ],
)
def test_errors(words: tuple[str, ...], says: str, encrypted: Path, run: Run) -> None:
    done = run("explain", *words, encrypted)
    assert (done.status, done.out) == (1, "")
    assert says in done.err


def test_the_last_byte(encrypted: Path, key: Path, run: Run) -> None:
    found = answer(run("explain", "--json", "--offset", "0xfffff", "--secret-file", key, encrypted))
    assert found["layers"][0]["position"]["byte_in_sector"] == 511


def test_hostile_names_are_shown_as_escapes(tmp_path: Path, run: Run) -> None:
    path = tmp_path / "a\x1b[31m.raw"
    path.write_bytes(bytes(512))
    done = run("explain", "--offset", "0", "-f", "raw", path)
    assert done.status == 0
    assert "\x1b" not in done.out
    assert r"a\x1b[31m.raw" in done.out


def test_colours_on_a_terminal_say_the_same(encrypted: Path, key: Path, run: Run) -> None:
    """A real terminal, in a process of its own: without the escapes it is what a pipe gets."""
    words = ["explain", "--offset", "20003", "--secret-file", str(key), str(encrypted)]
    main, terminal = os.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "qcow2crypt", *words],
        stdout=terminal,
        env={**os.environ, "PYTHONPATH": str(HOME), "TERM": "xterm", "COLUMNS": "80"},
    ) as program:
        os.close(terminal)
        written = b""
        while True:
            try:
                part = os.read(main, 1 << 16)
            except OSError:
                break
            if not part:
                break
            written += part
    os.close(main)
    assert program.returncode == 0
    assert b"\x1b[" in written
    text = re.sub(r"\x1b\[[0-9;]*m", "", written.decode()).replace("\r\n", "\n")
    assert [line.rstrip() for line in text.splitlines()] == run(*words).out.splitlines()


def test_the_sample_in_the_document_is_true(run: Run, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("correct horse battery")
    image = Path(qcow2crypt.__file__).parent / "data" / "qemu-1.6.0-aes.qcow2"
    done = run("explain", "--offset", "4k", "--secret-file", tmp_path / "key", image)
    text = (FOLDER.parent / "command-line.md").read_text("utf-8").split("## Explain one byte")[1]
    (sample,) = re.findall(
        r"^```text\n(.*?)\n```$", text.split("\n## ")[0], re.DOTALL | re.MULTILINE
    )
    assert done.status == 0
    assert sample in done.out
