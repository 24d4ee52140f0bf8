"""The examples of the documents are true: each page is followed in a folder of its own.

Every ``console`` and ``python`` block of README.md and of docs/ is run, or says why it is not.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from source_tree import ROOT, source_files
from support.examples import ExampleError, Reader, agrees, blocks, commands, runnable

import qcow2crypt

SAMPLE = Path(qcow2crypt.__file__).parent / "data" / "qemu-1.6.0-aes.qcow2"
PAGES = [
    path
    for path in source_files(".md")
    if (path.parts[0] == "docs" or path == Path("README.md"))
    and runnable((ROOT / path).read_text(encoding="utf-8"))
]


def make_disks_of_the_library(folder: Path) -> None:
    """The images that docs/library.md opens: a chain of three, and disks of their own."""
    aes = qcow2crypt.Qcow2Options(encryption="aes")
    qcow2crypt.create(folder / "oldest.qcow2", 1 << 20, secret=b"oldest", options=aes)
    for name, secret, below in (("old", "old", "oldest"), ("top", "new", "old")):
        over = qcow2crypt.Qcow2Options(
            encryption="aes", backing_file=f"{below}.qcow2", backing_format="qcow2"
        )
        qcow2crypt.create(folder / f"{name}.qcow2", secret=secret, options=over)
    sample = "correct horse battery"
    qcow2crypt.create(folder / "disk.qcow2", 4 << 20, secret=sample, options=aes)
    qcow2crypt.create(folder / "encrypted.qcow2", 1 << 20, secret="...", options=aes)
    qcow2crypt.create(folder / "disk.raw", 1 << 20, format="raw")


def prepared(page: Path, folder: Path) -> Reader:
    """A reader in a folder that holds what the page says is there."""
    reader = Reader(folder)
    if page.parts[:2] == ("docs", "course"):
        # In a clone; each lesson begins where the first page of the course ends.
        shutil.copytree(SAMPLE.parent, folder / "qcow2crypt" / "data")
        begin = Path("docs/course/index.md")
        if page != begin:
            reader.follow((ROOT / begin).read_text(encoding="utf-8"), str(begin))
    else:
        shutil.copy(SAMPLE, folder)
    if page == Path("docs/library.md"):
        make_disks_of_the_library(folder)
    return reader


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_examples_of_the_page(page: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    if any("$ qemu-" in block.text for block in runnable(text)):
        request.getfixturevalue("qemu_img")
    folder = tmp_path / "reader"
    folder.mkdir()
    prepared(page, folder).follow(text, str(page))


# ------------------------------------------------------------------- that the reader can say no


def follow(text: str, folder: Path) -> int:
    return Reader(folder).follow(text, "page.md")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "reader"
    made.mkdir()
    return made


def test_folder_and_exit_status_go_from_command_to_command(folder: Path) -> None:
    page = (
        "```console\n$ mkdir x\n$ cd x\n$ touch y\n$ false\n```\n"
        "```console\n$ echo $?\n1\n$ ls\ny\n```\n"
    )
    assert follow(page, folder) == 2


def test_the_session_goes_on_through_the_page(folder: Path) -> None:
    page = "```python\n>>> a = 2\n```\ntext\n```python\n>>> a + 1\n3\n```\n"
    assert follow(page, folder) == 2


@pytest.mark.parametrize(
    "block",
    [
        "console\n$ echo a\nb",
        "console\n$ echo a; echo b\na",
        "console\n$ true\nwords",
        "console\n$ no-such-program",
        "console\n$ qcow2crypt info missing.qcow2",
        "python\n>>> 1 + 1\n3",
        "python\n>>> undefined",
        "python\nraise SystemExit(1)",
    ],
)
def test_what_is_not_true_is_found(block: str, folder: Path) -> None:
    with pytest.raises(ExampleError, match=r"page\.md"):
        follow(f"# Title\n\n```{block}\n```\n", folder)


def test_a_block_says_why_it_is_not_run() -> None:
    page = "<!-- not run: it takes an hour -->\n```console\n$ sleep 3600\n```\n\n```text\nx\n```\n"
    assert [(b.language, b.not_run, b.line) for b in blocks(page)] == [
        ("console", "it takes an hour", 3),
        ("text", None, 7),
    ]
    assert runnable(page) == []


def test_a_mark_without_a_reason_is_none() -> None:
    assert len(runnable("<!-- not run: -->\n```console\n$ true\n```\n")) == 1


def test_a_fence_beside_a_list_mark_is_refused() -> None:
    with pytest.raises(ValueError, match="line 2"):
        blocks("text\n1. ```console\n   $ true\n   ```\n")


def test_a_command_may_have_many_lines() -> None:
    text = "$ cat \\\n  file\n$ python <<'END'\nprint(1)\nEND\n1\n"
    assert list(commands(text)) == [
        (0, "cat \\\n  file", ""),
        (2, "python <<'END'\nprint(1)\nEND", "1"),
    ]


def test_output_needs_a_command() -> None:
    with pytest.raises(ValueError, match="without a command"):
        list(commands("words\n$ true\n"))


@pytest.mark.parametrize(
    ("wanted", "came", "same"),
    [
        ("a ... c", "a b c", True),
        ("a\n...\nc", "a\nb\nb\nc", True),
        ("a", "a \n", True),
        ("a", "b", False),
    ],
)
def test_what_agrees(wanted: str, came: str, same: bool) -> None:
    assert agrees(wanted, came) is same
