"""The signatures in docs/library.md are those of the library: the same parameters in order."""

from __future__ import annotations

import inspect
import operator
import re

import pytest
from source_tree import ROOT
from support.examples import blocks

import qcow2crypt

TEXT = (ROOT / "docs" / "library.md").read_text(encoding="utf-8")
WRITTEN = "".join(b.text for b in blocks(TEXT) if b.not_run == "a signature")
SIGNATURES = re.findall(r"^qcow2crypt\.([\w.]+)\((.*?)\)\s+->", WRITTEN, re.MULTILINE | re.DOTALL)


def written(parameters: str) -> list[str]:
    """Names in order; after "*" they are given by name only, and marked so."""
    names = [part.partition("=")[0].strip() for part in parameters.split(",")]
    star = names.index("*") if "*" in names else len(names)
    return names[:star] + [f"{name} by name" for name in names[star + 1 :]]


def real(name: str) -> list[str]:
    function = operator.attrgetter(name)(qcow2crypt)
    parameters = inspect.signature(function).parameters.values()
    return [
        f"{one.name} by name" if one.kind is one.KEYWORD_ONLY else one.name for one in parameters
    ]


def test_all_of_them_were_found() -> None:
    assert len(SIGNATURES) == len(re.findall(r"->", WRITTEN)) >= 15


@pytest.mark.parametrize(("name", "parameters"), SIGNATURES, ids=[name for name, _ in SIGNATURES])
def test_signature(name: str, parameters: str) -> None:
    told = [one for one in written(parameters) if one]
    assert told == real(name)
