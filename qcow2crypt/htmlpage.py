"""The frame of a report: one HTML page that needs nothing else.

No script, no font, nothing from elsewhere, and a content security policy that says so.  It follows
the colours of the reader, light or dark, and the width of the screen; on paper it is light.  Knows
no report: what stands in the page is the caller's, escaped by the caller.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from html import escape

_STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #16181d; --soft: #5b6270; --rule: #d5d9e0;
  --card: #f5f6f8; --k0: #0b5cad; --k1: #c2410c; --k2: #047857; --k3: #7c3aed; --k4: #be185d;
  --k5: #0e7490; --k6: #92670a; --k7: #475569 }
@media screen and (prefers-color-scheme: dark) { :root { --paper: #14161a; --ink: #eceef2;
  --soft: #a7aebb; --rule: #3a3f49; --card: #1e2127; --k0: #6cb2ff; --k1: #ff9a5c; --k2: #4ade9f;
  --k3: #bda4ff; --k4: #ff86bd; --k5: #4fd8ee; --k6: #f3c84b; --k7: #c6cfdb } }
body { background: var(--paper); color: var(--ink); margin: 0 auto; max-width: 84rem;
  padding: 1rem clamp(.8rem, 3vw, 2.5rem) 3rem;
  font: clamp(1rem, .9rem + .35vw, 1.2rem)/1.5 system-ui, sans-serif }
h1 { font-size: 1.7em; line-height: 1.2; margin: .5em 0 }
h2 { font-size: 1.25em; margin: 1.8em 0 .5em }
h3 { font-size: 1.05em; margin: 1.2em 0 .3em }
.answer { background: var(--card); border-left: .35rem solid var(--k0);
  padding: .2rem 1.1rem .8rem }
.answer p:first-of-type { font-size: 1.15em; font-weight: 600; margin: .3em 0 }
p.soft, figcaption, .facts { color: var(--soft) }
li { margin: .25em 0 }
figure { margin: 0 }
figure h3 { margin: 0 0 .2em }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-size: .9em }
"""
_PRINT = """
@media print { html { color-scheme: light } body { max-width: none; padding: 0; font-size: 10pt }
  h2, h3 { break-after: avoid } figure, tr { break-inside: avoid } }
"""


def page(title: str, style: str, body: Iterable[str], *, images: bool = False) -> str:
    """The whole page.  ``style`` is added to what all have; ``images`` allows ``data:`` images."""
    whole = _STYLE + style + _PRINT
    digest = base64.b64encode(hashlib.sha256(whole.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'" + "; img-src data:" * images
    lines = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        '<head><meta charset="utf-8"/>',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}"/>',
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>',
        f"<title>{escape(title)}</title>",
        f"<style>{whole}</style></head>",
        "<body>",
        *body,
        "</body></html>",
    ]
    return "\n".join(lines) + "\n"
