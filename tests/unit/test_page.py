"""The page of explain --html without a browser: what is in it, what is not, and what may run."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import golden
import pytest

import qcow2crypt
from qcow2crypt import reference
from qcow2crypt.errors import ArgumentError, TargetError, UnsupportedFeatureError
from qcow2crypt.explaining import page
from qcow2crypt.explaining.page.cells import CELLS_MAX, cells_for, link
from qcow2crypt.explaining.page.picture import BYTES_MAX, picture
from qcow2crypt.image import open_layers
from qcow2crypt.image.extents import ExtentKind
from qcow2crypt.image.names import LayerOptions

IMAGE = Path(qcow2crypt.__file__).parent / "data" / "qemu-1.6.0-aes.qcow2"
SECRET = "correct horse battery"
AES = qcow2crypt.Qcow2Options(encryption="aes", cluster_size=4096)


def text_of(image: Path, **arguments: Any) -> str:
    with qcow2crypt.open(image, secret=SECRET) as opened:
        return page.page(opened, **arguments)


class Parts(HTMLParser):
    """Elements of a page with their attributes, and the text of style and scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {"script": [], "style": []}
        self._inside = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag in self.texts:
            self.texts[tag].append("")
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        del tag
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside in self.texts:
            self.texts[self._inside][-1] += data


def content_of(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Parts(text).texts["script"][0])
    return found


