"""Put the figures of convert.py and convert_more.py into documents, and draw their picture.

    python -m benchmarks.convert_document        needs matplotlib: pip install 'qcow2crypt[bench]'

What stands between the two marks in docs/conversion.md and README.md is replaced; no figure there
is written by hand, and tests/house holds both against the results.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
DOCUMENT = ROOT / "docs" / "conversion.md"
README = ROOT / "README.md"
PICTURE = ROOT / "docs" / "conversion.svg"
BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"
MAIN, MORE = "convert-linux-x86_64.json", "convert_more-linux-x86_64.json"
OTHERS = tuple(f"convert-linux-x86_64{end}.json" for end in ("-4096", "-disk", "-disk-4096"))
"""Other sizes and places, where they were measured."""
OURS, DEFAULT, FAST, COPY = "qcow2crypt -m2", "qemu-img", "qemu-img -m16 -W", "cp"
THERE, BACK = "raw to AES", "AES to raw"
Row = dict[str, Any]


class Who(NamedTuple):
    """Who is compared, and what they have in common."""

    what: str
    ours: str = OURS
    default: str = DEFAULT
    fast: str = FAST
    copy: str = COPY


IN_MEMORY = Who("")
ON_DISK = (
    Who(
        "All synced: ours as it is, the others with `-t writeback`, and `cp` followed by `sync`.",
        OURS,
        "qemu-img -t writeback",
        "qemu-img -m16 -W -t writeback",
        "cp, sync",
    ),
    Who("None synced: ours with `-t unsafe`, the others as they are.", f"{OURS} -t unsafe"),
)


def seconds(rows: list[Row], who: str, **wanted: object) -> float | None:
    """The median of ``who`` for one piece of work."""
    for row in rows:
        if row["who"] == who and all(row[key] == value for key, value in wanted.items()):
            return float(row["median"])
    return None


def times(peer: float | None, ours: float | None) -> str:
    """How many times faster than a peer."""
    return f"{peer / ours:.1f}x" if peer and ours else "-"


def main_table(result: dict[str, Any], name: str) -> list[str]:
    """One line for each kind of work and size of cluster.  ``name`` is the file of the result."""
    machine = f"{result['cpu']}, two threads, {result['qemu-img']}"
    rounds = f"medians of {result['rounds']} rounds"
    lines = [
        f"{result['mib']} MiB of random data, {result['folder']}, {rounds}; {machine}.",
        f"[The whole result](../benchmarks/results/{name}).",
    ]
    for who in (IN_MEMORY,) if result["folder"] == "tmpfs" else ON_DISK:
        lines += ["", who.what] if who.what else []
        lines += [
            "",
            "| | clusters | seconds | speed of qemu-img | with `-m 16 -W` | time of cp |",
            "| --- | --- | --- | --- | --- | --- |",
            *table_lines(result["figures"], who),
        ]
    return lines


def table_lines(rows: list[Row], who: Who) -> list[str]:
    """The lines of one table; after those of a size of cluster, there and back together."""
    lines = []
    for size in dict.fromkeys(row["cluster_size"] for row in rows if row["who"] == who.ours):
        copy = seconds(rows, who.copy, cluster_size=size)
        for works in ((THERE,), (BACK,), ("AES to AES",), (THERE, BACK)):
            ours, default, fast = (
                together(rows, one, works, size) for one in (who.ours, who.default, who.fast)
            )
            cells = [
                ", and back" if len(works) > 1 else "",
                str(size),
                "-" if ours is None else f"{ours:.2f}",
                times(default, ours),
                times(fast, ours),
                times(ours, copy and copy * len(works)),
            ]
            lines.append(f"| {works[0]}" + " | ".join(cells) + " |")
    return lines


def together(rows: list[Row], who: str, works: tuple[str, ...], size: int) -> float | None:
    """The medians of ``who`` for several works, one after the other."""
    found = [seconds(rows, who, work=work, cluster_size=size) for work in works]
    return None if None in found else sum(one for one in found if one is not None)


def readme_text(result: dict[str, Any]) -> str:
    """What the README says: the same for clusters of 64 KiB, in few words."""
    rows = [row for row in result["figures"] if row["cluster_size"] == 65536]
    copy = seconds(rows, COPY)
    lines = [
        "| | seconds | times the speed of qemu-img | times the time of cp |",
        "| --- | --- | --- | --- |",
    ]
    for row in rows:
        if row["who"] == OURS:
            ours, theirs = row["median"], seconds(rows, DEFAULT, work=row["work"])
            cells = f"{ours:.2f} | {times(theirs, ours)} | {times(ours, copy)}"
            lines.append(f"| {row['work']} | {cells} |")
    return "\n".join(lines)


def more_table(result: dict[str, Any]) -> list[str]:
    """Sparse and compressed sources, and the library."""
    lines = ["", "| | | seconds | memory, MiB |", "| --- | --- | --- | --- |"]
    for section in ("sparse", "compressed", "library"):
        for row in result.get(section, []):
            memory = f"{row['memory_mib']:.0f}" if "memory_mib" in row else ""
            lines.append(f"| {row['work']} | {row['who']} | {row['median_s']:.2f} | {memory} |")
    return [*lines, "", f"[The whole result](../benchmarks/results/{MORE})."]


def draw(rows: list[Row]) -> None:
    """Time above, memory below: by size, by clusters, by threads."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "qcow2crypt"  # the same file from the same figures
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(2, 3, figsize=(12, 7.5), constrained_layout=True)
    for line, what, unit in zip(
        panels, ("median_s", "memory_mib"), ("seconds", "MiB of memory"), strict=True
    ):
        draw_line(line, rows, what)
        for panel, label in zip(line, ("MiB, clusters of 64 KiB", "bytes", "threads"), strict=True):
            panel.set(xlabel=label, ylabel=unit)
            panel.grid(visible=True, alpha=0.3)
    titles = ("by size (16 GiB: 2 GiB of data)", "256 MiB by cluster size", "256 MiB by threads")
    for panel, title in zip(panels[0], titles, strict=True):
        panel.set_title(title)
    panels[0][0].legend(fontsize="x-small")
    panels[0][2].legend(fontsize="x-small")
    figure.savefig(PICTURE, metadata={"Date": None})


