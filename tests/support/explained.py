"""explain of golden images, and what holds for the words of every answer."""

from __future__ import annotations

import json
from typing import Any

import golden

import qcow2crypt
from qcow2crypt.explaining.facts import Explanation
from qcow2crypt.explaining.wording import as_text, sections


def explained(name: str, **wanted: Any) -> Explanation:
    image = golden.load(name)
    wanted.setdefault("secret", image.secret)
    return qcow2crypt.explain(image.path, external="any", **wanted)


def check_wording(found: Explanation) -> None:
    lines = as_text(found).splitlines()
    names = (found.image, *(step.file for step in found.layers))
    assert [line for line in lines if len(line) > 80 and not any(n in line for n in names)] == []
    assert found._repr_html_().count("<pre") == len(list(sections(found)))
    json.dumps(found.to_dict())
