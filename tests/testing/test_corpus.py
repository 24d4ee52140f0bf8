"""The corpus: every entry is what its manifest says, and we do what it expects of us."""

from __future__ import annotations

import functools
import gzip
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
from source_tree import ROOT

import qcow2crypt
from qcow2crypt.errors import ArgumentError, SourceError
from qcow2crypt.testing import corpus
from qcow2crypt.testing.corpus import Entry, Outcome
from qcow2crypt.testing.outcomes import read_whole

FOLDER = ROOT / "corpus"
GROUPS = ("damage", "found", "golden", "hostile", "ours", "qemu", "random")
MANIFESTS = [path.relative_to(FOLDER) for path in corpus.manifests(FOLDER)]
LARGEST = 3 << 20
"""Bytes of the whole folder."""


@functools.cache
def entry_of(path: Path) -> Entry:
    return corpus.load(FOLDER / path)


def entries() -> tuple[Entry, ...]:
    return tuple(entry_of(path) for path in MANIFESTS)


def without_words(outcome: Outcome) -> tuple[object, ...]:
    """What two programs can agree on."""
    if outcome.result == "reads":
        return ("reads", outcome.size, outcome.sha256)
    return ("does not read",)


@pytest.mark.parametrize("path", MANIFESTS, ids=str)
def test_we_do_what_is_expected(path: Path, tmp_path: Path) -> None:
    entry = entry_of(path)
    # What stands alone is read from memory: whoever refers to other files is refused for that.
    image = io.BytesIO(entry.data) if entry.alone else entry.unpack(tmp_path)
    known = None if entry.format == "luks" else entry.format
    assert read_whole(image, known, entry.secrets) == entry.expected


@pytest.mark.parametrize(
    "path",
    [
        path
        for path in MANIFESTS
        if entry_of(path).expected.result == "reads"
        and any(sighting.check is not None for sighting in entry_of(path).seen)
    ],
    ids=str,
)
def test_we_count_what_qemu_counts(path: Path) -> None:
    entry = entry_of(path)
    result = qcow2crypt.check(io.BytesIO(entry.data), format="qcow2")
    ours = {
        "corruptions": result.corruptions,
        "leaks": result.leaks,
        "check-errors": result.check_errors,
    }
    for sighting in entry.seen:
        if sighting.check is not None:
            assert {key: value for key, value in ours.items() if value} == dict(sighting.check)


def test_manifests_follow_their_schema() -> None:
    schema = json.loads((FOLDER / "manifest.schema.json").read_text("utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    for path in MANIFESTS:
        manifest = json.loads((FOLDER / path).read_text("utf-8"))
        assert not [f"{path}: {error.message}" for error in validator.iter_errors(manifest)]
        assert path.name == f"{manifest['name']}.json"


def test_who_differs_from_what_is_expected_says_why() -> None:
    for entry in entries():
        agree = all(
            without_words(seen.outcome) == without_words(entry.expected) for seen in entry.seen
        )
        assert agree is (not entry.why), entry


def test_nothing_lies_in_the_corpus_that_no_manifest_names() -> None:
    named = {file.path for entry in entries() for file in entry.files}
    packed = set(FOLDER.glob("*/*.gz"))
    assert named == packed
    assert {path.parts[0] for path in MANIFESTS} == set(GROUPS)


def test_it_is_small() -> None:
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) < LARGEST
    assert len(MANIFESTS) > 500


def test_entries_are_chosen_by_group_feature_and_result() -> None:
    assert {entry.group for entry in corpus.entries(FOLDER)} == set(GROUPS)
    both = corpus.entries(FOLDER, features={"aes", "snapshots"}, without={"version-2"})
    assert both
    assert all(entry.features >= {"aes", "snapshots"} for entry in both)
    assert all("version-2" not in entry.features for entry in both)
    unreadable = corpus.entries(FOLDER, group="damage", result="unreadable")
    assert unreadable
    assert {(entry.group, entry.expected.result) for entry in unreadable} == {
        ("damage", "unreadable")
    }
    with pytest.raises(ArgumentError, match="no entry of the corpus has the feature aess"):
        corpus.entries(FOLDER, features={"aess"})


def test_a_folder_without_a_corpus_is_told(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="there is no corpus in"):
        corpus.entries(tmp_path)


def test_the_folder_can_be_named_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(corpus.VARIABLE, str(FOLDER))
    assert corpus.root() == FOLDER
    monkeypatch.setenv(corpus.VARIABLE, "")
    monkeypatch.setattr(corpus, "__file__", str(ROOT / "qcow2crypt" / "testing" / "corpus.py"))
    assert corpus.root() == FOLDER


def test_what_was_changed_is_not_handed_out(tmp_path: Path) -> None:
    source = FOLDER / "ours" / "plain-512.json"
    manifest = tmp_path / source.name
    shutil.copy(source, manifest)
    entry = corpus.load(manifest)
    with pytest.raises(SourceError, match="cannot be unpacked"):
        _ = entry.data
    entry.files[0].path.write_bytes(gzip.compress(b"something else"))
    with pytest.raises(SourceError, match="does not hold what its manifest says"):
        _ = entry.data
    manifest.write_text("{}")
    with pytest.raises(SourceError, match="cannot be read"):
        corpus.load(manifest)


def test_passphrases_are_not_in_the_repr() -> None:
    (entry,) = (entry for entry in entries() if entry.name == "aes-c512-v3")
    assert entry.secret is not None
    assert entry.secret.decode() not in repr(entry)


def make_corpus(
    home: Path, *words: str | Path, into: Path = FOLDER
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "make_corpus.py", *words],
        check=False,
        capture_output=True,
        text=True,
        cwd=home,
        env={**os.environ, corpus.VARIABLE: str(into)},
    )
    if "are needed" in done.stderr:
        pytest.skip("the corpus was not made again: qemu-img and qemu-io are not installed")
    return done


def test_some_of_it_is_made_again_and_is_the_same(tmp_path: Path) -> None:
    done = make_corpus(tmp_path, "--check", "--every", "40")
    if done.returncode == 77:
        pytest.skip(f"the corpus was not made again: {done.stdout.strip()}")
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_fuzzing_found_is_added(tmp_path: Path) -> None:
    (entry, *_) = corpus.entries(FOLDER, group="found")
    found = tmp_path / "crash-0123"
    found.write_bytes(entry.data)
    done = make_corpus(
        tmp_path, "--add", found, "--name", entry.name, "--about", entry.about, into=tmp_path
    )
    assert done.returncode == 0, done.stdout + done.stderr
    added = corpus.load(tmp_path / "found" / f"{entry.name}.json")
    assert (added.data, added.about, added.expected) == (entry.data, entry.about, entry.expected)
    assert (added.format, added.features, added.secrets) == (
        entry.format,
        entry.features,
        entry.secrets,
    )


def test_who_adds_what_qemu_does_otherwise_must_say_why(tmp_path: Path) -> None:
    entry = next(one for one in corpus.entries(FOLDER, group="damage") if one.why)
    found = tmp_path / "crash-0123"
    found.write_bytes(entry.data)
    words = ("--add", found, "--name", "odd", "--about", entry.about)
    done = make_corpus(tmp_path, *words, into=tmp_path)
    assert done.returncode == 1
    assert "say why" in done.stdout, done.stderr
    assert not (tmp_path / "found").exists()
    done = make_corpus(tmp_path, *words, "--why", entry.why, into=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert corpus.load(tmp_path / "found" / "odd.json").why == entry.why
