"""The program as a whole: help, exit codes, and errors that are one line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import pytest
from cli.commandline import HOME, Outcome, Run, run_program
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import qcow2crypt
from qcow2crypt.cli import COMMANDS, cmd_info, main
from qcow2crypt.cli.options import Arguments

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "command-line.md"


def test_alone_it_prints_help(run: Run) -> None:
    done = run()
    assert (done.status, done.out) == (1, "")
    for command, (_, about) in COMMANDS.items():
        assert f"  {command}" in done.err
        assert about in done.err
    assert run("--help") == run("-h") == Outcome(0, done.err, "")


def test_version(run: Run) -> None:
    expected = Outcome(0, f"qcow2crypt {qcow2crypt.__version__}\n", "")
    assert run("--version") == run("-V") == expected
    assert run_program("--version") == expected


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command(command: str, run: Run) -> None:
    done = run(command, "--help")
    assert (done.status, done.err) == (0, "")
    assert done.out.startswith(f"usage: qcow2crypt {command} ")
    assert f"\n  qcow2crypt {command} " in done.out  # an example
    assert run(command, "-h") == done
    assert max(map(len, done.out.splitlines())) <= 104


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_in_the_document(command: str) -> None:
    module = import_module(COMMANDS[command][0])
    text = DOCUMENT.read_text("utf-8")
    shared = {"help", "format"}
    for option in module.OPTIONS:
        names = [f"-{option.letter}"] * bool(option.letter) + [f"--{option.name}"] * bool(
            option.name
        )
        written = any(f"`{name}" in text or f" {name}" in text for name in names)
        assert written or option.key in shared, option.spelling


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["bogus"], "there is no command 'bogus'", "qcow2crypt --help"),
        (["bo\x1b[31mgus"], "there is no command 'bo\\x1b[31mgus'", "qcow2crypt --help"),
        (["--bogus"], "has no option --bogus", "qcow2crypt --help"),
        (["info"], "info takes the name of one image", "qcow2crypt info --help"),
        (["info", "a", "b"], "info takes the name of one image", "qcow2crypt info --help"),
        (["map"], "map takes the name of one image", "qcow2crypt map --help"),
        (["create"], "create takes the name", "qcow2crypt create --help"),
        (["convert", "a"], "convert takes two names", "qcow2crypt convert --help"),
        (["convert", "-x", "a", "b"], "convert has no option -x", "qcow2crypt convert --help"),
        (["info", "-f"], "info -f needs a value: -f, --format FMT", "qcow2crypt info --help"),
    ],
)
def test_a_faulty_line_points_to_the_help(
    words: list[str], message: str, hint: str, run: Run
) -> None:
    done = run(*words)
    assert (done.status, done.out) == (1, "")
    assert message in done.err.splitlines()[0]
    assert done.err.splitlines()[1] == f"Try '{hint}' for more information."


def fault(arguments: Arguments, console: object) -> int:
    del arguments, console
    raise ZeroDivisionError("hunter2")


def test_a_fault_of_ours_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cmd_info, "run", fault)
    done = run("info", "a")
    assert done.status == 1
    assert len(done.err.splitlines()) == 1
    assert "ZeroDivisionError" in done.err
    assert "QCOW2CRYPT_DEBUG=1" in done.err
    assert "hunter2" not in done.err
    monkeypatch.setenv("QCOW2CRYPT_DEBUG", "1")
    assert "Traceback" in run("info", "a").err


def test_an_error_of_the_library_is_one_line(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "broken"
    path.write_bytes(b"QFI\xfb\0\0\0\x03" + bytes(200))
    done = run("info", path)
    assert (done.status, done.out, len(done.err.splitlines())) == (1, "", 1)
    assert done.err.startswith("qcow2crypt: ")


def test_interrupt(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(arguments: Arguments, console: object) -> int:
        del arguments, console
        raise KeyboardInterrupt

    monkeypatch.setattr(cmd_info, "run", interrupt)
    assert run("info", "a") == Outcome(130, "", "qcow2crypt: interrupted\n")


@pytest.mark.parametrize(
    ("number", "status", "said"),
    [
        (signal.SIGINT, 130, "qcow2crypt: interrupted\n"),
        (signal.SIGTERM, 143, ""),
        (signal.SIGHUP, 129, ""),
    ],
)
def test_a_conversion_that_is_ended_leaves_nothing(
    number: int, status: int, said: str, tmp_path: Path
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    with source.open("wb") as file:
        file.truncate(64 << 30)  # a hole, and with -S 0 long work
    with subprocess.Popen(
        [sys.executable, "-m", "qcow2crypt", "convert", "--progress=json", "-f", "raw", "-S", "0",
         "-O", "qcow2", source, target],
        env={**os.environ, "PYTHONPATH": str(HOME)},
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as program:  # fmt: skip
        assert program.stderr is not None
        program.stderr.readline()  # it is at work
        assert len(list(tmp_path.iterdir())) == 2
        program.send_signal(number)
        lines = program.stderr.read().decode().splitlines(keepends=True)
        assert program.wait(60) == status
    assert "".join(line for line in lines if not line.startswith("{")) == said
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_an_ignored_signal_stays_ignored(run: Run, raw: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert run("info", raw).status == 0
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_reader_that_goes_away(tmp_path: Path) -> None:
    """``qcow2crypt map ... | head -1`` ends without a word."""
    image = tmp_path / "image"
    with (tmp_path / "raw").open("wb") as file:
        for cluster in range(20_000):  # every second cluster: a long map
            file.seek(cluster * 1024)
            file.write(b"x" * 512)
    options = qcow2crypt.Qcow2Options(cluster_size=512)
    qcow2crypt.convert(
        str(tmp_path / "raw"), str(image), target_format="qcow2", options=options, sparse_size=512
    )
    with subprocess.Popen(
        [sys.executable, "-m", "qcow2crypt", "map", image],
        env={**os.environ, "PYTHONPATH": str(HOME)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as program:
        assert program.stdout is not None
        assert program.stderr is not None
        program.stdout.readline()
        program.stdout.close()
        assert program.stderr.read() == b""
        assert program.wait(60) == 141


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_output_that_cannot_be_written() -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "qcow2crypt", "--help"],
            check=False,
            env={**os.environ, "PYTHONPATH": str(HOME)},
            stdout=full,
            stderr=subprocess.PIPE,
        )
    assert done.returncode == 1
    assert done.stderr == b"qcow2crypt: cannot write to standard output: No space left on device\n"


@pytest.mark.skipif(os.name != "posix", reason="descriptors are closed by a POSIX shell")
@pytest.mark.parametrize(
    ("line", "status", "said"),
    [
        ("info a >&-", 1, "qcow2crypt: cannot write to standard output: it is closed\n"),
        ("convert a b >&-", 0, ""),
        ("convert --progress=json a b 2>&-", 0, ""),
        ("convert missing b 2>&-", 1, ""),
        ("convert a b <&- >&- 2>&-", 0, ""),
    ],
)
def test_closed_streams(line: str, status: int, said: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(512))
    done = subprocess.run(
        ["/bin/sh", "-c", f"'{sys.executable}' -m qcow2crypt {line}"],
        check=False,
        capture_output=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(HOME)},
    )
    assert (done.returncode, done.stderr.decode()) == (status, said)


def test_an_ascii_terminal_shows_escapes(tmp_path: Path) -> None:
    path = tmp_path / "fünf.raw"
    path.write_bytes(bytes(512))
    done = run_program("info", path, env={"PYTHONIOENCODING": "ascii"})
    assert (done.status, done.err) == (0, "")
    assert "f\\xfcnf.raw" in done.out


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes only on Linux")
def test_a_file_name_that_is_no_text(tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/\xff\x1b.raw"
    Path(os.fsdecode(name)).write_bytes(b"x" * 512)
    for words in (["info"], ["info", "--output=json"], ["map"]):
        done = run_program(*words, name)
        assert (done.status, done.err) == (0, "")
        assert "\x1b" not in done.out
    assert run_program("convert", name, tmp_path / "out").status == 0
    assert run_program("info", name + b"missing").status == 1


KNOWN_WORDS = (
    "info create convert map -f -O -o -S -q -p -n -c -e --object --image-opts --help -- - raw "
    "qcow2 --output=json --target-image-opts --secret-file --secret-fd 1M help json:{} "
    "encrypt.format=aes driver=qcow2,file.filename=x secret,id=a,data=b"
)
WORDS = st.sampled_from(KNOWN_WORDS.split()) | st.text(max_size=8)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=st.lists(WORDS, max_size=7))
def test_any_words_end_in_a_known_way(
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", None)
    words = [word for word in words if "/" not in word]  # nothing outside of this folder
    status = main(words)
    said = capfd.readouterr().err
    assert status in {0, 1}
    assert "fault of qcow2crypt" not in said
    assert (status == 0) or said.startswith(("qcow2crypt: ", "usage: "))


def test_the_start_is_light() -> None:
    code = "import sys, qcow2crypt.cli; print(*sys.modules)"
    loaded = set(run_program(code=code).out.split())
    assert not loaded & {"argparse", "json", "rich", "getpass", "Crypto", "ctypes", "subprocess"}


def test_nothing_waits_for_the_clock(run: Run, raw: Path, tmp_path: Path) -> None:
    """No command sleeps: time may pass in work only."""

    def never(seconds: float) -> None:
        raise AssertionError(seconds)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "sleep", never)
        assert run("convert", "--progress=json", raw, tmp_path / "out").status == 0
