"""Fixtures for the command line.  No test here may ask on the terminal of whoever runs it."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli.both import Both, prepare
from cli.commandline import PASSPHRASE, Outcome, Run, disk_bytes

from qcow2crypt.cli import main, passphrases
from qcow2crypt.testing.witness import QemuImg


@pytest.fixture(autouse=True)
def no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passphrases, "has_terminal", lambda: False)
    monkeypatch.delenv("QCOW2CRYPT_DEBUG", raising=False)


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """``main`` in this process, with what it wrote."""

    def run_main(*words: str | Path) -> Outcome:
        capfd.readouterr()
        status = main([str(word) for word in words])
        written = capfd.readouterr()
        return Outcome(status, written.out, written.err)

    return run_main


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """A raw disk of 1 MiB."""
    path = tmp_path / "disk.raw"
    path.write_bytes(disk_bytes(1 << 20))
    return path


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """A file that holds PASSPHRASE and nothing else."""
    path = tmp_path / "key"
    path.write_text(PASSPHRASE)
    return path


@pytest.fixture
def encrypted(tmp_path: Path, raw: Path, key: Path, run: Run) -> Path:
    """``raw`` as an AES image."""
    path = tmp_path / "old.qcow2"
    done = run(
        "convert", "-q", "-f", "raw", "-O", "qcow2", "-o", "encrypt.format=aes",
        "--target-secret-file", key, raw, path,
    )  # fmt: skip
    assert done == Outcome(0, "", "")
    return path


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory, qemu_img: QemuImg) -> Path:
    """A folder with the files that tests/cli/lines.py names."""
    folder = tmp_path_factory.mktemp("prepared")
    prepare(folder, qemu_img)
    return folder


@pytest.fixture
def both(prepared: Path, tmp_path: Path, qemu_img: QemuImg, run: Run) -> Both:
    """qemu-img and us, each with a copy of those files."""
    return Both(prepared, tmp_path, qemu_img, run)
