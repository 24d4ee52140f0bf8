"""What a verdict means for whoever asked: one plain sentence, and the switch that changes it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath

from qcow2crypt.probe.evidence import Evidence
from qcow2crypt.probe.verdict import HARDWARE, KERNEL, MIXED, SOFTWARE, Verdict

_SWITCHES = {
    "libnettle": "NETTLE_FAT_OVERRIDE=none in the environment turns them off",
    "libgnutls": "GNUTLS_CPUID_OVERRIDE=0x4 in the environment turns them off (0x1 leaves those of "
    "libnettle)",
    "libgcrypt": "lines with intel-aesni and intel-vaes-vpclmul in /etc/gcrypt/hwf.deny turn them "
    "off",
    "libcrypto": "OPENSSL_ia32cap=~0x200000200000000 in the environment turns them off",
    "_native": "QCOW2CRYPT_ENGINE=native:portable in the environment turns them off",
    "_raw_aesni": "QCOW2CRYPT_ENGINE=pure in the environment turns them off",
}
"""Start of a file name: how its AES instructions are turned off."""

SETTINGS = ("NETTLE_FAT_OVERRIDE", "GNUTLS_CPUID_OVERRIDE", "OPENSSL_ia32cap", "QCOW2CRYPT_ENGINE")
"""Variables of the environment that choose between instructions and software."""


def meaning(
    verdict: Verdict, evidence: Evidence, has_aes: bool | None, environment: Mapping[str, str]
) -> str:
    """The sentence.  ``has_aes``: what the processor offers, None where nobody knows."""
    if verdict.kind == HARDWARE:
        return _hardware(verdict, evidence.where)
    if verdict.kind == SOFTWARE:
        return _software(verdict, has_aes, environment)
    if verdict.kind == KERNEL:
        return (
            "The kernel encrypts; /proc/crypto names its driver, and one with aesni or vaes in its "
            "name uses the instructions."
        )
    if verdict.kind == MIXED:
        return "A part of the payload goes one way and a part another: see --proof."
    if evidence.payload == (0, 0):
        return "Put {} in place of a file that it reads: then two sizes of payload decide."
    return "What was not seen may still be done."


def _hardware(verdict: Verdict, where: str) -> str:
    if where:
        return (
            f"On the {where} it encrypts with AES instructions; on this one that is likely, and "
            "not proven."
        )
    switches = (_switch(each.place.path) for each in verdict.by)
    found = next((f"; {switch}, to compare" for switch in switches if switch), "")
    return f"It encrypts with the AES instructions of the processor{found}."


def _switch(path: str) -> str:
    name = PurePath(path).name
    return next((text for start, text in _SWITCHES.items() if name.startswith(start)), "")


def _software(verdict: Verdict, has_aes: bool | None, environment: Mapping[str, str]) -> str:
    how = "software, with SSSE3 but without AES instructions" if verdict.vector else "software"
    if has_aes is None:
        return f"It encrypts in {how}; what this processor offers is not known."
    if not has_aes:
        return f"It encrypts in {how}: this processor has no AES instructions."
    text = f"It encrypts in {how}, although this processor has AES instructions: "
    settings = [name for name in SETTINGS if environment.get(name)]
    if settings:
        return f"{text}{' and '.join(settings)} in the environment may be the reason."
    library = PurePath(verdict.by[0].place.path).name if verdict.by else ""
    if library.startswith("libgcrypt"):
        return f"{text}/etc/gcrypt/hwf.deny may be the reason."
    if library.startswith("lib"):
        return f"{text}{library} was made without them, or does not find them."
    return f"{text}its AES is built in; a build with nettle, gcrypt or gnutls can use them."
