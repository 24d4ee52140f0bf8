"""What a reader tries out: each result on the page is what the textbook says."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from browser.conftest import IMAGE, PASSPHRASE, Show

import qcow2crypt
from qcow2crypt import reference

if TYPE_CHECKING:
    from playwright.sync_api import Page

KEY = reference.passphrase_to_key(PASSPHRASE)
SECTOR = 5


def shown(page: Page, side: str) -> bytes:
    return bytes.fromhex("".join(page.locator(f"#{side} .byte").all_text_contents()))


def changed(page: Page, side: str) -> list[int]:
    """The places that are marked as changed, which must be the places that did change."""
    return [
        place
        for place, look in enumerate(
            page.eval_on_selector_all(f"#{side} .byte", "all => all.map((one) => one.className)")
        )
        if "changed" in look.split()
    ]


def differing(a: bytes, b: bytes) -> list[int]:
    return [place for place, (x, y) in enumerate(zip(a, b, strict=True)) if x != y]


def stored(sector: int) -> bytes:
    """The ciphertext of a sector of the first two clusters, which lie at host cluster 5 and 6."""
    return IMAGE.read_bytes()[0x5000 + 512 * sector :][:512]


def plain(sector: int) -> bytes:
    with qcow2crypt.open(IMAGE, secret=PASSPHRASE) as image:
        return image.pread(512, 512 * sector)


def go_to(page: Page, sector: int) -> None:
    page.fill("#sector-input", str(sector))
    page.press("#sector-input", "Enter")


def test_the_sector_is_shown_as_it_is(show: Show) -> None:
    page = show()
    for sector in (0, 1, SECTOR, 15):
        go_to(page, sector)
        assert shown(page, "cipher") == stored(sector)
        assert shown(page, "plain") == plain(sector)
        assert page.text_content("#changes") == "All as in the image."


def test_a_flipped_bit_of_ciphertext(show: Show) -> None:
    """Its block is noise, and in the next one exactly that bit flips."""
    page = show(offset=512 * SECTOR)
    page.locator("#cipher .byte").nth(53).click()
    page.locator("#bits button").nth(5).click()
    cipher = bytearray(stored(SECTOR))
    cipher[53] ^= 0x04
    wanted = reference.decrypt_sectors(cipher, SECTOR, KEY)
    assert shown(page, "cipher") == cipher
    assert shown(page, "plain") == wanted
    assert changed(page, "cipher") == [53]
    assert changed(page, "plain") == differing(wanted, plain(SECTOR))
    assert max(changed(page, "plain")) == 69
    assert wanted[69] ^ plain(SECTOR)[69] == 0x04
    said = page.text_content("#changes")
    assert said is not None
    assert "Ciphertext changed: block 3 in byte 5 (bits 0x04)." in said
    assert "block 4 in byte 5 (bits 0x04)." in said
    page.click("#undo")
    assert shown(page, "plain") == plain(SECTOR)
    assert changed(page, "cipher") == []


def test_a_changed_byte_of_plaintext(show: Show) -> None:
    """Everything from its block on is other ciphertext, and the blocks before it stay."""
    page = show(offset=512 * SECTOR)
    page.locator("#plain .byte").nth(100).click()
    page.keyboard.press("a")
    page.keyboard.press("5")
    data = bytearray(plain(SECTOR))
    data[100] = 0xA5
    wanted = reference.encrypt_sectors(data, SECTOR, KEY)
    assert shown(page, "plain") == data
    assert shown(page, "cipher") == wanted
    assert changed(page, "plain") == [100]
    assert changed(page, "cipher") == differing(wanted, stored(SECTOR))
    assert min(changed(page, "cipher")) // 16 == 6
    assert page.is_checked("input[name=keep][value=plain]")
    page.click("#reset")
    assert shown(page, "cipher") == stored(SECTOR)


def test_another_sector_number(show: Show) -> None:
    """Read with another number only the first block differs, by the XOR of the two IVs."""
    page = show(offset=512 * SECTOR)
    page.fill("#number", "0x109")
    page.press("#number", "Enter")
    wanted = reference.decrypt_sectors(stored(SECTOR), 0x109, KEY)
    assert shown(page, "plain") == wanted
    assert changed(page, "plain") == [0, 1]
    page.check("input[name=keep][value=plain]")
    assert shown(page, "cipher") == stored(SECTOR)
    page.click("#number-more")
    assert shown(page, "cipher") == reference.encrypt_sectors(wanted, 0x10A, KEY)
    page.fill("#number", "18446744073709551616")
    page.press("#number", "Enter")
    assert page.get_attribute("#number", "aria-invalid") == "true"
    assert page.text_content("#number-wrong") == "0 to 18446744073709551615, or 0x…"


def test_another_iv_generator(show: Show) -> None:
    page = show(offset=512 * SECTOR)
    page.check("input[value=essiv]")
    wanted = reference.decrypt_sectors(stored(SECTOR), SECTOR, KEY, ivgen="essiv:sha256")
    assert shown(page, "plain") == wanted
    page.check("input[value=none]")
    assert shown(page, "plain") == reference.decrypt_sectors(stored(SECTOR), 0, KEY)
    page.check("input[value=plain64]")
    assert shown(page, "plain") == plain(SECTOR)
    page.check("input[name=keep][value=plain]")
    page.check("input[value=essiv]")
    data = plain(SECTOR)
    assert shown(page, "cipher") == reference.encrypt_sectors(
        data, SECTOR, KEY, ivgen="essiv:sha256"
    )


def test_random_changes_one_after_the_other(show: Show) -> None:
    """Whatever side they are on, the two sides fit each other, and marks tell what differs."""
    page = show(offset=512 * SECTOR)
    draw = random.Random(7)
    for _ in range(12):
        side = draw.choice(["plain", "cipher"])
        page.locator(f"#{side} .byte").nth(draw.randrange(512)).click()
        page.keyboard.press(draw.choice("0123456789abcdef"))
        cipher = shown(page, "cipher")
        assert reference.decrypt_sectors(cipher, SECTOR, KEY) == shown(page, "plain")
        assert changed(page, "cipher") == differing(cipher, stored(SECTOR))
        assert changed(page, "plain") == differing(shown(page, "plain"), plain(SECTOR))


def sum_rows(page: Page) -> list[bytes]:
    return [
        bytes.fromhex("".join(row.locator(".bytes span").all_text_contents()))
        for row in page.locator("#sum .sum-row").all()
    ]


def test_the_sum_of_a_block_adds_up(show: Show) -> None:
    page = show(offset=512 * SECTOR)
    schedule = reference.set_encrypt_key(KEY, 128)
    for block in (0, 1, 31):
        page.locator("#cipher-blocks .cell").nth(block).click()
        cipher, middle, before, text = sum_rows(page)
        assert cipher == stored(SECTOR)[16 * block :][:16]
        assert text == plain(SECTOR)[16 * block :][:16]
        iv = reference.plain64(SECTOR)
        assert before == (stored(SECTOR)[16 * (block - 1) :][:16] if block else iv)
        assert bytes(a ^ b for a, b in zip(middle, before, strict=True)) == text
        assert reference.encrypt(middle, schedule) == cipher


def test_the_comparison_sees_what_the_textbook_sees(show: Show) -> None:
    """Without IVs equal data is seen, with plain64 data shaped for it, with essiv neither."""
    page = show(offset=512 * SECTOR)
    found = {
        str(card.locator("h3").text_content()): [
            text.startswith("equal") for text in card.locator(".verdict").all_text_contents()
        ]
        for card in page.locator("#generators article").all()
    }
    assert found == {"none": [True, False], "plain64": [False, True], "essiv": [False, False]}
    page.fill("#other", str(SECTOR))
    page.press("#other", "Enter")
    assert page.locator("#generators .verdict.bad").count() == 6