def test_the_policy_allows_this_style_and_this_script_and_nothing_else() -> None:
    parts = Parts(text_of(IMAGE))
    policy = next(
        str(attributes["content"])
        for tag, attributes in parts.found
        if attributes.get("http-equiv") == "Content-Security-Policy"
    )
    assert "unsafe" not in policy
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"

    def source(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    assert rules["style-src"] == source(parts.texts["style"][0])
    assert rules["script-src"] == source(parts.texts["script"][1])
    assert len(parts.texts["script"]) == 2


def test_the_page_names_nothing_to_load() -> None:
    text = text_of(IMAGE)
    for _, attributes in Parts(text).found:
        for name in ("src", "srcset", "data", "action", "ping", "style", "onclick"):
            assert name not in attributes
        assert str(attributes.get("href", "#")).startswith("#")
    assert not re.search(r"@import|url\(|https?://|\beval\b|innerHTML|new Function", text)


def test_without_a_key_neither_key_nor_passphrase_nor_plaintext_is_in_it() -> None:
    text = text_of(IMAGE)
    with qcow2crypt.open(IMAGE, secret=SECRET) as opened:
        plain = opened.pread(512, 0)
    held = b"".join(base64.b64decode(run["bytes"]) for run in content_of(text)["runs"])
    assert content_of(text)["key"] is None
    assert SECRET[:16] not in text
    assert SECRET[:16].encode().hex() not in text
    assert plain[:32] not in held
    assert held[:512] == IMAGE.read_bytes()[0x5000:0x5200]
    assert text_of(IMAGE, key=SECRET[:16].encode()).count(SECRET[:16].encode().hex()) == 1


def test_places_are_those_of_the_image() -> None:
    content = content_of(text_of(IMAGE))
    with qcow2crypt.open(IMAGE, secret=SECRET) as opened:
        assert [
            (one["at"], one["size"], one["kind"], one["host"]) for one in content["extents"]
        ] == [
            (one.guest_offset, one.length, one.kind.value, one.host_offset)
            for one in opened.extents()
        ]
    links = {
        cell["at"]: [content["fileCells"][place]["at"] for place in cell["links"]]
        for cell in content["diskCells"]
    }
    assert links == {0: [0x5000], 0x1000: [0x6000], 0x2000: [], 0x3000: [], 0x4000: [0x7000]} | {
        0x5000: [0x8000]
    }
    for place, cell in enumerate(content["fileCells"]):
        assert all(place in content["diskCells"][back]["links"] for back in cell["links"])
    kinds = [cell["kind"] for cell in content["fileCells"]]
    assert kinds[0] == "header"
    assert {"refcount table", "refcount block", "L1 table", "L2 table", "data"} <= set(kinds)
    assert content["name"] == IMAGE.name
    assert str(IMAGE.parent) not in json.dumps(content)


def test_what_an_image_holds_cannot_end_the_block_of_data() -> None:
    hostile = "</script><!--<script>&amp;\u2028'\"\\@script@\udc80"
    text = page.assemble({"name": hostile})
    assert content_of(text) == {"name": hostile}
    assert text.count("</script") == 2
    assert "<!--" not in text


AES_IMAGES = [name for name in golden.ENCRYPTED if not name.startswith(("qcow1", "luks", "stand"))]


@pytest.mark.parametrize("name", AES_IMAGES)
def test_its_sectors_decrypt_to_the_guest_disk(name: str) -> None:
    """Of every kind of cluster: what the page holds is encrypted, all of it, and in its place."""
    image = golden.load(name)
    assert image.secret is not None
    key = reference.passphrase_to_key(image.secret)
    alone = LayerOptions(no_backing=True)
    with open_layers(image.path, lambda _layer: image.secret, options=alone) as opened:
        content = picture(opened)
        stored = sum(one.length for one in opened.extents() if one.kind is ExtentKind.DATA)
        held = 0
        for run in content["runs"]:
            data = base64.b64decode(run["bytes"])
            held += len(data)
            wanted = opened.pread(len(data), 512 * run["first"])
            assert reference.decrypt_sectors(data[:1024], run["first"], key) == wanted[:1024]
    assert held == min(stored, BYTES_MAX)


def test_what_only_a_snapshot_knows_is_told(tmp_path: Path) -> None:
    qcow2crypt.create(tmp_path / "disk", 1 << 16, secret=SECRET, options=AES)
    with qcow2crypt.open(tmp_path / "disk", secret=SECRET, mode="r+") as disk:
        disk.pwrite(b"old" * 1000, 0)
        disk.pwrite(b"shared" * 500, 4096)
        disk.create_snapshot("before")
        disk.pwrite(b"new" * 1000, 0)
    content = content_of(text_of(tmp_path / "disk"))
    kinds = [cell["kind"] for cell in content["fileCells"]]
    assert (kinds.count("data"), kinds.count("data of a snapshot")) == (2, 1)
    assert {"L1 table of a snapshot", "L2 table of a snapshot", "snapshot table"} <= set(kinds)
    assert content["snapshots"] == ["before"]


def test_a_large_disk_is_summarised(tmp_path: Path) -> None:
    qcow2crypt.create(tmp_path / "disk", 1 << 40, secret=SECRET, options=AES)
    with qcow2crypt.open(tmp_path / "disk", secret=SECRET, mode="r+") as disk:
        for number in range(40):
            disk.pwrite(b"x" * 4096, number << 34)
    with qcow2crypt.open(tmp_path / "disk", secret=SECRET) as disk:
        content = picture(disk, offset=3 << 34, bytes_max=10000)
    assert len(content["diskCells"]) <= CELLS_MAX
    assert len(content["fileCells"]) <= CELLS_MAX
    assert [run["first"] for run in content["runs"]] == [n << 25 for n in (3, 4, 5)]
    assert sum(len(base64.b64decode(run["bytes"])) for run in content["runs"]) == 9728
    assert content["sector"] == 3 << 25
    assert "9 KiB of ciphertext, the image 160 KiB" in content["leftOut"][0]


def test_links_of_a_run_that_crosses_cells() -> None:
    disk, file = cells_for(10 * 4096, 4096), cells_for(20 * 4096, 4096)
    link(disk, file, 0, 5 * 4096 + 512, 8192)
    assert [sorted(links) for links in disk.links[:3]] == [[5, 6], [6, 7], []]
    assert [sorted(links) for links in file.links[5:8]] == [[0], [0, 1], [1]]


def test_what_cannot_be_shown_is_refused(tmp_path: Path) -> None:
    qcow2crypt.create(tmp_path / "plain", 1 << 16, options=qcow2crypt.Qcow2Options())
    with (
        qcow2crypt.open(tmp_path / "plain") as opened,
        pytest.raises(UnsupportedFeatureError, match="'plain'; 'qcow2crypt map'"),
    ):
        page.page(opened)
    with qcow2crypt.open(IMAGE, secret=SECRET) as opened:
        with pytest.raises(ArgumentError, match="0x6000 is not on the disk"):
            page.page(opened, offset=0x6000)
        with pytest.raises(ArgumentError, match="16 bytes, not 3"):
            page.page(opened, key=b"abc")
    for size, error, message in (
        (0, ArgumentError, "which has 0 bytes"),
        (1 << 54, UnsupportedFeatureError, "too large for the numbers of a page"),
    ):
        options = qcow2crypt.Qcow2Options(encryption="aes", cluster_size=1 << 21)
        qcow2crypt.create(tmp_path / "disk", size, secret="x", options=options)
        with (
            qcow2crypt.open(tmp_path / "disk", secret="x") as opened,
            pytest.raises(error, match=message),
        ):
            page.page(opened)


def test_the_image_is_not_written_over(tmp_path: Path) -> None:
    image = tmp_path / "disk"
    image.write_bytes(IMAGE.read_bytes())
    (tmp_path / "link").symlink_to(image)
    with qcow2crypt.open(image, secret=SECRET) as opened:
        for name in ("disk", "link"):
            with pytest.raises(TargetError, match="is the image itself"):
                page.write(opened, tmp_path / name)
    assert image.read_bytes() == IMAGE.read_bytes()


# ------------------------------------------------------------------------ colours, by the formula

PAIRS = {
    "paper": ("ink", "soft", "accent"),
    "card": ("ink", "soft", "wrong", "accent", "none-ink"),
    "tint": ("tint-ink",),
    "accent": ("on-accent",),
    "changed": ("changed-ink",),
    **{name: (f"{name}-ink",) for name in ("data", "table", "count", "head")},
    **{name: (f"{name}-ink",) for name in ("packed", "other", "none")},
}
TEXT, SIGNS = 4.5, 3.0
"""What WCAG 2 wants of text (1.4.3), and of the edges of controls and focus (1.4.11)."""


def colours() -> dict[str, tuple[str, str]]:
    found = re.findall(
        r"--([\w-]+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\)", page.part("page.css")
    )
    return {name: (light, dark) for name, light, dark in found}


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(a: str, b: str) -> float:
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("look", [0, 1], ids=["light", "dark"])
def test_colours_have_the_contrast_of_wcag_aa(look: int) -> None:
    known = colours()
    used = {*PAIRS, *(ink for inks in PAIRS.values() for ink in inks)}
    assert known.keys() - used == {"rule", "edge"}
    poor = [
        f"{ink} on {ground}: {contrast(known[ink][look], known[ground][look]):.2f}"
        for ground, inks in PAIRS.items()
        for ink in inks
        if contrast(known[ink][look], known[ground][look]) < TEXT
    ]
    for ground in ("paper", "card"):
        if contrast(known["edge"][look], known[ground][look]) < SIGNS:
            poor.append(f"edge on {ground}")
    assert poor == []


def test_the_formula_of_contrast() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)
