"""All of the lab with QEMU: what is measured on LUKS images, and the document that shows it.

One test, since LUKS images take seconds to make.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import jsonschema
import pytest
from cli.schemas import schema
from source_tree import ROOT

from qcow2crypt.lab import DEMONSTRATIONS
from qcow2crypt.lab.base import QEMU
from qcow2crypt.lab.qemu import Qemu
from qcow2crypt.lab.session import as_dict, show
from qcow2crypt.lab.stored import Stored
from qcow2crypt.testing.witness import QemuImg

BY_LUKS = {
    "truncated": {"luks-right", "luks"},
    "wrong": {"luks", "luks-right"},
    "salt": {"luks", "luks-guess"},
    "picture": {"luks"},
    "watermark": {"luks"},
    "snapshot": {"luks", "luks-in-place"},
    "bitflip": {"luks-chosen", "luks-garbled"},
    "move": {"luks", "luks-replayed"},
}


def document_tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("lab_document", ROOT / "tools/lab_document.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_luks_answers_and_the_document_shows_it(qemu_img: QemuImg, tmp_path: Path) -> None:
    qemu = Qemu.find()
    assert qemu is not None
    assert qemu.version == qemu_img.version
    shown = show(tuple(DEMONSTRATIONS), keep=tmp_path, qemu=qemu)
    for demonstration, result in shown:
        assert not [claim for claim in result.claims if not claim.holds]
        assert result.not_run == ()
        elsewhere = {c.name for c in result.claims if c.side == "contrast" and c.by == QEMU}
        assert elsewhere == BY_LUKS[demonstration.name]
        assert [claim.name for claim in result.claims if claim.name == "qemu"] == ["qemu"]
        for name, _ in result.files:
            wanted = "luks" if "luks" in name or "ecb" in name else "aes"
            with Stored(tmp_path / name) as stored:
                assert stored.encryption == wanted
    assert {path.suffix for path in tmp_path.iterdir()} == {".qcow2"}
    found = as_dict(shown, qemu)
    jsonschema.validate(found, schema("lab"))
    assert found["holds"] is True
    tool = document_tool()
    document = tool.DOCUMENT.read_text("utf-8")
    assert tool.filled(document, shown) == document, "run python tools/lab_document.py"


def test_the_picture_in_the_document_is_that_of_a_run(tmp_path: Path) -> None:
    tool = document_tool()
    (shown,) = show(["picture"], keep=tmp_path)
    assert tool.PICTURE.read_bytes() == tool.picture(shown), "run python tools/lab_document.py"


def test_the_example_in_the_document_runs(capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / "docs" / "lab.md").read_text("utf-8")
    example = text.partition("```python\n")[2].partition("```")[0]
    exec(compile(example, "docs/lab.md", "exec"), {})  # noqa: S102 - ours
    assert "chosen 1 of 128 True" in capsys.readouterr().out
