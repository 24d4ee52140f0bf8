"""The page around the arithmetic: maps, keys, passphrase, hostile images, looks, accessibility."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from browser.conftest import PASSPHRASE, Show
from browser.test_experiments import plain, shown

import qcow2crypt

if TYPE_CHECKING:
    from playwright.sync_api import Page

EVIL = "</script><script>document.title='owned'</script><img src=x onerror=alert(1)>.raw"
AES = qcow2crypt.Qcow2Options(encryption="aes", cluster_size=4096)


def chosen(page: Page, name: str) -> list[int]:
    return list(
        page.eval_on_selector_all(
            f"#{name} .cell",
            "all => all.flatMap((one, i) => one.ariaSelected === 'true' ? [i] : [])",
        )
    )


def test_maps_are_linked_both_ways(show: Show) -> None:
    """Guest clusters 0, 1, 4 and 5 of this image lie in file clusters 5, 6, 7 and 8."""
    page = show()
    for guest, host in ((4, 7), (5, 8), (0, 5)):
        page.locator("#disk-map .cell").nth(guest).click()
        assert (chosen(page, "disk-map"), chosen(page, "file-map")) == ([guest], [host])
        assert page.input_value("#sector-input") == str(8 * guest)
    for guest, host in ((1, 6), (4, 7)):
        page.locator("#file-map .cell").nth(host).click()
        assert (chosen(page, "disk-map"), chosen(page, "file-map")) == ([guest], [host])
        assert page.input_value("#sector-input") == str(8 * guest)
    page.locator("#file-map .cell").nth(0).click()
    assert (chosen(page, "disk-map"), chosen(page, "file-map")) == ([], [0])
    page.locator("#disk-map .cell").nth(2).click()
    assert "Nothing is stored" in str(page.text_content("#sector-about"))
    assert not page.is_visible("#bytes")


def focused(page: Page) -> str:
    return str(
        page.evaluate(
            "document.activeElement.id || document.activeElement.parentElement.id || "
            "document.activeElement.closest('[id]')?.id || document.activeElement.className"
        )
    )


def test_everything_by_keys(show: Show) -> None:
    page = show()
    page.locator("#disk-map [tabindex='0']").focus()
    page.keyboard.press("End")
    assert chosen(page, "disk-map") == [5]
    page.keyboard.press("ArrowLeft")
    assert chosen(page, "disk-map") == [4]
    assert page.evaluate("document.activeElement.ariaSelected") == "true"
    page.locator("#sector-strip [tabindex='0']").focus()
    page.keyboard.press("ArrowRight")
    assert page.input_value("#sector-input") == "33"
    page.focus("#number")
    page.keyboard.press("ArrowUp")
    assert page.input_value("#number") == "34"
    page.keyboard.press("ArrowDown")
    page.locator("#plain [tabindex='0']").focus()
    for key in ("ArrowDown", "ArrowRight", "f"):
        page.keyboard.press(key)
    assert page.locator("#plain .byte.edited").count() == 1
    assert "byte 1 of plaintext block 1" in str(page.text_content("#editor-about")).lower()
    page.keyboard.press("Delete")
    assert page.locator("#plain .byte.edited").count() == 0


def test_tab_visits_every_part_and_focus_is_seen(show: Show) -> None:
    page = show()
    visited: list[str] = []
    for _ in range(45):
        page.keyboard.press("Tab")
        if not page.evaluate("document.activeElement !== document.body"):
            break
        visited.append(focused(page))
        style = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert style != "none", f"the focus on {visited[-1]} is not seen"
    wanted = {"theme", "disk-map", "file-map", "sector-input", "sector-strip", "number", "reset"}
    wanted |= {"plain-blocks", "cipher-blocks", "plain", "cipher", "bits", "other"}
    assert wanted <= set(visited)
    assert len(visited) < 45


def test_without_the_key_the_page_asks_for_the_passphrase(show: Show) -> None:
    page = show(key=False)
    assert not page.is_visible("#plain")
    assert page.is_disabled("input[value=essiv]")
    assert page.evaluate("qcow2crypt.image.key") is None
    page.fill("#key-input", PASSPHRASE)
    page.press("#key-input", "Enter")
    assert shown(page, "plain") == plain(1)
    assert page.input_value("#key-input") == ""
    assert PASSPHRASE[:16] not in page.inner_text("body")
    page.click("#key-show")
    assert PASSPHRASE[:16] in page.inner_text("body")
    assert page.evaluate("localStorage.length + sessionStorage.length") == 0
    page.click("#key-forget")
    assert not page.is_visible("#plain")
    page.fill("#key-input", "another one")
    page.press("#key-input", "Enter")
    assert "another one" not in page.inner_text("body")
    assert shown(page, "plain") != plain(1)


def test_a_hostile_image_puts_no_script_on_the_page(show: Show, tmp_path: Path) -> None:
    image = tmp_path / "<b>disk.qcow2"
    options = qcow2crypt.Qcow2Options(encryption="aes", cluster_size=4096)
    qcow2crypt.create(image, 1 << 16, secret="x", options=options)
    with qcow2crypt.open(image, secret="x", mode="r+") as disk:
        disk.pwrite(b"data" * 1024, 0)
        disk.create_snapshot("<script>alert(2)</script>")
    with_backing_name(image, EVIL)
    page = show(image, passphrase="x")
    facts = str(page.text_content("#facts"))
    assert EVIL in facts
    assert "<script>alert(2)</script>" in facts
    assert page.title() == "<b>disk.qcow2: how one sector is encrypted"
    assert page.locator("main img, header img, b").count() == 0
    assert page.locator("script").count() == 2


def with_backing_name(image: Path, name: str) -> None:
    """Write a backing file name into the header cluster; such an image names a file that is not."""
    with image.open("r+b") as file:
        file.seek(1024)
        file.write(name.encode())
        file.seek(8)
        file.write((1024).to_bytes(8, "big") + len(name).to_bytes(4, "big"))


def test_nothing_but_its_own_script_may_run(show: Show, told: list[str]) -> None:
    """The policy of the page holds: a script put into it later does not run."""
    page = show()
    blocked = page.evaluate(
        """() => new Promise((resolve) => {
          const told = (event) => resolve(event.violatedDirective);
          document.addEventListener("securitypolicyviolation", told);
          const script = document.createElement("script");
          script.textContent = "window.owned = true";
          document.body.append(script);
        })"""
    )
    assert any("violates" in fault for fault in told)
    told.clear()
    assert blocked.startswith("script-src")
    assert page.evaluate("window.owned") is None


def test_a_large_image_is_summarised_and_says_what_is_left_out(show: Show, tmp_path: Path) -> None:
    image = tmp_path / "large.qcow2"
    qcow2crypt.create(image, 1 << 30, secret="x", options=AES)
    with qcow2crypt.open(image, secret="x", mode="r+") as disk:
        for offset in range(0, 1 << 30, 1 << 24):
            disk.pwrite(b"here" * 1024, offset)
    page = show(image, passphrase="x", bytes_max=1 << 15)
    assert 64 < page.locator("#disk-map .cell").count() <= 256
    assert "This page holds 32 KiB of ciphertext, the image 256 KiB." in str(
        page.text_content("#left-out")
    )
    page.locator("#disk-map .cell").last.click()
    page.locator("#disk-map .cell").nth(252).click()
    assert "left out" in str(page.text_content("#sector-about"))
    page.locator("#disk-map .cell").first.click()
    assert shown(page, "plain") == b"here" * 128


ALIKE = ["#plain .row:nth-child(n+6)", "#cipher .row:nth-child(n+6)"]
"""Rows of bytes after the first five: they are built like those, and axe takes long for each."""


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 360)])
def test_accessibility_rules_of_axe(show: Show, axe: str, scheme: str, width: int) -> None:
    """Roles, names, contrast and the like, with changes on the page."""
    page = show(color_scheme=scheme, viewport={"width": width, "height": 800})
    page.locator("#cipher .byte").nth(53).click()
    page.locator("#bits button").nth(5).click()
    page.check("input[value=none]")
    page.evaluate(axe)
    found = page.evaluate("alike => axe.run({include: ['html'], exclude: alike})", ALIKE)
    assert len(found["passes"]) > 30
    told = [f"{one['id']}: {one['nodes'][0]['html']}" for one in found["violations"]]
    assert told == []


@pytest.mark.parametrize("large", [False, True])
def test_no_width_scrolls_sideways(show: Show, large: bool) -> None:
    page = show()
    if large:
        page.click("#large")
    page.check("input[value=essiv]")
    page.locator("#plain .byte").nth(40).click()
    page.keyboard.press("7")
    for width in (320, 360, 768, 1280, 1920):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        cut = page.eval_on_selector_all(
            ".bytes, .blocks, .map, .strip, .hex .row",
            "all => all.filter((a) => a.scrollWidth > a.clientWidth + 1).map((a) => a.className)",
        )
        assert cut == [], width


def test_light_and_dark_can_be_chosen(show: Show) -> None:
    page = show(color_scheme="light")
    paper = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(paper)
    page.click("#theme")
    assert page.evaluate(paper) == light
    page.click("#theme")
    assert page.evaluate(paper) != light
    assert page.text_content("#theme") == "Theme: dark"


def test_on_paper_it_is_light_and_has_no_controls(show: Show) -> None:
    page = show(color_scheme="dark")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.documentElement).colorScheme") == "light"
    for name in ("#theme", "#editor", "#reset", "#sector-before"):
        assert not page.is_visible(name)
    assert page.is_visible("#sum")
    assert page.is_visible("#cipher")
