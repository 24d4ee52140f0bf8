"""How fast is the native engine, next to its peers and to what the processor can do?

    python -m benchmarks.sectors            all of it, in about a minute
    python -m benchmarks.sectors --quick    64 KiB only, few rounds, no file written

Sector by sector, each with an IV of its own: our kernels, OpenSSL, nettle and intel-ipsec-mb in C,
the limit of the AES units and of memory; from Python our engine and what people use without it.
Prints ratios beside the speed that is asked for, and writes a JSON file to benchmarks/results.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import sectors_build as c_part
from benchmarks import sectors_python as python_part
from benchmarks import sectors_rows as plan
from benchmarks.engines import PEERS, git, version
from qcow2crypt.bench.circumstances import cpu

ROOT = Path(__file__).resolve().parents[1]

KIBIBYTES = (64, 256, 1024)
ROUNDS = 27
STARTS = 9  # of the program in C for one group: each has other pages of memory
MICROSECONDS = 1000.0
MEMORY_ROUNDS = 9  # a pass through memory is a sample, and long enough
SPEED_FIELDS = ("direction", "sectors", "place", "threads")


class Report:
    """What has been found out so far."""

    def __init__(self) -> None:
        self.compiler = "none"
        self.contenders: dict[str, str] = {}
        self.missing: dict[str, str] = {}
        self.answers: list[plan.Answer] = []
        self.speeds: list[dict[str, Any]] = []
        self.python: list[dict[str, Any]] = []

    def lack(self, missing: dict[str, str]) -> None:
        """Say what is not measured, and why."""
        for name, reason in missing.items():
            print(f"not measured: {name}: {reason}", flush=True)
        self.missing |= missing

    def add_speeds(self, group: plan.Group, times: dict[c_part.Job, c_part.Times]) -> None:
        """Print one group in GB/s, and keep it."""
        print(f"\n{group.title}, GB/s: median (best)")
        differ = [name for name in SPEED_FIELDS if len({getattr(j, name) for j in times}) > 1]
        for job, found in times.items():
            size = job.threads * plan.SECTOR * job.sectors / 1e9
            seconds = found.cpu if job.threads == 1 else found.wall
            median, best = size / statistics.median(seconds), size / min(seconds)
            what = f"{job.contender} " + ", ".join(f"{n} {getattr(job, n)}" for n in differ)
            print(f"  {what:56}{median:8.2f} ({best:.2f})", flush=True)
            speed = {"group": group.title, **asdict(job), "clock": "thread"}
            if job.threads > 1:
                speed["clock"] = "wall"
            speed |= {"samples": len(seconds), "calls_per_sample": found.calls}
            speed |= {"median_gb_s": round(median, 4), "best_gb_s": round(best, 4)}
            self.speeds.append(speed)

    def table(self) -> str:
        """The rows: a ratio of medians in every cell, and a word for the worst of them."""
        lines = []
        widest = [s for s in self.speeds if s["contender"].startswith("limit-")]
        if widest:
            top = max(widest, key=lambda speed: float(speed["median_gb_s"]))
            speed, what = top["median_gb_s"], f"{top['contender']}, AES-{top['key_bits']}"
            lines.append(f"\nthe widest limit of this processor: {speed:.1f} GB/s ({what})")
        lines.append(f"\n{'ratio of medians':58}{'at least':>9}{'aim':>7}  verdict")
        for answer in self.answers:
            asked = ["" if x is None else f"{x:g}" for x in (answer.at_least, answer.aim)]
            lines.append(f"{answer.title:58}{asked[0]:>9}{asked[1]:>7}  {answer.verdict}".rstrip())
            cells = []
            for name, ratio in answer.medians.items():
                best = f" (best {answer.bests[name]:.3g})" if answer.by_wall else ""
                cells.append(f"{name} {ratio:.3g}{best}")
            lines.append("    " + " | ".join(cells))
        return "\n".join(lines)


def measure_c(report: Report, program: c_part.Program, options: argparse.Namespace) -> None:
    """The part in C."""
    sizes = [max(1, kib * 1024 // plan.SECTOR) for kib in options.kib]
    memory = (options.mib << 20) // plan.SECTOR
    work = plan.Plan(list(report.contenders), sizes, memory)
    times: dict[str, dict[c_part.Job, c_part.Times]] = {name: {} for name in plan.SECTIONS}
    for group in work.groups():
        if group.section in options.sections:
            rounds = min(options.rounds, MEMORY_ROUNDS) if group.is_long else options.rounds
            starts = 1 if group.is_long else STARTS
            found = c_part.measure(program, group.jobs, rounds, options.microseconds, starts)
            report.add_speeds(group, found)
            times[group.section] |= found
    for row in work.rows():
        if row.section in options.sections:
            report.answers.append(plan.answer(row, times[row.section]))


def measure_python(report: Report, program: c_part.Program | None, kib: list[int]) -> None:
    """The part in Python, where the engine is built."""
    reason = python_part.why_not()
    if reason:
        report.lack({"engine native, from Python": reason})
        return
    if program is not None:
        report.answers.append(python_part.overhead(program, next(iter(report.contenders))))
    report.answers.append(python_part.two_threads([n * 1024 // plan.SECTOR for n in (*kib, 4096)]))
    answers, results, missing = python_part.peers(seconds=0.5)
    report.lack(missing)
    report.answers += answers
    print("\nfrom Python, MB/s: median (best)")
    for result in results:
        what = f"{result.contender}, {result.direction}"
        print(f"  {what:56}{result.median_mb_s:8.1f} ({result.best_mb_s:.1f})")
    report.python = [asdict(result) for result in results]


def circumstances(report: Report, load: tuple[float, ...]) -> dict[str, Any]:
    """What a reader needs to know to make sense of the figures."""
    kernels = list(report.contenders)
    sources = ("csrc", "benchmarks", "qcow2crypt")
    return {
        "benchmark": "sectors",
        "date": time.strftime("%Y-%m-%d"),
        "commit": git("rev-parse", "HEAD"),
        "changed_since_commit": bool(git("status", "--porcelain", "--", *sources)),
        "cpu": cpu(),
        "cpu_numbers": cpu_numbers(),
        "processors": os.cpu_count(),
        "load_before": [round(x, 2) for x in load],
        "system": f"{platform.system()} {platform.machine()} {platform.release()}",
        "huge_pages": huge_pages(),
        "compiler": report.compiler,
        "flags": " ".join(c_part.OPTIMIZE),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "kernels": kernels[: kernels.index("plain64")] if kernels else [],
        "versions": {name: v for name, v in report.contenders.items() if v != "-"}
        | {peer.package: version(peer.package) or "not installed" for peer in PEERS},
        "missing": report.missing,
        "clock": "processor time of the thread; for two threads the clock on the wall",
        "work": "sectors of 512 bytes, an IV for each, made beforehand; GB are 10**9 bytes",
    }


def cpu_numbers() -> str:
    """Family, model and stepping: the name of a rented processor often says little."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("\n\n")[0]
    except OSError:
        return "unknown"
    lines = (line.partition(":") for line in text.splitlines())
    found = {name.strip(): value.strip() for name, _, value in lines}
    names = ("cpu family", "model", "stepping")
    return ", ".join(f"{name} {found[name]}" for name in names if name in found)


