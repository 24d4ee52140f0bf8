"""What is loaded, and when: a program that needs little of the package pays for little of it.

Not times but names: which modules a process has imported at its end.  ``-S`` leaves out
site-packages and its start-up hooks, so what is loaded was asked for by us; it also shows that
these commands need no library at all.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import qcow2crypt
from qcow2crypt import engines
from qcow2crypt.errors import EngineUnavailableError

HEAVY = {
    "_cffi_backend",
    "argparse",
    "backports.zstd",
    "base64",
    "cffi",
    "compression.zstd",
    "concurrent.futures",
    "Crypto",
    "ctypes",
    "dataclasses",
    "hashlib",
    "hypothesis",
    "inspect",
    "json",
    "multiprocessing",
    "pathlib",
    "qcow2crypt._native",
    "rich",
    "subprocess",
    "zlib_ng",
    "zstandard",
}
"""None of these for an import, and none for a command that does not need it."""

START = {"", "_version", "errors", "cli"}
START |= {f"cli.{name}" for name in ("failures", "options", "terminal")}
"""What every command line loads of ours, by the name below ``qcow2crypt.``."""

INFO = {
    *START,
    *("cli.cmd_info", "cli.images", "cli.objects", "cli.opening", "cli.output_human"),
    *("cli.passphrases", "cli.qemujson", "cli.qemuopts", "cli.secretfiles", "cli.sizes"),
    *("image", "image.base", "image.chain", "image.describe", "image.extents", "image.filecalls"),
    *("image.hostfile", "image.info", "image.layers", "image.locks", "image.names", "image.policy"),
    *(
        "image.probe",
        "image.qcow2",
        "image.qcow2.entries",
        "image.qcow2.extensions",
        "image.qcow2.header",
    ),
    *("image.qcow2.remarks", "image.qcow2.snapshots", "image.qcow2.structure"),
    *("image.qcow2.tables", "image.qemujson", "image.secrets", "pagecache", "secret"),
    "units",
}
"""The most that ``info`` of a qcow2 image may load.

A module that is new here belongs into the function that needs it, or into this list: then say in
the commit why everybody who asks what an image is must wait for it.
"""

ELSEWHERE = r"crypt|engines|reference|image\.(luks1|qcow1|qcow2\.(bulk|check|edit))|demo"
"""What no command needs that only reads or makes images without encryption."""


TELL = "import atexit, sys; atexit.register(lambda: print(*sys.modules, file=sys.stderr))"
AS_PROGRAM = "import runpy; runpy.run_module('qcow2crypt', run_name='__main__', alter_sys=True)"


def loaded(code: str, *words: str, folder: Path, site: bool = False) -> set[str]:
    """The modules that a process has imported at its end, which ran ``code`` in ``folder``.

    With ``site`` it has the installed packages, too.
    """
    home = Path(qcow2crypt.__file__).parent.parent
    done = subprocess.run(
        [sys.executable, *([] if site else ["-S"]), "-c", f"{TELL}; {code}", *words],
        check=False,
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(home)},
    )
    assert done.returncode == 0, done.stderr
    return set(done.stderr.split())


def of_command(*words: str, folder: Path) -> set[str]:
    """As ``loaded``, of ``python -m qcow2crypt WORDS``."""
    return loaded(AS_PROGRAM, *words, folder=folder)


def ours(modules: set[str]) -> set[str]:
    """Those of this package, by the name below ``qcow2crypt.``; "" is the package itself."""
    names = {name for name in modules if name.partition(".")[0] == "qcow2crypt"}
    return {name.removeprefix("qcow2crypt").removeprefix(".") for name in names}


def test_import_loads_nothing_heavy(tmp_path: Path) -> None:
    found = loaded("import qcow2crypt", folder=tmp_path)
    assert ours(found) == {"", "_version"}
    assert sorted(found & HEAVY) == []


@pytest.mark.parametrize("words", [["--version"], ["--help"]])
def test_the_command_line_alone_loads_no_command(tmp_path: Path, words: list[str]) -> None:
    found = of_command(*words, folder=tmp_path)
    assert ours(found) <= START
    assert sorted(found & HEAVY) == []


def test_info_loads_what_it_needs(tmp_path: Path) -> None:
    options = qcow2crypt.Qcow2Options(encryption="aes")
    qcow2crypt.create(tmp_path / "disk", 1 << 20, secret="hunter2", options=options)
    found = of_command("info", "disk", folder=tmp_path)
    assert "image.describe" in ours(found)
    assert ours(found) <= INFO
    assert sorted(found & HEAVY) == []


@pytest.mark.parametrize(
    "words",
    [
        "create -q -f raw new 1M",
        "create -q -f qcow2 new 1M",
        "convert -f raw -O qcow2 raw new",
        "convert -O raw qcow2 new",
        "convert qcow2 -O qcow2 new",
        "map qcow2",
        "compare qcow2 raw",
        "measure -O qcow2 raw",
    ],
)
def test_without_encryption_no_cipher_is_loaded_and_nothing_that_edits(
    tmp_path: Path, words: str
) -> None:
    (tmp_path / "raw").write_bytes(b"disk" * 1024)
    qcow2crypt.convert(tmp_path / "raw", tmp_path / "qcow2", target_format="qcow2")
    found = of_command(*words.split(), folder=tmp_path)
    assert "image" in ours(found)
    assert sorted(name for name in ours(found) if re.match(ELSEWHERE, name)) == []
    assert sorted(found & HEAVY) == []


@pytest.mark.parametrize(
    "words",
    [
        "create -q -f qcow2 -o encrypt.format=aes --secret-file key new 1M",
        "convert -f raw -O qcow2 -o encrypt.format=aes --target-secret-file key raw new",
        "convert -O raw --secret-file key aes new",
    ],
)
def test_with_encryption_one_engine_is_all_that_comes_along(tmp_path: Path, words: str) -> None:
    try:
        engines.get("native")
    except EngineUnavailableError as error:
        pytest.skip(f"the engine 'native' was not tested: {error.reason}")
    (tmp_path / "raw").write_bytes(b"disk" * 1024)
    (tmp_path / "key").write_bytes(b"hunter2")
    qcow2crypt.convert(
        *(tmp_path / "raw", tmp_path / "aes"),
        target_format="qcow2",
        target_secret="hunter2",
        options=qcow2crypt.Qcow2Options(encryption="aes"),
    )
    before = loaded("pass", folder=tmp_path, site=True)  # what the installation loads by itself
    found = loaded(AS_PROGRAM, *words.split(), folder=tmp_path, site=True)
    assert "qcow2crypt.crypt.cipher" in found
    assert sorted((found - before) & HEAVY) == ["_cffi_backend", "qcow2crypt._native"]
    assert "qcow2crypt.reference" not in found
