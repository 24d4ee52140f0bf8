"""Ciphertext without a key, on images that QEMU made, against what their manifests say of it."""

from __future__ import annotations

import golden
import pytest

from qcow2crypt import SectorCipher
from qcow2crypt.errors import LabError
from qcow2crypt.lab.search import search_marks, search_stages
from qcow2crypt.lab.stored import Stored

LUKS = "luks-aes128cbc-essiv.qcow2"
OLD = tuple(name for name in golden.ENCRYPTED if name.endswith(".qcow"))
NAMES = (*(name for name in golden.ENCRYPTED if name not in OLD), LUKS)


@pytest.mark.parametrize("name", NAMES)
def test_it_lies_where_the_manifest_says_and_is_what_it_says(name: str) -> None:
    image = golden.load(name)
    with Stored(image.path) as stored:
        assert stored.encryption == ("luks" if name == LUKS else "aes")
        seen = {number: (host, data) for number, host, data in stored.sectors()}
    looked = 0
    for sector in image.sectors:
        if sector["sector"] not in seen:
            assert "ciphertext_sha256" not in sector
            continue
        looked += 1
        host, data = seen[sector["sector"]]
        assert host == sector.get("host_offset", host)
        assert golden.sha256(data) == sector.get("ciphertext_sha256", golden.sha256(data))
        if name != LUKS:
            cipher = SectorCipher.from_passphrase(image.secret or "")
            plain = cipher.decrypt(data, sector["sector"])
            assert golden.sha256(plain) == sector["plaintext_sha256"]
    assert looked


@pytest.mark.parametrize("name", NAMES)
def test_the_searches_take_it(name: str) -> None:
    image = golden.load(name)
    marks = search_marks(image.path)
    assert marks.sectors + marks.zero > 0
    encryption, stages = search_stages(image.path)
    assert encryption == marks.encryption
    assert bool(stages) == ("snapshot" in name)


@pytest.mark.parametrize("name", OLD)
def test_version_1_is_refused_by_name(name: str) -> None:
    with pytest.raises(LabError, match="is of the format qcow; this looks at qcow2 images"):
        search_marks(golden.load(name).path)
