"""``qcow2crypt difftest`` as a program of its own, with or without a fault in our code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import qcow2crypt
from qcow2crypt.testing.case import Case

TESTS = Path(__file__).parent.parent
HOME = Path(qcow2crypt.__file__).parent.parent
LAUNCH = TESTS / "support" / "broken" / "launch.py"


@dataclass(frozen=True)
class Run:
    """How a run ended: its status, its summary, and the folder with its reports."""

    status: int
    summary: dict[str, Any]
    stderr: str
    folder: Path

    def group(self, kind: str, part: str) -> dict[str, Any]:
        """The one difference of this kind."""
        rows = self.summary["differences"]
        found = [row for row in rows if (row["kind"], row["part"]) == (kind, part)]
        assert found, self.summary
        return dict(found[0])

    def report(self, group: dict[str, Any]) -> str:
        path = self.folder / str(group["report"]) / "report.md"
        return path.read_text(encoding="utf-8")

    def case(self, group: dict[str, Any]) -> Case:
        text = (self.folder / str(group["report"]) / "case.json").read_text(encoding="utf-8")
        return Case.from_json(json.loads(text))


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join((str(HOME), str(TESTS)))}


def words_for(variant: str | None) -> list[str]:
    """How the command line is begun, with the fault that is called ``variant``."""
    if variant is None:
        return [sys.executable, "-m", "qcow2crypt", "difftest"]
    return [sys.executable, str(LAUNCH), variant, "difftest"]


def difftest(folder: Path, *words: str, variant: str | None = None) -> Run:
    """Run it in a folder, where its reports go to ``out``."""
    target = folder / "out"
    command = [*words_for(variant), "--json", "--jobs", "1", *words]
    if "--resume" not in words:
        command += ["--output", str(target)]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, cwd=folder, env=environment()
    )
    assert done.returncode in (0, 1), done.stderr
    return Run(done.returncode, json.loads(done.stdout), done.stderr, target)
