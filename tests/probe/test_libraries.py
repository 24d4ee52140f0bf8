"""Other libraries that are here: one verdict each, whatever they do beside the payload."""

from __future__ import annotations

import ctypes.util
import shutil
import sys

import pytest

from qcow2crypt import probe

pytestmark = pytest.mark.usefixtures("traced")

GCRYPT = """
import ctypes, sys

library = ctypes.CDLL(sys.argv[1])
library.gcry_check_version(None)
handle = ctypes.c_void_p()
assert library.gcry_cipher_open(ctypes.byref(handle), 7, 3, 0) == 0  # AES-128, CBC
assert library.gcry_cipher_setkey(handle, bytes(16), 16) == 0
data = bytearray(open(sys.argv[3], "rb").read())
for start in range(0, len(data), 512):
    sector = (ctypes.c_char * 512).from_buffer(data, start)
    library.gcry_cipher_setiv(handle, bytes(16), 16)
    assert getattr(library, "gcry_cipher_" + sys.argv[2])(handle, sector, 512, None, 0) == 0
"""
OPENSSL = ["enc", "-aes-128-cbc", "-nopad", "-K", "0123456789abcdef" * 2, "-iv", "00" * 16]


@pytest.fixture(autouse=True)
def instructions_here() -> None:
    if not probe.processor().has("aes"):
        pytest.skip("libraries were not examined: this processor has no AES instructions")


@pytest.mark.slow
@pytest.mark.parametrize("direction", ["encrypt", "decrypt"])
def test_libgcrypt_tests_itself_and_that_does_not_count(direction: str) -> None:
    name = ctypes.util.find_library("gcrypt")
    if name is None:
        pytest.skip("libgcrypt was not examined: it is not installed")
    words = [sys.executable, "-S", "-c", GCRYPT, name, direction, "{}"]
    (finding,) = probe.examine_command(words).findings
    assert finding.verdict.kind == "hardware"
    # It computes the next input of CBC beside the block, with a second last round.
    assert finding.verdict.per_block == (2.0 if direction == "encrypt" else 1.0)
    assert all("libgcrypt" in each.place.path for each in finding.verdict.by)
    assert len(finding.evidence.hits) > 100


@pytest.mark.parametrize(
    ("switch", "direction", "kind"),
    [("", "-e", "hardware"), ("", "-d", "hardware"), ("~0x200000200000000", "-e", "software")],
)
def test_openssl(monkeypatch: pytest.MonkeyPatch, switch: str, direction: str, kind: str) -> None:
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("openssl was not examined: it is not installed")
    monkeypatch.setenv("OPENSSL_ia32cap", switch)
    if not switch:
        monkeypatch.delenv("OPENSSL_ia32cap")
    words = [program, *OPENSSL, direction, "-in", "{}", "-out", "/dev/null"]
    (finding,) = probe.examine_command(words).findings
    assert finding.verdict.kind == kind, finding.verdict.why
    if kind == "hardware":
        assert finding.verdict.per_block == 1.0
    else:
        assert "OPENSSL_ia32cap" in finding.meaning
