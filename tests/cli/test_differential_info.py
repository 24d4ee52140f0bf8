"""info, map, help and faulty lines, given to qemu-img and to us: what both say is the same."""

from __future__ import annotations

import json
import shlex

import pytest
from cli.both import Both
from cli.lines import S0, SOURCE


@pytest.mark.parametrize("name", ["disk.raw", "plain.qcow2", "old.qcow2"])
@pytest.mark.parametrize("options", ["", "-U", "--backing-chain", "-f raw"])
def test_info_says_the_same(
    name: str, options: str, both: Both, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs, ours = both(["info", *options.split(), "--output=json", name], monkeypatch)
    assert (theirs.status, ours.status) == (0, 0)
    expected, found = json.loads(theirs.out), json.loads(ours.out)
    for description in found if isinstance(found, list) else [found]:
        del description["qcow2crypt"]
    # Two copies of a file may take a different number of blocks.
    for description in (*listed(expected), *listed(found)):
        del description["actual-size"]
    assert found == expected


def listed(value: object) -> list[dict[str, object]]:
    return value if isinstance(value, list) else [value]  # type: ignore[list-item]


@pytest.mark.parametrize("name", ["disk.raw", "plain.qcow2", "old.qcow2"])
def test_info_for_people_says_the_same(
    name: str, both: Both, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs, ours = both(["info", name], monkeypatch)
    remarks = ours.out.partition("Remarks of qcow2crypt:")[0].splitlines()
    assert remarks[:3] == theirs.out.splitlines()[:3]
    unordered = [sorted(line for line in lines if "disk size" not in line)
                 for lines in (theirs.out.splitlines(), remarks)]  # fmt: skip
    assert unordered[0] == unordered[1]


@pytest.mark.parametrize(
    "words",
    [
        "disk.raw",
        "-f raw plain.qcow2",
        "plain.qcow2",
        "plain.qcow2 --start-offset=10k --max-length 100k",
        "plain.qcow2 -s 1 -l 1",
        "plain.qcow2 -s 256k",
        "plain.qcow2 -s 1G",
        "plain.qcow2 -l 0",
        "plain.qcow2 -l 1G",
        f"{S0} --image-opts {SOURCE}",
        f"{S0} --image-opts {SOURCE} -s 100k",
    ],
)
def test_map_says_the_same(words: str, both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs, ours = both(["map", "--output=json", *words.split()], monkeypatch)
    assert (theirs.status, ours.status) == (0, 0)
    found = json.loads(ours.out)
    for entry in found:
        assert entry.pop("compressed") is False  # QEMU 8.2 and later have this key
    assert found == json.loads(theirs.out)


@pytest.mark.parametrize("words", ["disk.raw", "plain.qcow2", "plain.qcow2 -s 1 -l 1"])
def test_map_for_people_says_the_same(
    words: str, both: Both, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs, ours = both(["map", *words.split()], monkeypatch)
    assert ours.out == theirs.out


@pytest.mark.parametrize(
    "line",
    [
        "", "foo", "info", "info disk.raw plain.qcow2", "info missing", "info .", "info ''",
        "info -x disk.raw", "info -f", "info -f qcow2 disk.raw", "info -f nope disk.raw",
        "info --output=xml disk.raw", "info --outp=json disk.raw", "info -- disk.raw",
        "info --image-opts -f raw driver=raw,file.filename=disk.raw",
        "info --image-opts driver=raw,file.filename=disk.raw,read-only",
        f"info --image-opts {SOURCE}", f"info {S0} --image-opts {SOURCE},encrypt.format=luks",
        "map", "map disk.raw plain.qcow2", "map missing", "map -f raw missing",
        "map --output=xml disk.raw", "map -s -1 disk.raw", "map -s x disk.raw", "map -l x disk.raw",
        "--help", "--version", "-V", "info --help", "create -h", "create -f qcow2 -o help",
        "create -f raw -o '?'", "create -f qcow2 -o cluster_size=4k,help a",
        "create -f qcow2 -o help=on a 1M", "convert -O qcow2 -o help", "convert -o help a",
    ],
)  # fmt: skip
def test_same_exit_code(line: str, both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs, ours = both(shlex.split(line), monkeypatch)
    assert ours.status == theirs.status, (theirs.err, ours.err)
    assert bool(ours.out) == bool(theirs.out)
    both.compare_files()
