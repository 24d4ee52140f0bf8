"""A real browser for the page of ``explain --html``: Chromium, driven by playwright.

Without it these tests are skipped by name; QCOW2CRYPT_REQUIRE_BROWSER=1 makes that a failure.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

import qcow2crypt
from qcow2crypt.explaining import page as html
from qcow2crypt.explaining.page.picture import BYTES_MAX
from qcow2crypt.image import open_layers
from qcow2crypt.image.names import LayerOptions
from qcow2crypt.reference import passphrase_to_key

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

IMAGE = Path(qcow2crypt.__file__).parent / "data" / "qemu-1.6.0-aes.qcow2"
PASSPHRASE = "correct horse battery"
NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
Show: TypeAlias = "Callable[..., Page]"


def _lacking(what: str) -> None:
    reason = f"{what}: the page of explain --html was not looked at in a browser"
    if os.environ.get("QCOW2CRYPT_REQUIRE_BROWSER", "") not in {"", "0"}:
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def _need_package(name: str) -> None:
    if importlib.util.find_spec(name) is None:
        _lacking(f"the Python package {name} is not installed")


@pytest.fixture(scope="session")
def axe() -> str:
    """The script with the rules of axe."""
    _need_package("axe_playwright_python")
    rules = resources.files("axe_playwright_python").joinpath("axe.min.js")
    return rules.read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    _need_package("playwright")
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        _lacking("Chromium is not installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=list(FLAGS))
        yield started
        started.close()


@pytest.fixture
def told() -> list[str]:
    """What a page said to the console, and its errors."""
    return []


@pytest.fixture
def show(browser: Browser, tmp_path: Path, told: list[str]) -> Iterator[Show]:
    """Open a page about an image, as a file and with the network cut.

    At the end nothing may have gone wrong in it, and it may have asked for nothing but itself.
    """
    asked: set[str] = set()
    contexts = []
    target = tmp_path / "page.html"

    def open_page(
        image: Path = IMAGE,
        *,
        key: bool = True,
        passphrase: str = PASSPHRASE,
        offset: int | None = None,
        bytes_max: int = BYTES_MAX,
        **looks: Any,
    ) -> Page:
        alone = LayerOptions(no_backing=True)  # as the command does it
        with open_layers(image, lambda _layer: passphrase, options=alone) as opened:
            shown = passphrase_to_key(passphrase) if key else None
            html.write(opened, target, offset=offset, key=shown, bytes_max=bytes_max)
        context = browser.new_context(offline=True, reduced_motion="reduce", **looks)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("pageerror", lambda error: told.append(str(error)))
        page.on("console", lambda message: told.append(message.text))
        page.on("request", lambda request: asked.add(request.url))
        page.goto(target.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert told == []
    assert asked <= {target.as_uri()}
