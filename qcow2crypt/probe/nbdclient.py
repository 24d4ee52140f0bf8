"""Just enough of an NBD client to write or read once.  Follows the NBD protocol document."""

from __future__ import annotations

import socket
import struct
import threading
import time
from pathlib import Path

from qcow2crypt.errors import ProbeError

_OPTION_MAGIC = b"IHAVEOPT"
_EXPORT_NAME = 1
_REQUEST, _REPLY = 0x25609513, 0x67446698
_READ, _WRITE, _DISCONNECT = 0, 1, 2
_PATIENCE = 20.0


def transfer(path: Path, ended: threading.Event, *, write: bytes = b"", read: int = 0) -> None:
    """Connect to the server at the socket ``path``, write or read from 0 on, disconnect.

    Waits for the socket to appear, unless the server has ``ended``.  Raises ProbeError where it
    is no server, or refuses.
    """
    try:
        with _connected(path, ended) as line:
            _handshake(line)
            kind, length = (_WRITE, len(write)) if write else (_READ, read)
            line.sendall(struct.pack(">IHHQQI", _REQUEST, 0, kind, 1, 0, length) + write)
            magic, error, _ = struct.unpack(">IIQ", _exactly(line, 16))
            if magic != _REPLY or error:
                raise ProbeError(f"the NBD server refused the request (error {error})")
            _exactly(line, read)
            line.sendall(struct.pack(">IHHQQI", _REQUEST, 0, _DISCONNECT, 2, 0, 0))
    except OSError as error:
        raise ProbeError(f"the NBD server cannot be reached: {error}") from error


def _connected(path: Path, ended: threading.Event) -> socket.socket:
    end = time.monotonic() + _PATIENCE
    while True:
        line = socket.socket(socket.AF_UNIX)
        line.settimeout(_PATIENCE)
        try:
            line.connect(str(path))
        except OSError:
            line.close()
            if time.monotonic() > end or ended.wait(0.01):
                raise
        else:
            return line


def _handshake(line: socket.socket) -> None:
    greeting = _exactly(line, 18)
    if greeting[:16] != b"NBDMAGIC" + _OPTION_MAGIC:
        raise ProbeError("the NBD server speaks a protocol that is too old")
    line.sendall(struct.pack(">I", 1) + _OPTION_MAGIC + struct.pack(">II", _EXPORT_NAME, 0))
    # Size, flags, and zeros that only later versions can leave out.
    _exactly(line, 8 + 2 + 124)


def _exactly(line: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = line.recv(count - len(data))
        if not more:
            raise ProbeError("the NBD server closed the connection")
        data += more
    return data
