"""The fuzzing of csrc: it builds, finds nothing in its first calls, and finds what is broken."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from source_tree import ROOT

pytestmark = pytest.mark.slow

NO_LIBFUZZER = 77


def fuzz(folder: Path, csrc: Path, runs: int) -> subprocess.CompletedProcess[str]:
    """So many calls of the functions of the sources in ``csrc``, always the same ones."""
    done = subprocess.run(
        [ROOT / "fuzz" / "csrc.sh", folder, f"-runs={runs}", "-seed=1", "-verbosity=0"],
        check=False,
        capture_output=True,
        text=True,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "CSRC": str(csrc)},
        timeout=280,
    )
    if done.returncode == NO_LIBFUZZER:
        pytest.skip(done.stderr.strip())
    return done


def test_nothing_is_found_in_the_first_calls(tool: Callable[[str], str], tmp_path: Path) -> None:
    tool("clang")
    done = fuzz(tmp_path, ROOT / "csrc", 1000)
    assert done.returncode == 0, done.stdout + done.stderr
    assert any((tmp_path / "inputs").iterdir())


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("x < y ? y - x < a_length", "x < y ? 0"), ("i < count; i++", "i <= count; i++")],
    ids=["an overlap is not seen", "a block too many"],
)
def test_what_is_broken_is_found(
    tool: Callable[[str], str], tmp_path: Path, right: str, wrong: str
) -> None:
    tool("clang")
    csrc = tmp_path / "csrc"
    shutil.copytree(ROOT / "csrc", csrc)
    # The kernel that runs everywhere is enough here, and compiled in no time.
    for name, there, instead in (
        ("internal.h", "#define QC_X86 1", ""),
        ("dispatch.c", right, wrong),
    ):
        text = (csrc / name).read_text("utf-8")
        assert text.count(there) == 1
        (csrc / name).write_text(text.replace(there, instead), "utf-8")
    done = fuzz(tmp_path / "made", csrc, 20_000)
    assert done.returncode != 0
    assert "not so: " in done.stderr or "use-after-poison" in done.stderr, done.stderr
    assert any((tmp_path / "made").glob("crash-*"))
