"""AES in the kernel: sockets of the family AF_ALG, by the system calls that a program makes."""

from __future__ import annotations

import ctypes
import os
import struct
import sys

import pytest

from qcow2crypt import probe
from qcow2crypt.probe.kernelcrypto import KernelWatch
from qcow2crypt.probe.ptrace import AT_ENTRY, AT_EXIT, SyscallInfo
from qcow2crypt.probe.record import KernelUse

WRITE, CLOSE, SOCKET, ACCEPT, SENDMSG, BIND, SPLICE = 1, 3, 41, 43, 46, 49, 275
ALG, UNIX = 38, 1


class Calls:
    """System calls as a tracer sees them; addresses are those of this process."""

    def __init__(self) -> None:
        self.use = KernelUse()
        self._watch = KernelWatch(self.use)

    def call(self, number: int, *arguments: int, result: int) -> None:
        entry = SyscallInfo(op=AT_ENTRY, number=number)
        for place, value in enumerate(arguments):
            entry.arguments[place] = value  # type: ignore[index]
        self._watch.stop(os.getpid(), os.getpid(), entry)
        self._watch.stop(os.getpid(), os.getpid(), SyscallInfo(op=AT_EXIT, number=result))

    def bind(self, socket: int, name: bytes, result: int = 0) -> None:
        address = struct.pack("<H14sII64s", ALG, b"skcipher", 0, 0, name)
        buffer = ctypes.create_string_buffer(address)
        self.call(BIND, socket, ctypes.addressof(buffer), len(address), result=result)


pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="system calls were not read: this is no Linux"
)


def test_what_is_sent_to_aes_counts() -> None:
    calls = Calls()
    calls.call(SOCKET, ALG, 5, 0, result=3)
    calls.bind(3, b"cbc(aes)")
    calls.call(ACCEPT, 3, 0, 0, result=4)
    calls.call(SENDMSG, 4, 0, 0, result=512)
    calls.call(WRITE, 4, 0, 100, result=100)
    calls.call(SPLICE, 9, 0, 4, 0, 4096, result=4096)
    calls.call(WRITE, 1, 0, 100, result=100)  # another file
    calls.call(SENDMSG, 4, 0, 0, result=-11)
    calls.call(CLOSE, 4, result=0)
    calls.call(WRITE, 4, 0, 100, result=100)  # the number is of another file now
    assert (calls.use.tried, calls.use.ciphers, calls.use.sent) == (1, {"cbc(aes)"}, 4708)


def test_a_hash_is_no_aes() -> None:
    calls = Calls()
    calls.call(SOCKET, ALG, 5, 0, result=3)
    calls.bind(3, b"sha256")
    calls.call(ACCEPT, 3, 0, 0, result=4)
    calls.call(SENDMSG, 4, 0, 0, result=512)
    assert (calls.use.ciphers, calls.use.sent) == ({"sha256"}, 0)


def test_what_fails_is_no_use() -> None:
    calls = Calls()
    calls.call(SOCKET, ALG, 5, 0, result=-97)
    calls.call(SOCKET, UNIX, 1, 0, result=3)
    calls.bind(3, b"cbc(aes)")
    calls.call(SOCKET, ALG, 5, 0, result=5)
    calls.bind(5, b"cbc(aes)", result=-2)
    calls.call(SENDMSG, 5, 0, 0, result=512)
    assert (calls.use.tried, calls.use.ciphers, calls.use.sent) == (2, set(), 0)


@pytest.mark.usefixtures("traced")
def test_a_program_that_asks_the_kernel() -> None:
    """Whether the kernel here has AF_ALG or not: that it was asked is seen."""
    code = (
        "import socket\n"
        "try:\n"
        "    s = socket.socket(38, 5, 0); s.bind(('skcipher', 'cbc(aes)'))\n"
        "    s.setsockopt(279, 1, bytes(16)); o, _ = s.accept()\n"
        "    o.sendmsg_afalg([bytes(160)], op=1, iv=bytes(16)); o.recv(160)\n"
        "except OSError as error:\n"
        "    print(error)\n"
    )
    report = probe.examine_command([sys.executable, "-S", "-c", code])
    kernel = report.findings[0].evidence.kernel
    assert kernel.tried == 1
    assert kernel.small in {0, 160}
    assert (kernel.ciphers == ("cbc(aes)",)) is (kernel.small == 160)
