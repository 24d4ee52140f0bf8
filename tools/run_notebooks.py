"""Run the notebooks of the documents in a real kernel, and hold what comes against what is in them.

    python tools/run_notebooks.py            does every output stand in the file as it comes now?
    python tools/run_notebooks.py --write    put the outputs that come now into the files

The outputs are kept in the files, so that a reader sees them without running anything.  Needs the
extra `docs`.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from source_tree import ROOT, source_files
from traitlets.config import Config

TIMEOUT = 120  # seconds for one cell; a guard against hanging


def notebooks() -> list[Path]:
    """The notebooks of the documents, from ROOT."""
    return [path for path in source_files(".ipynb") if path.parts[0] == "docs"]


def read(path: Path) -> Any:  # noqa: ANN401 - nbformat has no types
    """The notebook in the file."""
    return nbformat.read(path, as_version=4)


def run(path: Path) -> Any:  # noqa: ANN401 - nbformat has no types
    """The notebook after all its cells ran, in an empty folder.  Raises at the first error."""
    made = read(path)
    # The kernel finds this package where it is not installed, too, and only this one.
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(ROOT)
    try:
        with tempfile.TemporaryDirectory(prefix="qcow2crypt-notebook-") as folder:
            NotebookClient(
                made,
                timeout=TIMEOUT,
                kernel_name="python3",
                # Not over TCP, where others on this machine could listen.
                config=Config({"KernelManager": {"transport": "ipc", "ip": f"{folder}/kernel"}}),
                record_timing=False,
                resources={"metadata": {"path": folder}},
            ).execute()
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before
    for cell in made.cells:
        for output in cell.get("outputs", []):
            if "text/html" in output.get("data", {}):
                output.data.pop("text/plain", None)  # a repr that nobody would be shown
    made.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return made


def shown(notebook: Any) -> list[list[Any]]:  # noqa: ANN401 - nbformat has no types
    """What a reader sees below each code cell: streams and results, in order, without numbers."""
    return [
        [_plain(output) for output in cell.outputs]
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


def _plain(output: Any) -> Any:  # noqa: ANN401 - nbformat has no types
    if output.output_type == "stream":
        return output.name, output.text
    if output.output_type == "error":
        return output.ename, output.evalue
    # Where an object lies in memory says nothing.
    return {kind: re.sub(r"0x[0-9a-f]{9,}", "0x...", text) for kind, text in output.data.items()}


def main() -> int:
    """The exit status: 0 when all outputs are what they say."""
    parser = argparse.ArgumentParser(description="Run the notebooks of the documents.")
    parser.add_argument("--write", action="store_true", help="put the outputs into the files")
    write = parser.parse_args().write
    different = []
    for name in notebooks():
        path = ROOT / name
        made = run(path)
        if shown(made) == shown(read(path)):
            continue
        different.append(str(name))
        if write:
            path.write_text(nbformat.writes(made) + "\n", encoding="utf-8")
    if different and not write:
        print(f"other outputs than in the file: {', '.join(different)}", file=sys.stderr)
        print("look at them, then: python tools/run_notebooks.py --write", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
