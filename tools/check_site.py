"""Look at the built site as a browser would: every link inside it leads somewhere, and no page asks
another host for anything.

    python tools/check_site.py build/docs

Links that a reader may follow to other hosts are allowed; scripts, styles, fonts and pictures from
there are not.  Knows HTML and files; needs no network.
"""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# What a browser fetches by itself, and where that is named.
FETCHED = {
    "script": ("src",),
    "img": ("src", "srcset"),
    "source": ("src", "srcset"),
    "iframe": ("src",),
    "embed": ("src",),
    "object": ("data",),
    "audio": ("src",),
    "video": ("src", "poster"),
    "link": ("href",),
}
# These of <link> name a place and fetch nothing.
NOT_FETCHED = {
    "canonical",
    "author",
    "help",
    "license",
    "prev",
    "next",
    "index",
    "search",
    "genindex",
}
CSS_URL = re.compile(r"url\(\s*['\"]?([^'\")]+)|@import\s+['\"]([^'\"]+)")


class Page(HTMLParser):
    """What one page holds: ids, links, and what is fetched for it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self._style = False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Called by HTMLParser."""
        found = {name: value or "" for name, value in attrs}
        self._style = tag == "style"
        if "id" in found:
            self.ids.add(found["id"])
        if tag == "a":
            if "href" in found:
                self.links.append(found["href"])
            self.ids.add(found.get("name", found.get("id", "")))
        relation = set(found.get("rel", "").split())
        if tag == "link" and relation & NOT_FETCHED:
            return
        for name in FETCHED.get(tag, ()):
            if found.get(name):
                self.fetched += (
                    [part.split()[0] for part in found[name].split(",") if part.strip()]
                    if (name == "srcset")
                    else [found[name]]
                )
        self.fetched += addresses_in_css(found.get("style", ""))

    def handle_data(self, data: str) -> None:
        """Called by HTMLParser."""
        if self._style:
            self.fetched += addresses_in_css(data)


def addresses_in_css(text: str) -> list[str]:
    """What a style sheet has fetched."""
    return [a or b for a, b in CSS_URL.findall(text)]


def faults(site: Path) -> list[str]:
    """What is wrong with the pages and style sheets under ``site``, a line for each."""
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}
    found = []
    for path, page in sorted(pages.items()):
        for link in page.links:
            found += [f"{path.relative_to(site)}: {why}" for why in _link(link, path, pages)]
        for address in page.fetched:
            found += [f"{path.relative_to(site)}: {why}" for why in _fetched(address, path)]
    for path in sorted(site.rglob("*.css")):
        for address in addresses_in_css(path.read_text(encoding="utf-8")):
            found += [f"{path.relative_to(site)}: {why}" for why in _fetched(address, path)]
    return found


def _link(link: str, path: Path, pages: dict[Path, Page]) -> list[str]:
    parts = urlsplit(link)
    if parts.scheme in {"http", "https", "mailto"}:
        return []
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if parts.scheme or parts.netloc or not target.exists():
        return [f"the link {link} leads nowhere"]
    if parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].ids:
        return [f"the link {link}: there is no such place on that page"]
    return []


def _fetched(address: str, path: Path) -> list[str]:
    parts = urlsplit(address)
    if parts.scheme == "data":
        return []
    if parts.scheme or parts.netloc:
        return [f"fetches {address} from another host"]
    if parts.path and not (path.parent / unquote(parts.path)).exists():
        return [f"fetches {address}, which is not there"]
    return []


def main(arguments: list[str]) -> int:
    """The exit status: 0 when nothing is wrong."""
    if len(arguments) != 1 or not Path(arguments[0], "index.html").exists():
        print(
            "usage: check_site.py FOLDER    (a site that was built: it has index.html)",
            file=sys.stderr,
        )
        return 2
    site = Path(arguments[0]).resolve()
    found = faults(site)
    for line in found:
        print(line, file=sys.stderr)
    what = f"{len(found)} faults" if found else "their links hold, and they fetch nothing"
    print(f"{len(list(site.rglob('*.html')))} pages: {what}")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
