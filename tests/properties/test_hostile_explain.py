"""Damaged images: explain answers, or fails with our errors, in bounded reads and memory."""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import golden
import pytest
import support.limited
from hypothesis import given
from hypothesis import strategies as st
from support.hostile import Counting

import qcow2crypt
from qcow2crypt.errors import Qcow2CryptError
from qcow2crypt.testing.damage.hostile import CLAIMS, CROSSED, LARGE, large

NAMES = (
    "aes-c512-snapshot.qcow2",
    "aes-c4k-compressed.qcow2",
    "aes-c64k-v3-extl2.qcow2",
    "luks-aes128cbc-essiv.qcow2",
    "qcow1-aes.qcow",
    "zstd-c4k.qcow2",
)
MEMORY = 192  # MiB beside the program itself
SECONDS = 120


def follow(data: bytes, choose: random.Random) -> None:
    """Some questions; the answers in all forms."""
    for question, snapshot in (
        ({"offset": choose.randrange(1 << 20)}, choose.choice([None, "1"])),
        ({"sector": choose.choice([0, 1, choose.randrange(64)])}, None),
        ({"host_offset": choose.randrange(len(data))}, None),
    ):
        with contextlib.suppress(Qcow2CryptError):
            found = qcow2crypt.explain(
                Counting(data),
                secret="x",
                external="none",
                snapshot=snapshot,
                **question,  # type: ignore[arg-type]
            )
            json.dumps(found.to_dict())
            assert found._repr_html_()


@pytest.mark.parametrize("name", NAMES)
@given(seed=st.integers(0, 1 << 32))
def test_flipped_bytes(name: str, seed: int) -> None:
    choose = random.Random(seed)
    data = bytearray(golden.load(name).data)
    for _ in range(choose.randrange(1, 8)):
        at = choose.choice([choose.randrange(112), choose.randrange(len(data))])
        data[at] = choose.choice([0, 1, 0x40, 0x80, 0xFF, choose.randrange(256)])
    follow(bytes(data), choose)


def test_tables_that_point_anywhere() -> None:
    choose = random.Random(1)
    for data in CROSSED.values():
        follow(data, choose)


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are set on Linux only")
class TestMemory:
    """In a process that has little memory."""

    def test_small_files_that_claim_much(self, tmp_path: Path) -> None:
        for number, data in enumerate(CLAIMS.values()):
            (tmp_path / str(number)).write_bytes(data)
        self.limited(sorted(tmp_path.iterdir()))

    @pytest.mark.slow
    @pytest.mark.parametrize("name", LARGE)
    def test_an_l1_table_of_32_mib(self, name: str, tmp_path: Path) -> None:
        self.limited([large(tmp_path / "image", LARGE[name])])

    def limited(self, paths: Sequence[Path]) -> None:
        program = [sys.executable, support.limited.__file__, str(MEMORY), str(SECONDS)]
        done = subprocess.run(
            [*program, "--explain", *map(str, paths)],
            check=False,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(qcow2crypt.__file__).parents[1])},
        )
        assert done.returncode == 0, (done.returncode, done.stderr[-2000:], done.stdout[-300:])
        assert done.stdout.count("done") == len(paths)
