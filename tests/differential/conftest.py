"""What the comparisons with qemu-img share: a place to work and a maker of cases."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import existing
from support.differential import Case, NewCase, scratch_home

from qcow2crypt.testing.witness import QemuImg


@pytest.fixture(scope="session")
def new_case(qemu_img: QemuImg, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NewCase]:
    """Makes a ``Case``; of the whole session, so that hypothesis may call it many times."""
    with (
        scratch_home(tmp_path_factory.mktemp("differential")) as home,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("QCOW2CRYPT_DEBUG", "1")  # a fault of ours then shows where it is
        yield lambda: Case(qemu_img, home)


@pytest.fixture(scope="session")
def prepared(qemu_img: QemuImg, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sources, and a target of each kind for ``convert -n``."""
    place = tmp_path_factory.mktemp("into")
    existing.prepare(qemu_img, place)
    return place


@pytest.fixture
def folders(prepared: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Two copies of these."""
    for one in ("theirs", "ours"):
        shutil.copytree(prepared, tmp_path / one)
    return tmp_path / "theirs", tmp_path / "ours"
