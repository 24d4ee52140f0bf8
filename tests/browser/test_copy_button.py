"""The button on the examples of the site copies what is to be typed, and no more."""

from __future__ import annotations

import doctest
from typing import TYPE_CHECKING

from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import BashSessionLexer, PythonConsoleLexer
from source_tree import ROOT, source_files
from support.examples import Block, commands, runnable

if TYPE_CHECKING:
    from playwright.sync_api import Browser

SCRIPT = (ROOT / "docs" / "site" / "copy.js").read_text(encoding="utf-8")
BLOCKS = [
    block
    for path in source_files(".md")
    if path.parts[:2] == ("docs", "course")
    for block in runnable((ROOT / path).read_text(encoding="utf-8"))
]


def shown(block: Block) -> str:
    """The block as Sphinx shows it."""
    lexer = BashSessionLexer() if block.language == "console" else PythonConsoleLexer()
    formatted = highlight(block.text, lexer, HtmlFormatter())
    return f'<div class="highlight-{block.language}">{formatted}</div>'


def to_type(block: Block) -> list[str]:
    """The lines that a reader types, without empty ones."""
    if block.language == "console":
        typed = "\n".join(command for _, command, _ in commands(block.text))
    else:
        examples = doctest.DocTestParser().get_examples(block.text)
        typed = "".join(example.source for example in examples)
    return [line for line in typed.splitlines() if line.strip()]


def test_what_is_copied_is_what_is_typed(browser: Browser) -> None:
    page = browser.new_page()
    page.set_content("".join(map(shown, BLOCKS)) + f"<script>{SCRIPT}</script>")
    copied = page.evaluate(
        "[...document.querySelectorAll('.highlight pre')].map((block) => block.typed(block))"
    )
    page.close()
    assert len(copied) == len(BLOCKS) > 60
    for block, text in zip(BLOCKS, copied, strict=True):
        assert [line for line in text.splitlines() if line.strip()] == to_type(block)


def test_python_gets_an_empty_line_behind_an_indented_block(browser: Browser) -> None:
    block = Block("python", ">>> for n in (1, 2):\n...     print(n)\n1\n2\n>>> 3\n3\n", 1)
    page = browser.new_page()
    page.set_content(shown(block) + f"<script>{SCRIPT}</script>")
    copied = page.evaluate("(block => block.typed(block))(document.querySelector('pre'))")
    page.close()
    assert copied == "for n in (1, 2):\n    print(n)\n\n3\n"
