"""What valgrind and qemu-user wrote is read as their documents say, and noise does no harm."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcow2crypt.probe.callgrind import read_counts
from qcow2crypt.probe.qemuuser import read_log

CALLGRIND = """\
# callgrind format
positions: instr
events: Ir

ob=???
fn=0x4b03ee0
0x4b03ee0 1

ob=/usr/lib/libnettle.so.8
fn=encrypt
0x31e98 4096
0x31e9e 4096
cob=/lib/libc.so.6
cfn=memcpy
calls=1 0x3df40
0x31ea2 82
0x31ea2 7
ob=/usr/bin/program
fn=main
0x1000 3
0x1000 4
0xzz 4
"""

LOG = """\
start_code  0x0000004000062000
12 openat(-100,"/lib/libnettle.so.8",O_RDONLY|O_CLOEXEC) = 4
12 mmap(NULL,315520,PROT_READ,MAP_PRIVATE|MAP_DENYWRITE,4,0) = 0x4002fa9000
12 mmap(0x4002fb6000,159744,PROT_EXEC|PROT_READ,MAP_PRIVATE|MAP_FIXED,4,0xd000) = 0x4002fb6000
0x4002fdae62:  66 44 0f 38 dc d9        aesenc   %xmm1, %xmm11
0x4002fdae98:  66 45 0f 38 dd da        aesenclast %xmm10, %xmm11
0x4002fdae9e:  44 0f 11 1a              movups   %xmm11, (%rdx)
0x4000062010:  c4 e2 71 dc c2           vaesenc  %xmm2, %xmm1, %xmm0
0x100:  66 0f 38 dc c1                  aesenc   %xmm1, %xmm0
"""


def test_counts_of_callgrind() -> None:
    assert read_counts(CALLGRIND.splitlines()) == {
        ("/usr/lib/libnettle.so.8", 0x31E98): 4096,
        ("/usr/lib/libnettle.so.8", 0x31E9E): 4096,
        ("/usr/lib/libnettle.so.8", 0x31EA2): 7,
        ("/usr/bin/program", 0x1000): 7,
    }


def test_instructions_in_the_log_of_qemu() -> None:
    assert list(read_log(LOG.splitlines())) == [
        ("/lib/libnettle.so.8", 0x31E62, bytes.fromhex("66440f38dcd9")),
        ("/lib/libnettle.so.8", 0x31E98, bytes.fromhex("66450f38ddda")),
        ("", 0x10, bytes.fromhex("c4e271dcc2")),
    ]


@given(st.lists(st.sampled_from(CALLGRIND.splitlines()) | st.text(max_size=40), max_size=30))
def test_any_lines_of_callgrind(lines: list[str]) -> None:
    assert all(count >= 0 for count in read_counts(lines).values())


@given(st.lists(st.sampled_from(LOG.splitlines()) | st.text(max_size=40), max_size=30))
def test_any_lines_of_qemu(lines: list[str]) -> None:
    list(read_log(lines))


@pytest.mark.parametrize("line", ["0x10", "calls=", "ob=", "0x10 x", "mmap("])
def test_halves_of_lines(line: str) -> None:
    assert read_counts([line, "0x10 5"]) == {}
    assert list(read_log([line])) == []
