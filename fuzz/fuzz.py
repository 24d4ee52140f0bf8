"""Coverage-guided fuzzing of the parsers and of the C boundary, starting from the corpus.

    python fuzz/fuzz.py images -max_total_time=60
    python fuzz/fuzz.py compressed -max_total_time=60
    python fuzz/fuzz.py engines -max_total_time=60
    python fuzz/fuzz.py images FILE            # one input again

Needs atheris (``pip install atheris``); the options are those of libFuzzer.  Inputs that brought
something new are kept in ``build/fuzz/TARGET``, and one that shows a fault as ``crash-…`` there.
docs/fuzzing.md has a record of runs.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import pkgutil
import sys
from pathlib import Path

import atheris

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

with atheris.instrument_imports(include=["qcow2crypt"]):
    from support.hostile import exercise, exercise_check, exercise_writing

    import qcow2crypt
    import qcow2crypt.crypt
    import qcow2crypt.image
    import qcow2crypt.tasks
    from qcow2crypt import engines
    from qcow2crypt.errors import Qcow2CryptError
    from qcow2crypt.testing import corpus
    from qcow2crypt.testing.damage import rows_compressed
    from qcow2crypt.testing.damage.tiny import put_fields

    # What the package imports when it needs it has to be imported here to be watched.
    for package in (qcow2crypt.image, engines, qcow2crypt.crypt, qcow2crypt.tasks):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)

LARGEST_SEED = 5 << 10
LARGEST_STREAM = 512
LENGTHS = (0, 1, 3, 4, 5, 16, 17, 48, 49, 64)


def images(data: bytes) -> None:
    """Describe, read, check, repair and change an image file: only our own errors come out."""
    exercise(data)
    exercise_check(data)
    if data[-1:] < b"\x20":  # it takes the longest
        exercise_writing(data)


def compressed(data: bytes) -> None:
    """A compressed cluster of any bytes, deflate and zstd: one cluster or CompressedDataError."""
    if not data:
        return
    image = rows_compressed.stored(data[:LARGEST_STREAM])
    for content in (image, put_fields(image, {"incompatible_features": 8, "compression_type": 1})):
        with qcow2crypt.open(io.BytesIO(content), format="qcow2") as disk:
            with contextlib.suppress(Qcow2CryptError):
                assert len(disk.pread(512, 0)) == 512  # noqa: S101 - what it is run for
            disk.pread(512, 512)


def make_engines() -> list[engines.Engine]:
    """The engines to hold against each other: all that work here but the slow textbook."""
    kernels = [f"native:{kernel.name}" for kernel in engines.status().kernels if kernel.available]
    return [engines.get(name) for name in (*engines.available(), *kernels) if name != "reference"]


ENGINES = make_engines()


def run_engines(data: bytes) -> None:
    """Arguments of any lengths: all engines give the same bytes, or all refuse."""
    take = atheris.FuzzedDataProvider(data)
    sector_size = take.PickValueInList([16, 32, 48, 512, 528, 4096, 0, 15, 17])
    count = take.PickValueInList(list(LENGTHS))
    key = take.ConsumeBytes(take.PickValueInList([16, 24, 32, 0, 15, 33]))
    encrypting = take.ConsumeBool()
    extra = [take.ConsumeIntInRange(-1, 1) if take.ConsumeBool() else 0 for _ in range(3)]
    # In place or not, and at any place in memory.
    shift, apart = take.ConsumeIntInRange(0, 17), take.ConsumeIntInRange(0, 40)
    filling = take.ConsumeBytes(take.remaining_bytes()) or b"\0"
    whole = count * sector_size
    lengths = (count * 16 + extra[0], whole + extra[1], whole + extra[2])
    ivs, plain, room = (max(0, length) for length in lengths)
    outcomes = set()
    for engine in ENGINES:
        buffer = bytearray(filling * (1 + (ivs + plain + room + 99) // len(filling)))
        view = memoryview(buffer)
        source = view[shift : shift + plain]
        start = shift if apart == 0 else shift + plain + apart
        target = view[start : start + room]
        iv = bytes(buffer[-ivs:]) if ivs else b""
        try:
            expanded = engine.expand_key(key)
            work = expanded.cbc_encrypt if encrypting else expanded.cbc_decrypt
            work(iv, source, target, sector_size)
            outcomes.add(bytes(buffer))
        except Qcow2CryptError as error:
            outcomes.add(type(error).__name__.encode())
    assert len(outcomes) == 1, f"engines differ: {[engine.name for engine in ENGINES]}"  # noqa: S101


TARGETS = {"images": images, "compressed": compressed, "engines": run_engines}


def seeds(folder: Path, target: str) -> None:
    """The images of the corpus, and the data of compressed clusters, as first inputs."""
    folder.mkdir(parents=True, exist_ok=True)
    if target == "images":
        for entry in corpus.entries(ROOT / "corpus"):
            if entry.alone and entry.files[0].size <= LARGEST_SEED and entry.group != "hostile":
                (folder / f"seed-{entry.group}-{entry.name}").write_bytes(entry.data)
    elif target == "compressed":
        for number, row in enumerate(rows_compressed.ROWS):
            tail = row.data[rows_compressed.END :]
            if 0 < len(tail) <= LARGEST_STREAM:
                (folder / f"seed-{number}").write_bytes(tail)


def main(words: list[str]) -> None:
    """The command line."""
    if not words or words[0] not in TARGETS:
        sys.exit(f"fuzz.py TARGET [OPTIONS OF libFuzzer]; the targets are {', '.join(TARGETS)}")
    target, *rest = words
    home = ROOT / "build" / "fuzz" / target
    if not any(Path(word).is_file() for word in rest):
        seeds(home, target)
        rest = [*rest, str(home)]
    atheris.Setup([sys.argv[0], f"-artifact_prefix={home}/", *rest], TARGETS[target])
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
