"""explain beside QEMU, on chains that random scripts made: the bytes at the end, and the places.

The bytes are those that qemu-io and qemu-img read; the host offset is the one of ``qemu-img map``,
for an encrypted layer that of a copy whose header says that it is not encrypted.
"""

from __future__ import annotations

import json
import random
import re
import struct
from pathlib import Path
from typing import Any

import pytest
from support.claims import check_claims
from support.differential import EXHAUSTIVE, scratch_home
from support.random_layers import RandomChain, random_chain

import qcow2crypt
from qcow2crypt.explaining.facts import Explanation, LayerStep
from qcow2crypt.explaining.regions import RegionKind
from qcow2crypt.testing.witness import Disk, QemuImg

SECTOR = 512
SEEDS = range(2000 if EXHAUSTIVE else 200)
QUICK = 40


@pytest.mark.parametrize(
    "seed",
    [pytest.param(seed, marks=[pytest.mark.slow] * (seed >= QUICK)) for seed in SEEDS],
)
def test_random_chains(seed: int, qemu_img: QemuImg, tmp_path: Path) -> None:
    with scratch_home(tmp_path) as folder:
        chain = random_chain(qemu_img, folder, seed)
        try:
            check_chain(chain, folder, random.Random(seed))
        except Exception as error:
            raise AssertionError("\n".join(chain.log)) from error


def check_chain(chain: RandomChain, folder: Path, choose: random.Random) -> None:
    content = chain.content(folder / "theirs.raw")
    maps: dict[int, list[dict[str, Any]]] = {}
    for offset in interesting(content, choose):
        found = explained(chain, offset=offset)
        check_bytes(found, content, offset)
        step = found.layers[-1]
        if step.kind == "data":
            if step.depth not in maps:
                maps[step.depth] = places(chain, step, folder)
            check_place(maps[step.depth], step)
        check_way_back(chain, found)
    for layer in chain.layers:
        if layer.driver == "qcow2":
            check_claims(layer.path)
    for one in chain.top.snapshots[:1]:
        then = chain.content(folder / "then.raw", "-l", one)
        with qcow2crypt.open(chain.top.path, secrets=chain.secrets(), snapshot=one) as view:
            then = then[: view.size]
        for offset in interesting(then, choose)[:4]:
            check_bytes(explained(chain, offset=offset, snapshot=one), then, offset)


def interesting(content: bytes, choose: random.Random) -> list[int]:
    """Some offsets, most of them where there is something."""
    if not content:
        return []
    found = [0, len(content) - 1, choose.randrange(len(content))]
    for _ in range(12):
        at = choose.randrange(len(content))
        used = re.compile(rb"[^\0]").search(content, at)
        found.append(used.start() if used else at)
    return list(dict.fromkeys(found))


def explained(chain: RandomChain, **wanted: Any) -> Explanation:
    return qcow2crypt.explain(
        chain.top.path, secrets=chain.secrets(), format=chain.top.driver, **wanted
    )


def check_bytes(found: Explanation, content: bytes, offset: int) -> None:
    start = offset - offset % SECTOR
    wanted = content[start : start + SECTOR]
    assert found.plaintext is not None
    assert found.plaintext[: len(wanted)] == wanted  # a raw disk may end inside a sector
    assert found.byte == content[offset]
    if found.blocks:
        assert b"".join(block.plaintext for block in found.blocks) == found.plaintext
        assert b"".join(block.ciphertext for block in found.blocks) == found.stored


def places(chain: RandomChain, step: LayerStep, folder: Path) -> list[dict[str, Any]]:
    """What ``qemu-img map`` tells of one layer alone, as if it were not encrypted."""
    layer = chain.layers[step.depth]
    if step.encryption is None or layer.has_data_file:
        return chain.map(step.depth, alone=True)
    bare = folder / f"bare{step.depth}"
    data = bytearray(layer.path.read_bytes())
    at = 32 if layer.driver == "qcow2" else 36
    data[at : at + 4] = struct.pack(">I", 0)
    bare.write_bytes(data)
    below = step.depth + 1 < len(chain.layers)
    options = f"driver={layer.driver},file.filename={bare}" + (",backing=" if below else "")
    done = chain.qemu.run("map", "--output=json", "--image-opts", options)
    return list(json.loads(done.stdout))


def check_place(entries: list[dict[str, Any]], step: LayerStep) -> None:
    offset = step.position.offset
    (entry,) = (e for e in entries if e["start"] <= offset < e["start"] + e["length"])
    assert entry["present"]
    if "offset" in entry:
        assert step.host_offset == entry["offset"] + offset - entry["start"]
    else:  # an encrypted layer with an external data file
        assert step.host_offset == offset


def check_way_back(chain: RandomChain, found: Explanation) -> None:
    """From the place to the byte, where it lies in the top file."""
    step = found.layers[-1]
    if step.depth or step.host_offset is None or step.data_file != step.file:
        return
    if (
        step.kind not in ("data", "compressed")
        or step.host_offset >= Path(step.file).stat().st_size
    ):
        return
    back = explained(chain, host_offset=step.host_offset)
    assert back.place is not None
    claims = back.place.region.claims
    kind = RegionKind.COMPRESSED if step.kind == "compressed" else RegionKind.DATA
    assert any(claim.kind is kind and claim.snapshot is None for claim in claims)
    if step.kind == "data" and len(back.place.region.guest_offsets()) == 1:
        assert back.plaintext == found.plaintext
        assert back.byte == found.byte
        assert back.layers == found.layers


def test_what_qemu_io_shows(qemu_img: QemuImg, tmp_path: Path) -> None:
    """``qemu-io read -v`` prints the bytes of a sector; so do we."""
    disk = Disk(tmp_path / "disk.qcow2", passphrase="hunter2")
    qemu_img.create(disk, 1 << 20, {"cluster_size": 4096})
    choose = random.Random(7)
    writes = [f"write -q -P {choose.randrange(256)} {choose.randrange(2000) * 512} 512"
              for _ in range(30)]  # fmt: skip
    qemu_img.qemu_io(disk, [*writes, "write -q -z 0 8192", "write -q -c -P 9 16384 4096"])
    for sector in (0, 17, 33, *(choose.randrange(2048) for _ in range(12))):
        shown = qemu_img.qemu_io(disk, [f"read -v {sector * 512} 512"])
        lines = re.findall(r"^[0-9a-f]{8}: +((?:[0-9a-f]{2} ){16})", shown, re.MULTILINE)
        found = qcow2crypt.explain(disk.path, sector=sector, secret="hunter2")
        assert found.plaintext == bytes.fromhex("".join(lines))
