"""Passphrases of backing files, --external, -B: what the command line says of a chain."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli.commandline import Run
from support.chains import SIZE, overlay, raw

import qcow2crypt
from qcow2crypt.cli import passphrases


@pytest.fixture
def chain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """AES over AES over raw; the current directory is that of the images."""
    monkeypatch.chdir(tmp_path)
    raw(tmp_path / "base", b"data" * (SIZE // 4))
    overlay(tmp_path / "low", "base", backing_format="raw", secret="alpha")
    overlay(tmp_path / "top", "low", secret="two")
    Path("key1").write_text("alpha")
    Path("key2").write_text("two")
    return tmp_path


def is_the_disk(path: str) -> bool:
    with qcow2crypt.open(path) as image:
        return image.readall() == b"data" * (SIZE // 4)


def test_the_prompt_names_the_layer(chain: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def ask(question: str) -> bytes:
        asked.append(question)
        return b"alpha" if "low" in question else b"two"

    monkeypatch.setattr(passphrases, "has_terminal", lambda: True)
    monkeypatch.setattr(passphrases, "ask", ask)
    assert run("convert", "-q", "top", "out").status == 0
    assert asked == [
        "Passphrase for 'top': ",
        "Passphrase for backing file 'low' (depth 1): ",
    ]
    assert is_the_disk("out")


def test_without_a_terminal_the_message_says_how(chain: Path, run: Run) -> None:
    done = run("convert", "--secret-file", "key2", "top", "out")
    assert done.status == 1
    assert "backing file 'low' (depth 1) needs a passphrase" in done.err
    assert "--layer-secret-file 1=PATH" in done.err
    named = run("convert", "--secret-file", "key2", "--object", "secret,id=s,file=key1", "top", "x")
    assert "--image-opts backing.encrypt.key-secret=..." in named.err


@pytest.mark.parametrize("layer", ["1", "low", "./low"])
def test_a_layer_by_depth_or_name(layer: str, chain: Path, run: Run) -> None:
    name = "./top" if layer.startswith(".") else "top"
    words = ["--secret-file", "key2", "--layer-secret-file", f"{layer}=key1"]
    assert run("convert", "-q", *words, name, "out").status == 0
    assert is_the_disk("out")


def test_from_the_environment(chain: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOW", "alpha")
    words = ["--secret-file", "key2", "--layer-secret-env", "1=LOW"]
    assert run("convert", "-q", *words, "top", "out").status == 0
    assert is_the_disk("out")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--layer-secret-file", "key1"], "takes LAYER=..."),
        (["--layer-secret-file", "=key1"], "takes LAYER=..."),
        (["--layer-secret-file", "1=gone"], "cannot read 'gone'"),
        (["--layer-secret-file", "1=key1", "--layer-secret-env", "1=HOME"], "two passphrases"),
        (["--layer-secret-file", "1=key1", "--layer-secret-file", "low=key1"], "two passphrases"),
        (["--layer-secret-file", "0=key2"], "two passphrases"),
        (["--external", "all"], "beneath, any or none"),
        (["--external", "none"], "--external any"),
        (["-O", "qcow2", "-F", "raw"], "no backing file"),
        (["-B", "base", "-F", "raw"], "a raw image cannot have a backing file"),
        (["-O", "qcow2", "-B", "base"], "-B needs the format"),
    ],
)
def test_what_cannot_be(words: list[str], message: str, chain: Path, run: Run) -> None:
    done = run("convert", "-q", "--secret-file", "key2", *words, "top", "out")
    assert done.status == 1
    assert message in done.err
    assert "alpha" not in done.err
    assert not Path("out").exists()


def test_a_file_that_was_named_by_mistake_is_not_shown(chain: Path, run: Run) -> None:
    done = run("convert", "-q", "--layer-secret-file", "hunter2", "top", "out")
    assert done.status == 1
    assert "hunter2" not in done.err


def test_an_overlay_of_the_same_base(chain: Path, run: Run) -> None:
    words = ["--secret-file", "key2", "--layer-secret-file", "low=key1", "-O", "qcow2"]
    assert run("convert", "-q", *words, "-B", "low", "-F", "qcow2", "top", "new").status == 0
    found = qcow2crypt.info("new")
    assert (found.backing_file, found.backing_format) == ("low", "qcow2")
    with qcow2crypt.open("new", secrets={1: "alpha"}) as image:
        assert all(extent.depth == 2 for extent in image.extents())
    # Another base is opened, with a passphrase by its name, and compared with.
    overlay(chain / "other", "base", backing_format="raw", secret="three")
    Path("key3").write_text("three")
    words += ["--layer-secret-file", "other=key3", "-B", "other", "-F", "qcow2"]
    assert run("convert", "-q", *words, "top", "new").status == 0
    with qcow2crypt.open("new", secrets={1: "three"}) as image:
        assert image.readall() == b"data" * (SIZE // 4)
        assert all(extent.depth == 2 for extent in image.extents())


def test_no_layer_of_the_source_is_overwritten(chain: Path, run: Run) -> None:
    before = Path("base").read_bytes()
    words = ["--secret-file", "key2", "--layer-secret-file", "1=key1"]
    done = run("convert", "-q", *words, "top", "base")
    assert done.status == 1
    assert "backing file and target are the same file" in done.err
    assert Path("base").read_bytes() == before


def test_a_target_keeps_its_backing_file(chain: Path, run: Run) -> None:
    overlay(chain / "target", "low", backing_format="qcow2", size=2 * SIZE)
    words = ["convert", "-q", "-n", "-O", "qcow2", "-f", "raw", "base", "target"]
    before = Path("target").read_bytes()
    done = run(*words)  # what lies under the target is encrypted, too
    assert done.status == 1
    assert "backing file 'low' needs a passphrase" in done.err
    assert Path("target").read_bytes() == before
    assert run(*words, "--layer-secret-file", "low=key1").status == 0
    assert qcow2crypt.info("target").backing_file == "low"
    with qcow2crypt.open("target", secrets={"low": "alpha"}) as image:
        assert image.size == 2 * SIZE
        assert image.pread(SIZE, 0) == Path("base").read_bytes()
        assert image.pread(SIZE, SIZE) == bytes(SIZE)
