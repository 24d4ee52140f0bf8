"""The site has what it should: every public name, every page, and nothing that is fetched."""

from __future__ import annotations

import ast
import re

from source_tree import ROOT, source_files

import qcow2crypt

API = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
COURSE = sorted(path for path in source_files(".md") if path.parts[:2] == ("docs", "course"))


def test_every_public_name_is_in_the_reference() -> None:
    told = set(re.findall(r"\.\. auto(?:function|class):: (\w+)", API))
    told |= {name.rpartition(".")[2] for name in re.findall(r"\.\. automodule:: ([\w.]+)", API)}
    missing = set(qcow2crypt.__all__) - told - {"__version__"}
    assert not missing, f"add to docs/api.md: {sorted(missing)}"


def test_every_lesson_follows_the_one_before() -> None:
    lessons = [path for path in COURSE if path.name[0].isdigit()]
    index = (ROOT / "docs/course/index.md").read_text(encoding="utf-8")
    assert len(lessons) == 10
    for number, path in enumerate(lessons, 1):
        text = (ROOT / path).read_text(encoding="utf-8")
        title = text.partition("\n")[0]
        assert title.startswith(f"# {number}. ")
        assert f"[{title[2:]}]({path.name})" in index
        for part in ("## Sources\n", "## Exercises\n", "<summary>Answers</summary>"):
            assert text.count(part) == 1, f"{path}: {part}"
        if number < len(lessons):
            assert f"]({lessons[number].name})" in text.splitlines()[-1]


def test_every_exercise_has_an_answer() -> None:
    for path in COURSE:
        _, _, rest = (ROOT / path).read_text(encoding="utf-8").partition("## Exercises\n")
        exercises, _, answers = rest.partition("<details>")
        asked, given = (
            re.findall(r"^(\d+)\. ", part, re.MULTILINE) for part in (exercises, answers)
        )
        assert asked == given, path


def test_terms_of_the_lessons_are_in_the_glossary() -> None:
    """What stands in *italics* at its first use is a term."""
    glossary = (ROOT / "docs/course/glossary.md").read_text(encoding="utf-8").lower()
    missing = []
    for path in COURSE:
        text = re.sub(
            r"```.*?```|\[[^\]]*\]\([^)]*\)", "", (ROOT / path).read_text("utf-8"), flags=re.DOTALL
        )
        body = text.partition("## Sources")[0]
        for term in re.findall(r"(?<![*\w])\*([^*\n]+?)\*(?![*\w])", body):
            if term.lower().removesuffix("s") not in glossary and term not in EMPHASIS:
                missing.append(f"{path.name}: {term}")
    assert not missing, "\n".join(missing)


# In italics for another reason than being a term.
EMPHASIS = {"each", "sees", "writes", "same ciphertext", "the same bytes", "in its place"}


def test_the_settings_name_what_exists() -> None:
    """That a page stands in no tree, or a link leads to none, is a warning of Sphinx."""
    tree = ast.parse((ROOT / "docs" / "conf.py").read_text(encoding="utf-8"))
    patterns = next(
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "include_patterns"
    )
    assert "docs/**" in patterns
    for name in set(patterns) - {"docs/**"}:
        assert (ROOT / name).exists(), name