def huge_pages() -> str:
    """Whether Linux gives large buffers large pages by itself."""
    try:
        path = Path("/sys/kernel/mm/transparent_hugepage/enabled")
        return path.read_text(encoding="utf-8").partition("[")[2].partition("]")[0]
    except OSError:
        return "unknown"


def as_text(head: dict[str, Any], lists: dict[str, list[dict[str, Any]]]) -> str:
    """JSON with a line for each item of the lists, so that two results can be compared."""
    text = json.dumps(head, indent=1).removesuffix("\n}")
    for name, items in lists.items():
        lines = ",\n".join(f"  {json.dumps(item)}" for item in items)
        text += f',\n "{name}": [\n{lines}\n ]'
    return text + "\n}\n"


def default_output(report: Report) -> Path:
    """A file for this kind of machine and its best kernel; a later run replaces it."""
    best = next(iter(report.contenders), "none")
    name = f"sectors-{platform.system()}-{platform.machine()}-{best}.json".lower()
    return ROOT / "benchmarks" / "results" / name


def command_line() -> argparse.Namespace:
    """What is to be measured, and how long."""
    parser = argparse.ArgumentParser(description="Compare the native engine with its peers.")
    parser.add_argument("--quick", action="store_true", help="64 KiB, few rounds, no file")
    parser.add_argument("--sections", nargs="+", choices=plan.SECTIONS, default=plan.SECTIONS)
    parser.add_argument("--kib", type=int, nargs="+", default=KIBIBYTES, help="runs, in KiB")
    parser.add_argument("--mib", type=int, default=256, help="the run for memory, in MiB")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="samples of everything")
    parser.add_argument("--microseconds", type=float, default=MICROSECONDS, help="for a sample")
    parser.add_argument("--output", type=Path, help="the JSON file")
    options = parser.parse_args()
    if options.quick:
        options.kib = [64]
        options.rounds = min(options.rounds, 9)
        if options.sections == plan.SECTIONS:
            options.sections = ("cbc", "aes256", "threads", "portable", "small")
    return options


def main() -> None:
    """Measure, print, and write the file."""
    options = command_line()
    load: tuple[float, ...] = os.getloadavg() if hasattr(os, "getloadavg") else ()
    report = Report()
    if load and load[0] > 1:
        print(f"the machine is busy (load {load[0]:.1f}): what the wall clock says will be too low")
    with tempfile.TemporaryDirectory(prefix="qcow2crypt-bench-") as folder:
        program = None
        try:
            program = c_part.build(Path(folder))
        except c_part.NoCompilerError as error:
            report.lack({"everything in C": str(error)})
        if program is not None:
            report.compiler = program.compiler
            report.contenders = c_part.contenders(program)
            report.lack(program.missing)
            measure_c(report, program, options)
        if "python" in options.sections:
            measure_python(report, program, options.kib)
    print(report.table())
    output = options.output or (None if options.quick else default_output(report))
    if output:
        found = {
            "rows": [answer.rounded() for answer in report.answers],
            "speeds": report.speeds,
            "python_speeds": report.python,
        }
        output.write_text(as_text(circumstances(report, load), found), encoding="utf-8")
        print(f"\nwritten to {output}")


if __name__ == "__main__":
    try:
        main()
    except c_part.BuildError as error:
        sys.exit(f"nothing was measured: {error}")
