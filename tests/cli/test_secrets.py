"""A passphrase comes from where the command line says, byte for byte, and is never shown."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cli.commandline import PASSPHRASE, Outcome, Run, run_program

import qcow2crypt
from qcow2crypt.cli.objects import read_objects
from qcow2crypt.cli.passphrases import GivenPassphrase, PromptedPassphrase
from qcow2crypt.cli.secretfiles import strip_newline
from qcow2crypt.cli.terminal import Console

AES = ("-O", "qcow2", "-o", "encrypt.format=aes")
RAW_KEY = b"\x01\xff\x00 k\xc3"  # what no QEMU since 2.10 takes


@pytest.mark.parametrize(
    "words",
    [
        ["--secret-file", "{key}"],
        ["--secret-file={key}"],
        ["--secret-env", "THE_KEY"],
        ["--object", "secret,id=x,file={key}", "--image-opts"],
        ["--object", "secret,id=x,file={key64},format=base64", "--image-opts"],
    ],
)
def test_every_way_opens_the_source(
    words: list[str],
    run: Run,
    encrypted: Path,
    raw: Path,
    key: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("THE_KEY", PASSPHRASE)
    key64 = tmp_path / "key64"
    key64.write_text("Y29ycmVjdCBob3JzZQ==\n")
    source = f"encrypt.key-secret=x,file.filename={encrypted}"
    given = [word.format(key=key, key64=key64) for word in words]
    target = tmp_path / "out"
    done = run("convert", *given, source if "--image-opts" in words else encrypted, target)
    assert done == Outcome(0, "", "")
    assert target.read_bytes() == raw.read_bytes()


def test_standard_input_and_descriptors(encrypted: Path, raw: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    done = run_program(
        "convert", "--secret-file", "-", encrypted, target, stdin=PASSPHRASE.encode()
    )
    assert done == Outcome(0, "", "")
    assert target.read_bytes() == raw.read_bytes()
    read_end, write_end = os.pipe()
    os.write(write_end, PASSPHRASE.encode())
    os.close(write_end)
    words = ["convert", "--secret-fd", str(read_end), str(encrypted), str(tmp_path / "out2")]
    done = run_program(*words, pass_fds=(read_end,))
    os.close(read_end)
    assert done == Outcome(0, "", "")
    assert (tmp_path / "out2").read_bytes() == raw.read_bytes()


def test_a_new_passphrase_replaces_the_old(
    run: Run, encrypted: Path, raw: Path, key: Path, tmp_path: Path
) -> None:
    new_key, target = tmp_path / "new", tmp_path / "new.qcow2"
    new_key.write_text("another")
    secrets = ["--secret-file", key, "--target-secret-file", new_key]
    assert run("convert", *AES, *secrets, encrypted, target) == Outcome(0, "", "")
    with qcow2crypt.open(str(target), "another") as image:
        assert image.read() == raw.read_bytes()


def test_a_passphrase_for_a_plain_image_is_ignored(run: Run, raw: Path, tmp_path: Path) -> None:
    source = f"driver=qcow2,encrypt.key-secret=none,file.filename={tmp_path / 'plain'}"
    assert run("convert", "-f", "raw", "-O", "qcow2", raw, tmp_path / "plain").status == 0
    assert run("convert", "--image-opts", source, tmp_path / "out") == Outcome(0, "", "")


def test_raw_bytes_open_an_old_image(run: Run, raw: Path, tmp_path: Path) -> None:
    old, key = tmp_path / "old", tmp_path / "key"
    key.write_bytes(RAW_KEY)
    options = qcow2crypt.Qcow2Options(encryption="aes")
    qcow2crypt.convert(
        str(raw), str(old), target_format="qcow2", options=options, target_secret=RAW_KEY
    )
    done = run("convert", "--secret-file", key, old, tmp_path / "out")
    assert done == Outcome(0, "", "")
    assert (tmp_path / "out").read_bytes() == raw.read_bytes()
    source = f"encrypt.key-secret=s,file.filename={old}"
    done = run(
        "convert", "--object", f"secret,id=s,file={key}", "--image-opts", source, tmp_path / "no"
    )
    assert done.status == 1
    assert "not valid UTF-8" in done.err
    assert "--secret-file takes raw bytes" in done.err


@pytest.mark.parametrize("command", ["create", "convert"])
def test_no_new_image_with_a_key_that_qemu_refuses(
    command: str, run: Run, raw: Path, tmp_path: Path
) -> None:
    key, target = tmp_path / "key", tmp_path / "new"
    key.write_bytes(RAW_KEY)
    names = [raw, target] if command == "convert" else [target, "1M"]
    form = ["-O", "qcow2"] if command == "convert" else ["-f", "qcow2"]
    aes = ["-o", "encrypt.format=aes", "--target-secret-file", key]
    done = run(command, *form, *aes, *names)
    assert done.status == 1
    assert "no QEMU could open the new image" in done.err
    assert not target.exists()


@pytest.mark.parametrize("text", [PASSPHRASE + "\n", PASSPHRASE + "\r\n"])
def test_a_newline_at_the_end_is_warned_of(
    text: str, run: Run, encrypted: Path, raw: Path, key: Path, tmp_path: Path
) -> None:
    key.write_text(text, newline="")
    target = tmp_path / "out"
    done = run("convert", "--secret-file", key, encrypted, target)
    assert done.status == 0
    assert "ends in a newline, which counts; --secret-strip-newline drops it" in done.err
    assert target.read_bytes() != raw.read_bytes()
    words = ["--secret-strip-newline", "--secret-file", key]
    assert run("convert", *words, encrypted, target) == Outcome(0, "", "")
    assert target.read_bytes() == raw.read_bytes()


def test_only_one_newline_is_dropped() -> None:
    assert strip_newline(b"a\n\n") == b"a\n"
    assert strip_newline(b"a\r\n") == b"a"
    assert strip_newline(b"a\r") == b"a\r"
    assert strip_newline(b"\na") == b"\na"
    assert strip_newline(b"\n") == b""


def test_a_long_passphrase_is_warned_of_once(run: Run, tmp_path: Path) -> None:
    key, new = tmp_path / "key", tmp_path / "new"
    key.write_text("0123456789abcdefX")
    words = ["-f", "qcow2", "-o", "encrypt.format=aes", "--secret-file", key, new, "1M"]
    done = run("create", *words)
    assert done.err.count("has 17 bytes; legacy AES uses the first 16") == 1
    assert run("create", "-q", *words) == Outcome(0, "", "")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--secret-file", "missing"], "--secret-file: cannot read 'missing': No such file"),
        (["--secret-file", "."], "--secret-file: cannot read '.': Is a directory"),
        (["--secret-file", "a\0b"], "the name holds a NUL"),
        (["--secret-fd", "xyz"], "--secret-fd takes the number of an open file descriptor"),
        (["--secret-fd", "-1"], "--secret-fd takes the number"),
        (["--secret-fd", "987"], "--secret-fd: cannot read file descriptor 987: Bad file"),
        (["--secret-env", "A_KEY"], "--secret-env takes the name of an environment variable"),
        (["--secret-file", "a", "--secret-env", "b"], "name two passphrases for one image"),
        (["--secret-file", "-", "--target-secret-file", "-"], "cannot come from one stream"),
        (["--secret-fd", "0", "--target-secret-fd", "0"], "cannot come from one stream"),
        (["--object", "secret,id=s,keyid=k,iv=i,data=x"], "'keyid' (a secret that is itself enc"),
        (["--object", "secret_keyring,id=s,serial=1"], "--object secret_keyring is not supported"),
        (["--object", "tls-creds-x509,id=s"], "--object tls-creds-x509 is not supported"),
    ],
)
def test_what_cannot_be_is_explained(
    words: list[str], message: str, run: Run, encrypted: Path, tmp_path: Path
) -> None:
    done = run("convert", *words, encrypted, tmp_path / "out")
    assert (done.status, done.out) == (1, "")
    assert message in done.err
    assert not (tmp_path / "out").exists()


def test_a_disk_image_is_no_passphrase(run: Run, encrypted: Path, raw: Path) -> None:
    done = run("convert", "--secret-file", raw, encrypted, "out")
    assert "more than 65536 bytes; this is not a passphrase" in done.err


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("convert", ["-O", "qcow2", "--target-secret-file", "{key}", "{raw}"]),
        ("convert", ["--target-secret-file", "{key}", "{raw}"]),
        ("create", ["-f", "qcow2", "--secret-file", "{key}"]),
        ("create", ["--target-secret-file", "{key}"]),
    ],
)
def test_a_new_passphrase_without_encryption_is_an_error(
    command: str, words: list[str], run: Run, raw: Path, key: Path, tmp_path: Path
) -> None:
    target = tmp_path / "new"
    given = [word.format(key=key, raw=raw) for word in words]
    done = run(command, *given, target, *(["1M"] if command == "create" else []))
    assert done.status == 1
    assert "no encryption: add -O qcow2 -o encrypt.format=aes" in done.err
    assert not target.exists()


@pytest.mark.parametrize(
    "words",
    [
        ["--object", "secret,id=s0,data=hunter2"],
        ["--object", "secret,id=s0,data=hunter2,format=hex"],
        ["--object", "secret,id=s0,data=hunter2,format=base64"],
        ["--object", "secret,id=s0,data=a,hunter2"],
        ["--object", "secret,id=s0,data=a,hunter2=b"],
        ["--object", "secret,id=s0,data=a,keyid=hunter2"],
        ["--object", "secret,data=hunter2"],
        ["--object", "secret,id=hunter2!,data=hunter2"],
        ["--object", '{"qom-type":"secret","id":"s0","data":"hunter2'],
        ["--object", '{"qom-type":"secret","id":"s0","data":"a","hunter2":"b"}'],
        ["--object", "hunter2,id=s0"],
        ["--secret-env", "hunter2"],
        ["--secret-fd", "hunter2"],
        ["--object=secret,id=s0,data=hunter2", "--bogus"],
        ["--bogus=hunter2"],
        ["--image-opts", "--object=secret,id=s0,data=hunter2"],
    ],
)
def test_no_message_shows_a_passphrase(
    words: list[str], run: Run, encrypted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QCOW2CRYPT_DEBUG", "1")
    done = run("convert", *words, encrypted, tmp_path / "out")
    assert done.status == 1
    assert "hunter2" not in done.out + done.err
    assert done.err.startswith(("qcow2crypt: ", "Traceback"))


def test_data_on_the_command_line_is_warned_of(run: Run, encrypted: Path, tmp_path: Path) -> None:
    source = f"encrypt.key-secret=s,file.filename={encrypted}"
    words = ["--object", f"secret,id=s,data={PASSPHRASE}", "--image-opts", source]
    done = run("convert", *words, tmp_path / "out")
    assert done.status == 0
    assert "stands on the command line" in done.err
    assert run("convert", "-q", *words, tmp_path / "out") == Outcome(0, "", "")


def test_an_object_that_nothing_names_is_pointed_out(
    run: Run, encrypted: Path, key: Path, tmp_path: Path
) -> None:
    done = run("convert", "--object", f"secret,id=s0,file={key}", encrypted, tmp_path / "out")
    assert done.status == 1
    assert "name the secret s0 for it: --image-opts encrypt.key-secret=..." in done.err


def test_what_holds_a_passphrase_does_not_show_it() -> None:
    console = Console(quiet=True)
    (secret,) = read_objects(["secret,id=a,data=hunter2"], console).values()
    given = GivenPassphrase("--secret-file", b"hunter2", from_file=True, console=console)
    prompted = PromptedPassphrase("image", "--secret", new=False, console=console)
    prompted.value = b"hunter2"
    assert secret.value == given() == prompted() == b"hunter2"
    for holder in (secret, given, prompted):
        assert "hunter2" not in f"{holder!r} {holder}"
        assert not hasattr(holder, "__dict__")  # vars() would show it
