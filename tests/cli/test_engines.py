"""engines: what does the AES, for people and for programs."""

from __future__ import annotations

import json

import jsonschema
import pytest
from cli.commandline import Run, run_program
from cli.schemas import schema

from qcow2crypt import engines


@pytest.fixture(autouse=True)
def nothing_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(engines.ENVIRONMENT_VARIABLE, raising=False)


@pytest.mark.parametrize("asked", ["", "auto", "pure", "native:portable", "no such thing"])
def test_json_keeps_to_its_schema(run: Run, monkeypatch: pytest.MonkeyPatch, asked: str) -> None:
    monkeypatch.setenv(engines.ENVIRONMENT_VARIABLE, asked)
    done = run("engines", "--output=json")
    found = json.loads(done.out)
    jsonschema.validate(found, schema("engines"))
    status = engines.status()
    assert found["used"] == (status.used or None)
    assert found["kernel"] == (status.kernel or None)
    assert [engine["name"] for engine in found["engines"]] == list(engines.names())
    assert [kernel["name"] for kernel in found["kernels"]] == [k.name for k in status.kernels]
    assert (done.status, done.err) == (0 if status.used else 1, "")


def test_text_for_people(run: Run) -> None:
    done = run("engines")
    assert (done.status, done.err) == (0, "")
    lines = done.out.splitlines()
    status = engines.status()
    assert lines[0].startswith(f"used: {status.used}")
    assert lines[1] == "why: auto takes the first that works here"
    for engine in status.engines:
        word = "works" if engine.available else "no"
        line = next(line for line in lines if line.split()[:2] == [engine.name, word])
        assert (engine.reason or engine.summary) in line
    for kernel in status.kernels:
        assert any(line.split()[0] == kernel.name for line in lines)
    for feature in status.features:
        assert f"    {feature.name:<16}{'yes' if feature.present else 'no'}" in lines


def test_a_choice_that_cannot_be(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(engines.ENVIRONMENT_VARIABLE, "fast\x1b[31m")
    done = run("engines")
    assert done.status == 1
    assert done.out.startswith("used: none\nwhy: engine 'fast\\x1b[31m' is not available: ")


def test_operands_are_refused(run: Run) -> None:
    done = run("engines", "disk.qcow2")
    assert (done.status, done.out) == (1, "")
    assert "engines takes no file names" in done.err


def test_another_form_of_output(run: Run) -> None:
    done = run("engines", "--output=xml")
    assert done.status == 1
    assert "--output is human or json" in done.err


def test_the_program() -> None:
    done = run_program("engines", env={engines.ENVIRONMENT_VARIABLE: "pure"})
    assert (done.status, done.err) == (0, "")
    assert done.out.startswith(
        "used: pure\nwhy: the environment variable QCOW2CRYPT_ENGINE asks for 'pure'\n"
    )
