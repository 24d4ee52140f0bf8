"""How the sound images of the corpus are made: command lines of qemu-img and qemu-io, by name.

Knows their words and the sizes that keep images small.  Runs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

_YES = True
SECRET = b"correct horse battery"  # 21 bytes: only 16 of them count
SECOND = b"below"

PASSPHRASES = {
    "empty": b"",
    "15-bytes": b"0123456789abcde",
    "16-bytes": b"0123456789abcdef",
    "17-bytes": b"0123456789abcdefg",
    "newline": b"hunter2\n",
    "not-ascii": "pässwörd €".encode(),
    "cut-in-a-character": "0123456789abcdeé".encode(),
}


@dataclass(frozen=True, slots=True)
class Recipe:
    """One image: its files, the image first, and the commands that make them.

    The commands run in a folder that holds ``disk``, the guest data, and a file ``sN`` with the
    passphrase of the layer at depth N.
    """

    name: str
    about: str
    commands: tuple[str, ...]
    features: frozenset[str]
    files: tuple[str, ...] = ("image.qcow2",)
    format: str = "qcow2"
    secrets: Mapping[int, bytes] = field(default_factory=dict)


def disk(sectors: int = 8192) -> bytes:
    """The guest data: each sector repeats 16 bytes of its own, so that plain images pack small."""
    return b"".join(
        (number.to_bytes(8, "little") + (number * 0x9E3779B97F4A7C15 % 2**64).to_bytes(8, "little"))
        * 32
        for number in range(1, sectors + 1)
    )


def create(
    options: str,
    size: str,
    *,
    name: str = "image.qcow2",
    driver: str = "qcow2",
    key: int | None = 0,
) -> str:
    """``qemu-img create``; with a ``key`` the image is encrypted with that of this depth."""
    secret = "" if key is None else f"--object secret,id=s{key},file=s{key} "
    if key is not None:
        options += f"{options and ','}encrypt.format=aes,encrypt.key-secret=s{key}"
    words = f"-o {options} " if options else ""
    return f"qemu-img create -q {secret}-f {driver} {words}{name} {size}"


def write(
    *commands: str,
    name: str = "image.qcow2",
    driver: str = "qcow2",
    key: int | None = 0,
    more: str = "",
) -> str:
    """``qemu-io``; ``more`` goes into the option string."""
    secret = "" if key is None else f"--object secret,id=s{key},file=s{key} "
    opened = "" if key is None else f",encrypt.key-secret=s{key}"
    script = " ".join(f"-c '{command}'" for command in commands)
    return (
        f"qemu-io {secret}{script} --image-opts driver={driver}{opened}{more},file.filename={name}"
    )


def change(command: str, words: str, *, key: int | None) -> str:
    """Another command of qemu-img, with the image at its end."""
    secret = "" if key is None else f"--object secret,id=s{key},file=s{key} "
    opened = "" if key is None else f",encrypt.key-secret=s{key}"
    options = f"driver=qcow2{opened},file.filename=image.qcow2"
    return f"qemu-img {command} {secret}{words.replace('IMAGE', options)}"


SPREAD = ("write -q -s disk 0 1024", "write -q -s disk 3584 1536", "write -q -P 7 16896 512")
MIXED = (*SPREAD, "write -q -z 0 512", "write -q -P 9 20480 4096", "discard -q 20480 2048")


def _key(aes: bool) -> int | None:
    return 0 if aes else None


def _crypt(aes: bool) -> dict[int, bytes]:
    return {0: SECRET} if aes else {}


def _words(aes: bool, *more: str) -> frozenset[str]:
    return frozenset(("aes",) if aes else ("plain",)) | frozenset(more)


def geometries() -> Iterator[Recipe]:
    """Every version, and cluster sizes whose encrypted clusters stay small."""
    for aes in (False, True):
        kind = "aes" if aes else "plain"
        for bits in (9, 10, 12, 14, 16) if aes else range(9, 22):
            for version in (2, 3):
                if aes and bits == 16 and version == 2:
                    continue  # what one more encrypted cluster of 64 KiB would say is said
                compat = {2: "0.10", 3: "1.1"}[version]
                writes = SPREAD if bits < 14 or not aes else ("write -q -s disk 512 1024",)
                yield Recipe(
                    f"{kind}-c{1 << bits}-v{version}",
                    f"clusters of {1 << bits} bytes, version {version}: some sectors are written",
                    (
                        create(f"compat={compat},cluster_size={1 << bits}", "3M", key=_key(aes)),
                        write(*writes, key=_key(aes)),
                    ),
                    _words(aes, f"version-{version}"),
                    secrets=_crypt(aes),
                )


def refcounts() -> Iterator[Recipe]:
    """Every width of a refcount, with a snapshot where the width allows one."""
    for bits in (1, 2, 4, 8, 32, 64):
        for aes in (False, True):
            take = change("snapshot", "-c one --image-opts IMAGE", key=_key(aes))
            snapshot = (take,) if bits > 1 else ()
            yield Recipe(
                f"{'aes' if aes else 'plain'}-refcount-{bits}",
                f"refcounts of {bits} bits{', one snapshot' if snapshot else ''}",
                (
                    create(f"cluster_size=512,refcount_bits={bits}", "1M", key=_key(aes)),
                    write(*SPREAD, key=_key(aes)),
                    *snapshot,
                    write("write -q -P 3 512 1024", key=_key(aes)),
                ),
                _words(aes, "version-3", "refcount-width", *(["snapshots"] if snapshot else [])),
                secrets=_crypt(aes),
            )


_PACKED = (
    "write -q -c -P 65 0 4096",
    "write -q -c -s disk 8192 4096",
    "write -q -P 9 16384 600",
)


def contents() -> Iterator[Recipe]:
    """What clusters can be: zero, discarded, compressed, preallocated; subclusters; many tables."""
    cases: dict[str, tuple[str, str, tuple[str, ...], str]] = {
        "zeros": ("cluster_size=4096", "1M", (*MIXED, "write -q -z -u 0 8192"), "zero-clusters"),
        "zeros-allocated": ("cluster_size=512", "64k", ("write -q -P 1 0 2048",
                            "write -q -z 512 1024"), "zero-clusters"),
        "compressed": ("cluster_size=4096", "1M", _PACKED, "compressed"),
        "compressed-rewritten": ("cluster_size=4096", "1M", ("write -q -c -P 65 0 4096",
            "write -q -c -P 66 4096 4096", "write -q -P 9 512 600"), "compressed"),
        "compressed-last": ("cluster_size=4096", "9k", (
            "write -q -c -P 65 8192 1024",), "compressed"),
        "zstd": ("cluster_size=4096,compression_type=zstd", "1M", _PACKED, "zstd"),
        "preallocated": ("cluster_size=512,preallocation=metadata", "16k",
                         ("write -q -s disk 1024 2048",), "preallocated"),
        "lazy": ("cluster_size=512,lazy_refcounts=on", "64k", SPREAD, "lazy-refcounts"),
        "subclusters": ("cluster_size=16k,extended_l2=on", "1M", ("write -q -s disk 512 1024",
                        "write -q -z -u 4096 2048", "write -q -P 4 40960 512"), "subclusters"),
        "subclusters-discarded": ("cluster_size=16k,extended_l2=on", "256k", (
            "write -q -s disk 0 16k", "discard -q 2048 4096",
            "write -q -z 9216 512"), "subclusters"),
        "subclusters-compressed": ("cluster_size=16k,extended_l2=on", "256k", (
            "write -q -c -P 5 0 16k", "write -q -P 6 20k 1k"), "subclusters"),
        "many-tables": ("cluster_size=512", "3M", tuple(
            f"write -q -P {n + 1} {n * 150016} 512" for n in range(20)), "many-tables"),
        "far": ("cluster_size=512", "32M", ("write -q -P 1 0 512", "write -q -P 2 33553920 512"),
                "large-disk"),
        "odd-size": ("cluster_size=4096", "9728", ("write -q -s disk 0 9728",), "odd-size"),
        "one-sector": ("cluster_size=512", "512", ("write -q -s disk 0 512",), "odd-size"),
        "empty-disk": ("cluster_size=512", "0", (), "odd-size"),
        "nothing-written": ("cluster_size=512", "1M", (), "odd-size"),
    }  # fmt: skip
    for name, (options, size, commands, word) in cases.items():
        for aes in (False, True):
            words = {word, "version-3"} | ({"compressed"} if word == "zstd" else set())
            yield Recipe(
                f"{'aes' if aes else 'plain'}-{name}",
                f"{name.replace('-', ' ')}",
                (
                    create(options, size, key=_key(aes)),
                    *([write(*commands, key=_key(aes))] if commands else []),
                ),
                _words(aes, *words),
                secrets=_crypt(aes),
            )


def passphrases() -> Iterator[Recipe]:
    """Every kind of passphrase: what QEMU makes its key of."""
    for name, secret in PASSPHRASES.items():
        yield Recipe(
            f"passphrase-{name}",
            f"the passphrase is: {name.replace('-', ' ')}",
            (create("cluster_size=512", "16k"), write("write -q -s disk 0 1024")),
            _words(_YES, "version-3", "passphrase"),
            secrets={0: secret},
        )


def snapshots() -> Iterator[Recipe]:
    """Snapshots: made, written over, applied, deleted; of a disk that changes its size."""
    for aes in (False, True):
        take, apply_, drop, take_two = (
            change("snapshot", f"{words} --image-opts IMAGE", key=_key(aes))
            for words in ("-c one", "-a one", "-d one", "-c two")
        )
        again = write("write -q -P 3 512 4096", "write -q -P 5 30k 1k", key=_key(aes))
        cases = {
            "snapshot": (take, again),
            "snapshot-applied": (take, again, apply_),
            "snapshot-deleted": (take, again, drop),
            "snapshots-two": (take, again, take_two, again),
            "snapshot-resized": (
                take,
                write("truncate 96k", "write -q -P 8 90k 1k", key=_key(aes)),
            ),
        }
        for name, commands in cases.items():
            for version in (2, 3):
                if version == 2 and name == "snapshot-resized":
                    continue  # QEMU refuses it
                compat = {2: "0.10", 3: "1.1"}[version]
                yield Recipe(
                    f"{'aes' if aes else 'plain'}-{name}-v{version}",
                    name.replace("-", " "),
                    (
                        create(f"cluster_size=512,compat={compat}", "64k", key=_key(aes)),
                        write(*SPREAD, key=_key(aes)),
                        *commands,
                    ),
                    _words(aes, f"version-{version}", "snapshots"),
                    secrets=_crypt(aes),
                )


def bitmaps() -> Iterator[Recipe]:
    """Dirty bitmaps, which have no say in what the disk holds."""
    for aes in (False, True):
        yield Recipe(
            f"{'aes' if aes else 'plain'}-bitmap",
            "a dirty bitmap, and writes that it saw",
            (
                create("cluster_size=4096", "256k", key=_key(aes)),
                change("bitmap", "--add -g 512 --image-opts IMAGE b0", key=_key(aes)),
                write(*SPREAD, key=_key(aes)),
            ),
            _words(aes, "version-3", "bitmaps"),
            secrets=_crypt(aes),
        )


def chains() -> Iterator[Recipe]:
    """Backing files of all formats, shorter and longer than the overlay; data files."""
    fill = "write -q -s disk 0 4096"
    under: dict[str, tuple[tuple[str, ...], str, int | None]] = {
        "raw": (
            ("qemu-img dd -f raw -O raw if=disk of=base.raw bs=512 count=40",),
            "base.raw",
            None,
        )
    }
    for kind, key in (("qcow2", None), ("aes", 1)):
        made = create("cluster_size=512", "20k", name="base.qcow2", key=key)
        filled = write(fill, name="base.qcow2", key=key)
        under[kind] = ((made, filled), "base.qcow2", key)
    for below, (commands, base, key) in under.items():
        for aes in (False, True):
            for size in ("16k", "64k"):
                driver = "raw" if below == "raw" else "qcow2"
                options = f"cluster_size=512,backing_file={base},backing_fmt={driver}"
                secret = "" if key is None else "--object secret,id=s1,file=s1 "
                opened = (
                    "" if key is None else ",backing.encrypt.key-secret=s1,backing.driver=qcow2"
                )
                opened += f",backing.file.filename={base}" if key is not None else ""
                changed = write("write -q -P 3 1024 700", "write -q -z 4096 1024", key=_key(aes),
                               more=opened)  # fmt: skip
                yield Recipe(
                    f"{'aes' if aes else 'plain'}-over-{below}-{size}",
                    f"an overlay of {size}; under it 20k, {below}",
                    (
                        *commands,
                        create(options, size, key=_key(aes)).replace("create -q", "create -q -u"),
                        changed.replace("qemu-io ", f"qemu-io {secret}"),
                    ),
                    _words(aes, "version-3", "backing-file"),
                    files=("image.qcow2", base),
                    secrets=_crypt(aes) | ({1: SECOND} if key is not None else {}),
                )
    for aes in (False, True):
        yield Recipe(
            f"{'aes' if aes else 'plain'}-data-file",
            "the guest data lies in a file of its own",
            (
                create("cluster_size=512,data_file=data.raw", "16k", key=_key(aes)),
                write(*SPREAD[:2], key=_key(aes)),
            ),
            _words(aes, "version-3", "data-file"),
            files=("image.qcow2", "data.raw"),
            secrets=_crypt(aes),
        )


def first_version() -> Iterator[Recipe]:
    """Qcow version 1."""
    for aes in (False, True):
        for name, size, commands in (
            ("written", "64k", ("write -q -s disk 0 5000", "write -q -P 7 30k 512")),
            ("compressed", "64k", ("write -q -c -P 65 0 4096", "write -q -P 7 30k 512")),
            ("odd-size", "9728", ("write -q -s disk 0 9728",)),
        ):
            yield Recipe(
                f"{'aes' if aes else 'plain'}-qcow1-{name}",
                f"qcow version 1, {name.replace('-', ' ')}",
                (
                    create("", size, name="image.qcow", driver="qcow", key=_key(aes)),
                    write(*commands, name="image.qcow", driver="qcow", key=_key(aes)),
                ),
                _words(aes, "version-1", *([name] if name != "written" else [])),
                files=("image.qcow",),
                format="qcow",
                secrets=_crypt(aes),
            )


def recipes() -> tuple[Recipe, ...]:
    """All of them."""
    return (
        *(*geometries(), *refcounts(), *contents(), *passphrases(), *snapshots()),
        *(*bitmaps(), *chains(), *first_version()),
    )
