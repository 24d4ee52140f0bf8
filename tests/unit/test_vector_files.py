"""The vector files are in order, and the check that says so can fail."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from vectors import cavp, documents, fips197_text, make_vectors

SAMPLE = """\
# CAVS 11.1
[ENCRYPT]

COUNT = 0
KEY = 00
PLAINTEXT = 01
CIPHERTEXT = 02

[DECRYPT]

COUNT = 0
KEY = 00
CIPHERTEXT = 02
PLAINTEXT = 01
"""


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The vector files in a folder of their own, with make_vectors looking there."""
    for path in [*make_vectors.FOLDER.glob("*.json"), make_vectors.DIGESTS]:
        shutil.copy(path, tmp_path)
    monkeypatch.setattr(make_vectors, "FOLDER", tmp_path)
    monkeypatch.setattr(make_vectors, "DIGESTS", tmp_path / "SHA256SUMS")
    return tmp_path


def test_all_files_are_in_order() -> None:
    assert make_vectors.problems(make_vectors.build(None)) == []


def test_the_check_is_quiet_about_a_true_copy(copy: Path) -> None:
    assert make_vectors.vector_files() == sorted(set(copy.glob("*.json")) - {copy / "schema.json"})
    assert make_vectors.main(["--check"]) == 0


@pytest.mark.parametrize("name", sorted(path.name for path in make_vectors.vector_files()))
def test_one_changed_digit_is_found(copy: Path, name: str) -> None:
    text = (copy / name).read_text("utf-8")
    at = text.rindex('"ciphertext": "' if "ciphertext" in text else '"output": "') + 15
    (copy / name).write_text(text[:at] + ("0" if text[at] != "0" else "1") + text[at + 1 :])
    assert make_vectors.main(["--check"]) == 1


@pytest.mark.parametrize("name", ["cavp-ecb.json", "cavp-cbc.json"])
def test_libraries_notice_a_wrong_case_even_when_digests_fit(copy: Path, name: str) -> None:
    document = json.loads((copy / name).read_text("utf-8"))
    document["cases"][3]["ciphertext"] = "00" * 16
    (copy / name).write_text(make_vectors.canonical(document), "utf-8")
    make_vectors.DIGESTS.write_text(make_vectors.digests(), "ascii")
    assert make_vectors.problems({}) == [
        f"{name}: {document['cases'][3]['id']} does not encrypt to its ciphertext",
        f"{name}: {document['cases'][3]['id']} does not decrypt to its plaintext",
    ]


def test_libraries_notice_a_wrong_chain(copy: Path) -> None:
    document = json.loads((copy / "cavp-cbc-mct.json").read_text("utf-8"))
    document["chains"][3]["output"] = "00" * 16
    (copy / "cavp-cbc-mct.json").write_text(make_vectors.canonical(document), "utf-8")
    name = document["chains"][3]["id"]
    assert f"cavp-cbc-mct.json: {name} does not end in its output" in make_vectors.problems({})


def test_measured_bytes_are_compared(copy: Path) -> None:
    document = json.loads((copy / "sectors.json").read_text("utf-8"))
    document["measured"][1]["offset"] -= 16
    (copy / "sectors.json").write_text(make_vectors.canonical(document), "utf-8")
    assert any("was measured otherwise" in problem for problem in make_vectors.problems({}))


def test_the_schema_notices_a_strange_field(copy: Path) -> None:
    document = json.loads((copy / "sectors.json").read_text("utf-8"))
    document["cases"][0]["colour"] = "blue"
    (copy / "sectors.json").write_text(make_vectors.canonical(document), "utf-8")
    assert any("colour" in problem for problem in make_vectors.problems({}))


def test_making_them_again_changes_nothing(copy: Path) -> None:
    before = {path.name: path.read_bytes() for path in copy.iterdir()}
    assert make_vectors.main([]) == 0
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == before


def test_answer_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "A.rsp").write_text(SAMPLE, "ascii", newline="\n")
    _, cases = cavp.read_answers(tmp_path, "A.rsp")
    assert [case["direction"] for case in cases] == ["encrypt", "decrypt"]
    assert {(case["key"], case["plaintext"], case["ciphertext"]) for case in cases} == {
        ("00", "01", "02")
    }


def test_copies_of_an_answer_file_must_agree(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    (tmp_path / "one" / "A.rsp").write_text(SAMPLE, "ascii", newline="\n")
    (tmp_path / "two" / "A.rsp").write_text(SAMPLE, "ascii", newline="\r\n")
    assert len(cavp.read_answers(tmp_path, "A.rsp")[1]) == 2
    (tmp_path / "two" / "A.rsp").write_text(SAMPLE.replace("01", "03"), "ascii")
    with pytest.raises(cavp.SourceProblemError, match="2 different copies"):
        cavp.read_answers(tmp_path, "A.rsp")


def test_a_missing_answer_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(cavp.SourceProblemError, match=r"0 different copies of CBCMMT128\.rsp"):
        cavp.read_answers(tmp_path, "CBCMMT128.rsp")


def test_every_answer_file_has_a_digest_and_cases() -> None:
    for mode in ("ecb", "cbc"):
        document = json.loads((make_vectors.FOLDER / f"cavp-{mode}.json").read_text("utf-8"))
        files = {source["file"].removesuffix(".rsp") for source in document["sources"]}
        assert len(files) == 15
        assert {case["id"].split("/")[0] for case in document["cases"]} == files


def test_a_text_that_is_not_the_standard_is_noticed() -> None:
    text = (
        "Appendix B  Legend for CIPHER (ENCRYPT) round[ 0].input 00112233445566778899aabbccddeeff"
    )
    found = fips197_text.differences(text, documents.fips197())
    assert any("appendix A" in line for line in found)
    assert any("appendix B" in line for line in found)
    assert any("appendix C" in line for line in found)
