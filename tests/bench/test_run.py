"""One real run with the smallest sizes, and what it leaves behind."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from cli.schemas import schema

from qcow2crypt import engines
from qcow2crypt.bench import cipher, peers
from qcow2crypt.bench.report import report
from qcow2crypt.bench.run import measure
from qcow2crypt.bench.settings import MIB, QUICK
from qcow2crypt.crypt.cipher import SectorCipher
from qcow2crypt.errors import BenchError

SMALLEST = replace(
    QUICK,
    seconds=0,
    disk_size=MIB,
    cluster_sizes=(512, 65536),
    off_sizes=(65536,),
    call_sizes=(512, 4096),
    call_seconds=0.0001,
    requests=20,
    patience=60,
)


def run(folder: Path, **other: Any) -> dict[str, Any]:
    rounds = []
    found = measure(replace(SMALLEST, **other), lambda number, *rest: rounds.append(number), folder)
    assert rounds == [0, 0, 1]
    assert list(folder.iterdir()) == []
    # As it is read from a file.
    document: dict[str, Any] = json.loads(json.dumps(found))
    jsonschema.validate(document, schema("bench"))
    return document


def test_a_run(tmp_path: Path) -> None:
    document = run(tmp_path)
    there = peers.installed()[0].keys()
    assert document["circumstances"]["programs"].keys() == there
    ours = {"qcow2crypt"}
    assert {row["who"] for row in document["conversion"]} <= ours | {"qemu-img"}
    assert {row["who"] for row in document["requests"]} == ours | ({"qemu-io"} & there)
    assert {row["who"] for row in document["cipher"]} == set(cipher.contenders())
    mine = [row for row in document["conversion"] if row["who"] == "qcow2crypt"]
    kinds = Counter((row["what"], row["encryption"], row["cluster-size"]) for row in mine)
    # A disk that small may take no longer than starting: then that is said.
    short = sum("hardly longer than starting" in one["why"] for one in document["missing"])
    for what in ("raw to qcow2", "qcow2 to raw"):
        for size in SMALLEST.cluster_sizes:
            assert kinds[what, "none", size] == 1 or short
            assert kinds[what, "aes", size] >= 1 or short
    # One round is not enough to say anything.
    assert document["answer"]["verdict"] == "cannot tell"
    assert document["answer"]["cluster-size"]
    assert "</html>" in report(document)


@pytest.mark.parametrize("engine", ["pure", "native:portable", "native:aesni", "pycryptodome"])
def test_with_another_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str) -> None:
    if engine not in (*cipher.contenders(), *engines.available()):
        pytest.skip(f"the engine {engine} does not work here")
    monkeypatch.setenv(engines.ENVIRONMENT_VARIABLE, engine)
    monkeypatch.setenv("PATH", str(tmp_path / "nothing is here"))
    (tmp_path / "files").mkdir()
    document = run(tmp_path / "files", cluster_sizes=(65536, 4096))
    assert document["circumstances"]["engine"] == engine
    assert document["circumstances"]["programs"] == {}
    assert {one["what"] for one in document["missing"]} >= {"qemu-img", "qemu-io", "openssl"}
    ways = {row["instructions"] for row in document["requests"]}
    twin = cipher.without_instructions() is not None
    if cipher.instructions(engine) == "off":
        assert ways == {"off"}
    else:
        assert ways == ({"allowed", "off"} if twin else {"allowed"})
    assert document["answer"]["beside-qemu"] == []


def test_without_native_there_is_no_kernel_to_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cipher, "contenders", lambda: ["pure"])
    monkeypatch.setenv("PATH", str(tmp_path / "nothing is here"))
    document = run(tmp_path)
    assert document["circumstances"]["engine-without-aes"] is None
    assert any("without AES instructions" in one["what"] for one in document["missing"])


@pytest.mark.parametrize("name", cipher.contenders())
def test_whether_an_engine_may_use_aes_instructions(name: str) -> None:
    base, _, kernel = name.partition(":")
    row = next((one for one in engines.status().kernels if one.name == kernel), None)
    wanted = base == "pycryptodome" or (row is not None and any("aes" in n for n in row.needs))
    assert (cipher.instructions(name) == "allowed") is wanted


def test_an_engine_with_wrong_bytes_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    subjects, _ = cipher.subjects(SMALLEST)
    subject = next(one for one in subjects if one.work.who == "pure")
    assert subject.sample() > 0
    assert subject.check is not None
    subject.check()
    wrong = SectorCipher.from_passphrase("another", engine="pure")
    monkeypatch.setattr(SectorCipher, "from_passphrase", lambda passphrase, engine=None: wrong)
    with pytest.raises(BenchError, match="other bytes than the textbook"):
        subject.check()
