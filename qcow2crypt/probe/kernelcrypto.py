"""Does a program let the kernel encrypt?  Watches system calls on AF_ALG sockets.

Knows the calls by their numbers on x86-64, no tracing.  Follows the kernel's document "User Space
Interface".  A socket is bound to the name of a cipher; accept() gives the one that takes data.
"""

from __future__ import annotations

import struct

from qcow2crypt.probe.memory import read_memory
from qcow2crypt.probe.ptrace import AT_ENTRY, AT_EXIT, SyscallInfo
from qcow2crypt.probe.record import KernelUse

_FAMILY = 38  # AF_ALG
_WRITE, _SOCKET, _ACCEPT, _SENDTO, _SENDMSG, _BIND = 1, 41, 43, 44, 46, 49
_CLOSE, _SPLICE, _ACCEPT4 = 3, 275, 288
_SENDING = frozenset((_WRITE, _SENDTO, _SENDMSG))
_NAME_OFFSET = 24  # in struct sockaddr_alg


class KernelWatch:
    """The AF_ALG sockets of all processes of one run."""

    def __init__(self, use: KernelUse) -> None:
        self._use = use
        self._calls: dict[int, tuple[int, tuple[int, ...]]] = {}
        self._ciphers: dict[tuple[int, int], str] = {}

    def stop(self, tid: int, process: int, info: SyscallInfo) -> None:
        """A thread stopped at the entry or exit of a system call."""
        if info.op == AT_ENTRY:
            self._calls[tid] = info.number, tuple(info.arguments)
        elif info.op == AT_EXIT and tid in self._calls:
            number, arguments = self._calls.pop(tid)
            self._done(process, tid, number, arguments, info.number)

    def _done(
        self, process: int, tid: int, number: int, arguments: tuple[int, ...], result: int
    ) -> None:
        if number == _SOCKET and arguments[0] == _FAMILY:
            self._use.tried += 1
            if result >= 0:
                self._ciphers[process, result] = ""
            return
        to = (process, arguments[2 if number == _SPLICE else 0])
        if to not in self._ciphers:
            return
        if number == _BIND and result == 0:
            address = read_memory(tid, arguments[1], 88)
            name = address[_NAME_OFFSET:].partition(b"\0")[0].decode("ascii", "replace")
            family = struct.unpack_from("<H", address)[0] if len(address) >= 2 else 0
            if family == _FAMILY:
                self._ciphers[to] = name
                self._use.ciphers.add(name)
        elif number in {_ACCEPT, _ACCEPT4} and result >= 0:
            self._ciphers[process, result] = self._ciphers[to]
        elif number in _SENDING or number == _SPLICE:
            if result > 0 and "aes" in self._ciphers[to]:
                self._use.sent += result
        elif number == _CLOSE and result == 0:
            self._ciphers.pop(to, None)
