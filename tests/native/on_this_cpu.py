"""A program, not a test: what the engine ``native`` does on the CPU that runs it, as JSON.

test_other_cpus.py starts it on emulated CPUs.
"""

from __future__ import annotations

import json
import sys

from support.vectors import Case, cases

from qcow2crypt import engines
from qcow2crypt.engines import native
from qcow2crypt.errors import EngineUnavailableError, SelfTestError

CASES = [*cases("cavp-cbc"), *cases("sp800-38a-cbc"), *cases("sectors")]


def is_right(engine: str, case: Case) -> bool:
    """Both directions of one case, as three sectors side by side."""
    key = engines.get(engine).expand_key(case.key)
    ivs, size = (case.iv or b"") * 3, len(case.plaintext)
    found = bytearray(3 * size)
    key.cbc_encrypt(ivs, case.plaintext * 3, found, size)
    right = found == case.ciphertext * 3
    key.cbc_decrypt(ivs, found, found, size)
    return right and found == case.plaintext * 3


def refusal(name: str) -> list[str]:
    """The class and the words of the error that stands where an engine was asked for."""
    try:
        engines.get(name)
    except (EngineUnavailableError, SelfTestError) as error:
        return [type(error).__name__, str(error)]
    return []


def main() -> None:
    """Ask for ``native``, for each kernel by name, and for the known answers of those that work."""
    kernels = {}
    for kernel in native.kernels():
        name = f"native:{kernel.name}"
        wrong = [case.id for case in CASES if not is_right(name, case)] if kernel.available else []
        kernels[kernel.name] = {"lacks": kernel.lacks, "refusal": refusal(name), "wrong": wrong}
    chosen: object = refusal("native")
    if not chosen:
        chosen = getattr(engines.get("native"), "kernel", "")
    json.dump({"chosen": chosen, "kernels": kernels, "cases": len(CASES)}, sys.stdout)


if __name__ == "__main__":
    main()
