"""The page in the documents: what docs/sector-iv.md says of it is so, when it is tried."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from browser.test_experiments import changed, go_to, shown
from source_tree import ROOT

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(offline=True, reduced_motion="reduce")
    page = context.new_page()
    page.goto((ROOT / "docs" / "sector-iv.html").as_uri())
    assert page.input_value("#sector-input") == "29"
    yield page
    context.close()


def blocks(places: list[int]) -> list[int]:
    return sorted({place // 16 for place in places})


def test_a_bit_of_ciphertext(page: Page) -> None:
    page.locator("#cipher .byte").nth(3 * 16 + 5).click()
    page.get_by_role("button", name="bit 0x4,").click()
    assert blocks(changed(page, "plain")) == [3, 4]
    assert len(changed(page, "plain")) > 12
    assert shown(page, "plain")[64:80] == b"sectov  29 bl 04"


def test_a_byte_of_plaintext(page: Page) -> None:
    page.locator("#plain .byte").nth(10 * 16 + 2).click()
    page.keyboard.type("58")
    assert shown(page, "plain")[160:176] == b"seXtor  29 bl 10"
    assert blocks(changed(page, "cipher")) == list(range(10, 32))


def test_the_next_sector_number(page: Page) -> None:
    before = shown(page, "plain")
    page.click("#number-more")
    assert changed(page, "plain") == [0]
    assert shown(page, "plain")[0] ^ before[0] == 29 ^ 30 == 0x03
    page.click("#reset")
    page.check("input[name=keep][value=plain]")
    page.click("#number-more")
    assert blocks(changed(page, "cipher")) == list(range(32))


def test_a_watermark_and_equal_data(page: Page) -> None:
    seen: dict[str, set[bytes]] = {"mark": set(), "plain": set(), "cipher": set()}
    for sector in (40, 44, 47):
        go_to(page, sector)
        seen["mark"].add(shown(page, "cipher")[:16])
        seen["plain"].add(shown(page, "plain")[:16])
    assert (len(seen["mark"]), len(seen["plain"])) == (1, 3)
    seen["plain"].clear()
    for sector in (72, 75, 79):
        go_to(page, sector)
        seen["plain"].add(shown(page, "plain"))
        seen["cipher"].update(shown(page, "cipher")[at : at + 16] for at in range(0, 512, 16))
    assert (len(seen["plain"]), len(seen["cipher"])) == (1, 3 * 32)
