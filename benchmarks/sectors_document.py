"""Put the figures of a result of sectors.py into docs/interleaving.md.

    python -m benchmarks.sectors_document [RESULT.json]

Without a name it takes results/sectors-linux-x86_64-vaes512.json.  What stands between the two
marks in the document is replaced; no figure there is written by hand.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "interleaving.md"
RESULT = ROOT / "benchmarks" / "results" / "sectors-linux-x86_64-vaes512.json"
BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"
PEER = "openssl"
CHAIN = "limit-serial"  # a limit of encryption alone: decryption is no chain

# What the contenders are, in words; those that were not measured get no line.
WORDS = {
    "openssl": "OpenSSL, one sector after the other",
    "nettle": "nettle as QEMU uses it, one sector after the other",
    "limit-serial": "limit: one block at a time, registers only",
    "aesni": "`aesni`, vectors of one block",
    "limit-xmm": "limit: vectors of one block, registers only",
    "vaes256": "`vaes256`, vectors of two blocks",
    "limit-ymm": "limit: vectors of two blocks, registers only",
    "ipsecmb": "intel-ipsec-mb, a burst of 128 sectors",
    "vaes512": "`vaes512`, vectors of four blocks",
    "limit-zmm": "limit: vectors of four blocks, registers only",
}


def speeds(result: dict[str, Any], direction: str) -> dict[str, float]:
    """Median GB/s of each contender, AES-128-CBC, 64 KiB in place."""
    word = {"enc": "encrypt", "dec": "decrypt"}[direction]
    group = f"AES-128 {word}, 64K in"
    return {s["contender"]: s["median_gb_s"] for s in result["speeds"] if s["group"] == group}


def speed(found: dict[str, float], contender: str) -> str:
    """One cell: GB/s, and how many times the peer."""
    times = f" ({found[contender] / found[PEER]:.1f}x)" if PEER in found else ""
    return f"{found[contender]:.1f}{times}"


def few_sectors(result: dict[str, Any]) -> list[tuple[int, float]]:
    """Median GB/s of encryption by the best kernel, for runs of few sectors."""
    return [
        (s["sectors"], s["median_gb_s"])
        for s in result["speeds"]
        if s["group"].endswith("sectors and less, in") and s["direction"] == "enc"
    ]


def text(result: dict[str, Any], name: str) -> str:
    """The tables."""
    encrypt, decrypt = speeds(result, "enc"), speeds(result, "dec")
    machine = f"{result['cpu']} ({result['cpu_numbers']}), {result['date']}"
    lines = [
        f"{machine}; [the whole result](../benchmarks/results/{name}).",
        "AES-128-CBC, 64 KiB in place, one thread, medians in GB/s; in brackets times OpenSSL.",
        "",
        "| | encrypt | decrypt |",
        "| --- | --- | --- |",
    ]
    for contender, words in WORDS.items():
        if contender in encrypt:
            cells = [speed(encrypt, contender), speed(decrypt, contender)]
            if contender == CHAIN:
                cells[1] = "no chain"
            lines.append(f"| {words} | {cells[0]} | {cells[1]} |")
    few = few_sectors(result)
    lines += [
        "",
        "| sectors in the run | " + " | ".join(str(count) for count, _ in few) + " |",
        "| --- " * (len(few) + 1) + "|",
        "| encrypt, GB/s | " + " | ".join(f"{fast:.1f}" for _, fast in few) + " |",
    ]
    return "\n".join(lines)


def main() -> None:
    """Replace what stands between the marks."""
    path = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else RESULT
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        sys.exit(f"{path}: {error.strerror}; sectors.py writes it")
    before, _, rest = DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    new = f"{before}{BEGIN}\n\n{text(result, path.name)}\n\n{END}{after}"
    DOCUMENT.write_text(new, encoding="utf-8")
    print(f"{DOCUMENT}: figures of {path.name}")


if __name__ == "__main__":
    main()