def draw_line(line: Any, rows: list[Row], what: str) -> None:  # noqa: ANN401 - axes
    """Three panels of one figure of each row."""
    for who, work in (
        *((who, work) for who in (OURS, DEFAULT) for work in ("raw to AES", "AES to raw")),
        (COPY, "raw to AES"),
    ):
        name = who if who == COPY else f"{who}, {work}"
        mine = [row for row in rows if row["who"] == who and row["work"] == work]
        style = {"marker": "o", "linestyle": "-" if work == "raw to AES" else "--"}
        for panel, key, fixed in (
            (line[0], "mib", ("cluster_size", 65536)),
            (line[1], "cluster_size", ("mib", 256)),
        ):
            points = {row[key]: row[what] for row in mine if row[fixed[0]] == fixed[1]}
            panel.plot(sorted(points), [points[x] for x in sorted(points)], label=name, **style)
    for who, end in (("qcow2crypt", ""), ("qemu-img", " -W")):
        found = {n: threads(rows, f"{who} -m{n}{end}", what) for n in (1, 2, 3, 4)}
        points = {n: one for n, one in found.items() if one is not None}
        line[2].plot(list(points), list(points.values()), marker="o", label=f"{who} -mN{end}")
    line[2].set_xticks([1, 2, 3, 4])
    line[2].set_ylim(bottom=0)
    for panel in line[:2]:
        panel.set_xscale("log", base=2)
        if what == "median_s":
            panel.set_yscale("log")
        else:
            panel.set_ylim(bottom=0)


def threads(rows: list[Row], who: str, what: str) -> float | None:
    """The latest figure of ``who`` for 256 MiB, raw to AES, in clusters of 64 KiB."""
    found = [
        float(row[what])
        for row in rows
        if (row["who"], row["mib"], row["cluster_size"]) == (who, 256, 65536)
        and row["work"] == "raw to AES"
    ]
    return found[-1] if found else None


def text(main: dict[str, Any], more: dict[str, Any]) -> str:
    """What stands between the marks."""
    lines = main_table(main, MAIN)
    for name in OTHERS:
        if (RESULTS / name).exists():
            lines += ["", *main_table(json.loads((RESULTS / name).read_text()), name)]
    return "\n".join([*lines, *more_table(more)])


def main() -> None:
    """Replace what stands between the marks, and the picture."""
    try:
        first, second = (json.loads((RESULTS / name).read_text()) for name in (MAIN, MORE))
    except OSError as error:
        sys.exit(f"{error.filename}: {error.strerror}; convert.py and convert_more.py write them")
    for document, words in ((DOCUMENT, text(first, second)), (README, readme_text(first))):
        before, _, rest = document.read_text(encoding="utf-8").partition(BEGIN)
        _, _, after = rest.partition(END)
        document.write_text(f"{before}{BEGIN}\n\n{words}\n\n{END}{after}", encoding="utf-8")
    draw(second["growth"])
    print(f"{DOCUMENT}, {README} and {PICTURE}")


if __name__ == "__main__":
    main()
