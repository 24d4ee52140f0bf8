"""``writer.py CASE FOLDER``: makes the images of a case, and forgets what is done last."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

from qcow2crypt.testing.case import Case
from qcow2crypt.testing.ours import write_case


def main(name: str, folder: str) -> None:
    case = Case.from_json(json.loads(Path(name).read_text(encoding="utf-8")))
    top = replace(case.top, operations=case.top.operations[:-1])
    write_case(case.with_layer(len(case.layers) - 1, top), Path(folder))


if __name__ == "__main__":
    main(*sys.argv[1:])
