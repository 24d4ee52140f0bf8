"""The Python part of the sector benchmark: what a call costs, and what people use without us.

The cost of a call is the time from Python less the time of the same work in C, on buffers that lie
alike: at other places the kernel itself takes another time.  The two take turns, so that both
meet the same moments of the machine.  The clock is the processor time of the
thread, but for two threads, where it is the clock on the wall.
"""

from __future__ import annotations

import mmap
import statistics
import threading
import time
from collections.abc import Callable
from functools import partial
from itertools import repeat

from benchmarks import sectors_build as c_part
from benchmarks.engines import PEERS, Contender, Result, engine_work, measure, version
from benchmarks.sectors_rows import DIRECTIONS, SECTOR, Answer, size_name
from qcow2crypt import engines
from qcow2crypt.errors import EngineUnavailableError

Call = Callable[[], object]

OVERHEAD_SECTORS = (1, 16, 128)
PEER_SECTORS = 128
TURNS = 9
SAMPLE_SECONDS = 2e-3


def why_not() -> str:
    """Why the engine ``native`` cannot be measured; "" when it can."""
    try:
        engines.get("native")
    except EngineUnavailableError as error:
        return str(error)
    return _stale()


def _stale() -> str:
    """What is built in this tree must not be older than its sources: it would be what is timed."""
    built = list((c_part.ROOT / "qcow2crypt").glob("_native.*"))
    made = [path.stat().st_mtime for path in built if path.suffix in (".so", ".pyd")]
    if made and min(made) < max(path.stat().st_mtime for path in c_part.SOURCES.iterdir()):
        return "csrc changed after it was compiled; build again: pip install --editable ."
    return ""


def own_call(direction: str, sectors: int, *, in_place: bool) -> Call:
    """A call of the engine on buffers of its own, which begin with a page, as those in C do."""
    key = engines.get("native").expand_key(bytes(range(16)))
    method = getattr(key, f"cbc_{DIRECTIONS[direction]}")
    ivs, src = bytes(16 * sectors), mmap.mmap(-1, SECTOR * sectors)
    dst = src if in_place else mmap.mmap(-1, SECTOR * sectors)
    return partial(method, ivs, src, dst)


def samples(call: Call, count: int) -> list[float]:
    """Seconds of processor time for one call, ``count`` times."""
    call()
    start = time.thread_time()
    for _ in repeat(None, 100):
        call()
    calls = max(1, round(100 * SAMPLE_SECONDS / max(time.thread_time() - start, 1e-7)))
    found = []
    for _ in range(count):
        start = time.thread_time()
        for _ in repeat(None, calls):
            call()
        found.append((time.thread_time() - start) / calls)
    return found


def overhead(program: c_part.Program, kernel: str) -> Answer:
    """Microseconds that a call from Python takes beyond the kernel."""
    answer = Answer("from Python: microseconds of a call beyond the kernel", 1.2, 0.6)
    answer.less_is_better = True
    for direction, word in DIRECTIONS.items():
        for sectors in OVERHEAD_SECTORS:
            call = own_call(direction, sectors, in_place=False)
            job = c_part.Job(kernel, direction, sectors=sectors, place="out")
            ours: list[float] = []
            in_c: list[float] = []
            for _ in range(TURNS):
                in_c += c_part.measure(program, [job], 5, 1e6 * SAMPLE_SECONDS)[job].cpu
                ours += samples(call, 5)
            label = f"{word} {sectors}"
            answer.medians[label] = 1e6 * (statistics.median(ours) - statistics.median(in_c))
            answer.bests[label] = 1e6 * (min(ours) - min(in_c))
    return answer


def two_threads(sizes: list[int]) -> Answer:
    """How much more two Python threads get done than one, each on buffers of its own."""
    answer = Answer("from Python: two threads / one, encrypt", None, None)
    answer.by_wall = True
    for sectors in sizes:
        calls = [own_call("enc", sectors, in_place=True) for _ in range(2)]
        count = max(1, (64 << 20) // (SECTOR * sectors))
        alone: list[float] = []
        together: list[float] = []
        for _ in range(TURNS):
            alone.append(_wall(calls[:1], count))
            together.append(_wall(calls, count))
        label = f"{size_name(sectors)} in"
        answer.medians[label] = 2 * statistics.median(alone) / statistics.median(together)
        answer.bests[label] = 2 * min(alone) / min(together)
    return answer


def _wall(calls: list[Call], count: int) -> float:
    """Seconds by the wall until every call was done ``count`` times, each in its own thread."""
    barrier = threading.Barrier(len(calls))
    spans: list[tuple[float, float]] = []

    def work(call: Call) -> None:
        call()
        barrier.wait()
        start = time.perf_counter()
        for _ in repeat(None, count):
            call()
        spans.append((start, time.perf_counter()))

    threads = [threading.Thread(target=work, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return max(end for _, end in spans) - min(start for start, _ in spans)


def peers(seconds: float) -> tuple[list[Answer], list[Result], dict[str, str]]:
    """Our engine against the packages, 64 KiB: rows, speeds, and what is not installed."""
    present = [Contender("native", "qcow2crypt", engine_work("native"))]
    present += [peer for peer in PEERS if version(peer.package)]
    missing = {
        peer.name: f"the package {peer.package} is not installed"
        for peer in PEERS
        if not version(peer.package)
    }
    answers, results = [], []
    for word in DIRECTIONS.values():
        found = measure(present, PEER_SECTORS, word, seconds)
        results += found
        ours, *others = found
        for other in others:
            answer = Answer(f"from Python: {word} / {other.contender}", None, None)
            label = f"{size_name(PEER_SECTORS)} out"
            answer.medians[label] = ours.median_mb_s / other.median_mb_s
            answer.bests[label] = ours.best_mb_s / other.best_mb_s
            answers.append(answer)
    return answers, results, missing
