"""Our own engine: what ``engines`` says of its kernels is what they do."""

from __future__ import annotations

import pytest

from qcow2crypt import engines, probe

pytestmark = pytest.mark.usefixtures("traced")

KERNELS = {"vaes512": 64, "vaes256": 32, "aesni": 16}
"""Kernels with AES instructions, and their width in bytes."""


def examined(engine: str) -> tuple[probe.Finding, ...]:
    report = probe.examine_self(engine)
    assert report.problem == ""
    return report.findings


@pytest.mark.slow
@pytest.mark.parametrize("which", ["widest", "narrowest", "portable"])
def test_each_kernel_does_what_it_says(which: str) -> None:
    here = [each.name for each in engines.status().kernels if each.available]
    kernels = {"widest": here[:1], "narrowest": [k for k in here if k in KERNELS][-1:]}
    found = kernels.get(which, [k for k in here if k == which])
    if not found:
        pytest.skip(f"no kernel was examined as {which}: none in this build for this processor")
    (kernel,) = found
    for finding in examined(f"native:{kernel}"):
        if kernel not in KERNELS:
            # Bitsliced: no table, and no instruction but in the self-test of others.
            assert finding.verdict.kind == "unknown"
            assert finding.verdict.per_block == 0
            continue
        assert (finding.verdict.kind, finding.verdict.per_block) == ("hardware", 1.0)
        assert all("_native" in each.place.path for each in finding.verdict.by)
        widths = {each.site.width for each in finding.evidence.sites}
        # Encryption chains the blocks of a sector; what is left of a group may be narrower.
        assert KERNELS[kernel] in widths


@pytest.mark.slow
def test_pycryptodome_uses_instructions() -> None:
    if "pycryptodome" not in engines.available():
        pytest.skip("pycryptodome was not examined: it is not installed")
    if not probe.processor().has("aes"):
        pytest.skip("pycryptodome was not examined: this processor has no AES instructions")
    for finding in examined("pycryptodome"):
        found = finding.verdict
        assert (found.kind, found.per_block) == ("hardware", 1.0), found.why


@pytest.mark.slow
def test_the_textbook_is_not_called_hardware() -> None:
    for finding in examined("reference"):
        assert (finding.verdict.kind, finding.verdict.per_block) == ("unknown", 0.0)
