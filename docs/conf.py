"""How Sphinx makes the site of these documents.  `make docs` runs it; the pages lie in build/docs.

The source directory is the root of the repository, so that a relative link leads to the same file
here and on a plain git host.  Nothing is fetched while it is built, and no page asks another host
for anything: tools/check_site.py looks.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

project = "qcow2crypt"
author = "qcow2crypt authors"
project_copyright = "qcow2crypt authors, MIT licence"
version = release = re.findall(
    r'"(.+)"', (ROOT / "qcow2crypt" / "_version.py").read_text(encoding="utf-8")
)[-1]

extensions = ["myst_nb", "sphinx.ext.autodoc"]
root_doc = "docs/index"
include_patterns = [
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "benchmarks/README.md",
    "corpus/README.md",
    "corpus/golden/README.md",
    "csrc/README.md",
    "qcow2crypt/data/README.md",
    "tests/vectors/PROVENANCE.md",
    "docs/**",
]
exclude_patterns = [".venv", "build", "dist", "**/.ipynb_checkpoints"]

# ------------------------------------------------------------------------------------ Markdown

myst_heading_anchors = 4
smartquotes = False  # a quotation mark in an example of code stays what it is
nb_execution_mode = "off"  # the outputs are committed; tests/docs runs the notebook and compares
nb_ipywidgets_js: dict[str, dict[str, str]] = {}  # would come from another host

# ------------------------------------------------------------------------------------ the tree

# Here and not in the pages: on a plain git host a toctree is a block of code.
TREE = {
    "docs/index": {
        "Use it": ["Start here <../README>", "command-line", "json-output"],
        "Understand it": [
            "The course <course/index>",
            "The notebook <notebooks/sector-iv>",
            "sector-iv",
            "lab",
        ],
        "Build on it": ["library", "api"],
        "Compare with QEMU": [
            "difftest",
            "testing",
            "The corpus <../corpus/README>",
            "fuzzing",
            "mutation",
        ],
        "How fast, and why": ["conversion", "bench", "interleaving", "does-qemu-use-aes-ni"],
        "Believe it": ["validation", "vectors", "native-proof"],
        "Work on it": [
            "../CONTRIBUTING",
            "../CHANGELOG",
            "The C kernels <../csrc/README>",
            "../benchmarks/README",
        ],
    },
    "docs/course/index": {"": ["[01][0-9]-*", "glossary"]},
    "docs/difftest": {"": ["difftest/*"]},
    "corpus/README": {"": ["golden/README"]},
    "docs/vectors": {"": ["../tests/vectors/PROVENANCE", "../qcow2crypt/data/README"]},
}


def add_tree(_app: Sphinx, page: str, source: list[str]) -> None:
    """Behind the text of a page, which pages are below it."""
    for caption, below in TREE.get(page, {}).items():
        kind = ":glob:\n" if any("*" in name for name in below) else ""
        named = f":caption: {caption}\n" if caption else ""
        listed = "\n".join(below)
        source[0] += f"\n```{{toctree}}\n:hidden:\n{kind}{named}\n{listed}\n```\n"


# ----------------------------------------------------------------- links to what is no page


def link_files(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Files that are no pages lie in the site where they lie in the repository, to be looked at.

    Left alone, Sphinx would offer them as downloads, the page about the sample image too.
    """
    here = (ROOT / page).parent
    for link in list(doctree.findall(addnodes.download_reference)):
        target = (here / link["reftarget"]).resolve().relative_to(ROOT)
        copy = Path(app.outdir, target)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / target, copy)
        uri = os.path.relpath(target, Path(page).parent)
        link.replace_self(nodes.reference("", "", *link.children, refuri=uri, internal=True))


# ----------------------------------------------------------------------------------- the theme

html_theme = "furo"
html_title = "qcow2crypt"
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_static_path = ["site"]
html_css_files = ["course.css"]
html_js_files = ["copy.js"]
html_extra_path = ["site-root"]
html_theme_options = {"source_edit_link": ""}

# ----------------------------------------------------------------------------- the API reference

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 88
# Signatures name types of the standard library, whose pages are not fetched, and our own that are
# told beside the functions that give them.  Links between pages are checked all the same.
nitpick_ignore_regex = [("py:.*", ".*")]


def plain_text(
    _app: Sphinx, _what: str, _name: str, _obj: object, _opts: object, lines: list[str]
) -> None:
    """Docstrings are plain text: what is indented is a table, and no sign has a second meaning."""
    made: list[str] = []
    literal = False
    for line in lines:
        indented = line.startswith("    ")
        if indented and not literal and line.strip():
            literal = True
            if made and made[-1].strip():
                made.append("")
            made += ["::", ""]
        elif line.strip() and not indented:
            if literal and made and made[-1].strip():
                made.append("")
            literal = False
        made.append(line if indented or line.startswith((">>>", "...")) else _escaped(line))
    lines[:] = made


def _escaped(line: str) -> str:
    """A line with ``literals`` as they are and without any other markup."""
    parts = re.split(r"(``[^`]*``)", line)
    parts[::2] = [re.sub(r"([*_|`\\])", r"\\\1", part) for part in parts[::2]]
    return "".join(parts)


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", plain_text)
    app.connect("source-read", add_tree)
    app.connect("doctree-resolved", link_files)
