"""What the documents point at exists: relative links, their headings, and the map of the house."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from source_tree import ROOT, source_files

DOCUMENTS = source_files(".md")


def text_of(path: Path) -> str:
    """The document without its code blocks."""
    text = (ROOT / path).read_text(encoding="utf-8")
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors_of(path: Path) -> set[str]:
    """The anchors of the headings, made as GitHub makes them."""
    headings = re.findall(r"^#+ +(.+?) *$", text_of(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", DOCUMENTS, ids=str)
def test_relative_links_lead_somewhere(path: Path) -> None:
    broken = []
    for link in re.findall(r"\]\(<?([^)\s>]+)>?(?: \"[^\"]*\")?\)", text_of(path)):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = path.parent / name if name else path
        if not (ROOT / target).exists():
            broken.append(f"{link}: there is no {target}")
        elif anchor and target.suffix == ".md" and anchor not in anchors_of(target):
            broken.append(f"{link}: {target} has no such heading")
    assert not broken, "\n".join(broken)


def mapped_paths() -> set[str]:
    """The paths in the map in CONTRIBUTING.md: a name a line, two spaces deeper in each room."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    tree = re.search(r"^## The map\n.*?^```text\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert tree is not None, "CONTRIBUTING.md has no tree under '## The map'"
    paths: set[str] = set()
    rooms: list[str] = []
    for line in tree[1].splitlines():
        found = re.match(r"( *)(\S+)", line)
        assert found is not None, "an empty line in the map"
        rooms[len(found[1]) // 2 :] = [found[2].rstrip("/")]
        paths.add("/".join(rooms))
    return paths


def test_the_map_shows_only_what_exists() -> None:
    missing = sorted(path for path in mapped_paths() if not (ROOT / path).exists())
    assert not missing, f"the map in CONTRIBUTING.md names what is not there: {missing}"


def test_the_map_shows_every_room_and_every_module() -> None:
    files = source_files()
    wanted = {str(folder) for path in files for folder in path.parents} - {"."}
    wanted |= {
        str(path)
        for path in files
        if path.parts[0] == "qcow2crypt" and path.suffix == ".py" and path.name != "__init__.py"
    }
    unmapped = sorted(wanted - mapped_paths())
    assert not unmapped, f"add to the map in CONTRIBUTING.md: {unmapped}"
