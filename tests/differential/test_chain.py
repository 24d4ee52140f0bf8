"""Chains of backing files, read by both programs: the same disk, the same map, the same info.

Random chains of raw, qcow2 and qcow version 1, plain and AES with a passphrase for each layer,
bases shorter and longer than what lies on them, formats of backing files stored or not.
"""

from __future__ import annotations

import json
import os
import random
from dataclasses import dataclass
from pathlib import Path

import golden
import pytest
from support.chains import fill, overlay
from support.differential import Case, NewCase, without_holes

import qcow2crypt

K = 1024
SEEDS = range(int(os.environ.get("QCOW2CRYPT_CHAINS", "40")))


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of a chain, the lowest first."""

    number: int
    driver: str
    size: int
    encrypted: bool
    cluster_size: int = 65536
    version: int = 3
    extended: bool = False
    format_stored: bool = True

    @property
    def name(self) -> str:
        return f"layer{self.number}"

    @property
    def secret(self) -> str:
        return f"secret,id=s{self.number},data=pass-{self.number}"


def random_chain(chance: random.Random) -> list[Layer]:
    layers = []
    for number in range(chance.randint(2, 5)):
        driver = chance.choice(["raw", "qcow2", "qcow"] if not number else ["qcow2"] * 4 + ["qcow"])
        size = chance.choice([64, 200, 300, 512, 777]) * K + chance.choice([0, 0, 512, 1536])
        cluster_size = chance.choice([512, 4096, 65536])
        version = chance.choice([2, 3, 3])
        layers.append(
            Layer(
                number,
                driver,
                size,
                encrypted=driver != "raw" and chance.random() < 0.5,
                cluster_size=cluster_size,
                version=version,
                extended=version == 3 and cluster_size == 65536 and chance.random() < 0.3,
                format_stored=chance.random() < 0.7,
            )
        )
    return layers


def image_options(layers: list[Layer]) -> str:
    """--image-opts for the last of ``layers``, with the secrets of all."""
    top = layers[-1]
    words = [f"driver={top.driver}", f"file.filename={top.name}"]
    prefix = ""
    for layer in reversed(layers):
        if layer.encrypted:
            words.append(f"{prefix}encrypt.key-secret=s{layer.number}")
        prefix += "backing."
    return ",".join(words)


def secret_words(layers: list[Layer]) -> list[str]:
    return [word for layer in layers if layer.encrypted for word in ("--object", layer.secret)]


def create(case: Case, layers: list[Layer]) -> None:
    """Make the last of ``layers`` over the one below it."""
    layer, below = layers[-1], layers[-2] if len(layers) > 1 else None
    words = ["create", "-q", "-f", layer.driver, *secret_words([layer])]
    if layer.driver == "qcow2":
        words += ["-o", f"cluster_size={layer.cluster_size},compat=v{layer.version}"]
        words += ["-o", "extended_l2=on"] if layer.extended else []
    if layer.encrypted:
        words += ["-o", f"encrypt.format=aes,encrypt.key-secret=s{layer.number}"]
    if below is not None:
        words += ["-u", "-b", below.name, "-F", below.driver]
    case.theirs(*words, layer.name, str(layer.size))
    if below is not None and not layer.format_stored:
        path = case.folder / layer.name
        data = path.read_bytes()
        path.write_bytes(data.replace(bytes.fromhex("e2792aca"), b"none", 1))


def write(case: Case, layers: list[Layer], chance: random.Random) -> None:
    """Some requests through qemu-io to the last of ``layers``."""
    layer = layers[-1]
    script = []
    for _ in range(chance.randint(0, 8)):
        start = chance.randrange(layer.size // 512) * 512
        length = min(layer.size - start, chance.choice([512, 4096, 10 * K, 70 * K, 200 * K]))
        kinds = ["write"] * 4 + (["write -z", "write -z -u"] if layer.driver == "qcow2" else [])
        if layer.driver == "qcow2" and not layer.encrypted and chance.random() < 0.2:
            start -= start % layer.cluster_size
            length = min(layer.cluster_size, layer.size - start)
            kinds = ["write -c"]
        kind = chance.choice(kinds)
        pattern = "" if "-z" in kind else f" -P {chance.randint(0, 255)}"
        script += ["-c", f"{kind} -q{pattern} {start} {length}"]
    if script:
        words = [*secret_words(layers), "--image-opts", *script, image_options(layers)]
        case.commands.append(f"qemu-io {' '.join(words)}")
        done = case.qemu.run_io(*words)
        assert done.returncode == 0 or "-c" in " ".join(script), done.stderr


@pytest.mark.parametrize("writer", ["ours", "theirs"])
@pytest.mark.parametrize("second", ["pass-0", "pass-1"])
@pytest.mark.parametrize("cluster_size", [4096, 65536])
def test_e2_a_part_of_a_cluster_over_an_encrypted_base(
    new_case: NewCase,
    cluster_size: int,
    second: str,
    writer: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Copy on write takes the base's data with the base's key and stores it with its own."""
    layers = [
        Layer(0, "qcow2", 512 * K, encrypted=True, cluster_size=cluster_size),
        Layer(1, "qcow2", 512 * K, encrypted=True, cluster_size=cluster_size),
    ]
    secrets = ["--object", "secret,id=s0,data=pass-0", "--object", f"secret,id=s1,data={second}"]
    with new_case() as case:
        monkeypatch.chdir(case.folder)
        for count in (1, 2):
            top = layers[count - 1]
            words = ["create", "-q", "-f", "qcow2", *secrets, "-o", f"cluster_size={cluster_size}"]
            words += ["-o", f"encrypt.format=aes,encrypt.key-secret=s{top.number}"]
            words += ["-u", "-b", "layer0", "-F", "qcow2"] if count == 2 else []
            case.theirs(*words, top.name, str(top.size))
        named = ["--image-opts", image_options(layers)]
        base = ["--image-opts", image_options(layers[:1])]
        assert not case.qemu.run_io(*secrets, *base, "-c", "write -P 0xa 0 512k").returncode
        if writer == "theirs":
            assert not case.qemu.run_io(*secrets, *named, "-c", "write -P 0xe 0 1024").returncode
        else:
            with qcow2crypt.open("layer1", second, "r+", secrets={"layer0": "pass-0"}) as image:
                image.pwrite(b"\x0e" * 1024, 0)
        done = case.qemu.run_io(
            *secrets, "-r", *named, "-c", "read -P 0xe 0 1024", "-c", "read -P 0xa 1024 64512"
        )
        assert "Pattern verification failed" not in done.stdout
        assert done.stdout.count("read ") == 2
        with qcow2crypt.open("layer1", second, secrets={1: "pass-0"}) as image:
            assert image.readall() == (b"\x0e" * 1024).ljust(512 * K, b"\x0a")


def plain_map(text: str) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = json.loads(text)
    for row in rows:
        row.pop("compressed", None)
    return rows


@pytest.mark.parametrize("seed", SEEDS)
def test_random_chains(new_case: NewCase, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(seed)
    layers = random_chain(chance)
    with new_case() as case:
        monkeypatch.chdir(case.folder)
        for count in range(1, len(layers) + 1):
            create(case, layers[:count])
            write(case, layers[:count], chance)
        for layer in layers:
            if layer.driver != "raw":
                without_holes(Path(layer.name))
        named = [*secret_words(layers), "--image-opts", image_options(layers)]
        for program, target in ((case.theirs, "theirs"), (case.ours, "ours")):
            program("convert", "-O", "raw", *named, target)
        case.same_guest(Path("ours").read_bytes(), Path("theirs").read_bytes(), "our disk")
        maps = [
            plain_map(program("map", "--output=json", *named).stdout)
            for program in (case.theirs, case.ours)
        ]
        assert maps[1] == maps[0]
        if not any(layer.encrypted for layer in layers):
            people = case.theirs("map", *named, check=False)
            if people.status == 0:
                assert case.ours("map", *named).stdout == people.stdout
        same_chain(case, layers[-1])


def same_chain(case: Case, top: Layer) -> None:
    words = ["info", "--backing-chain", "--output=json", "-f", top.driver, top.name]
    theirs, ours = (json.loads(run(*words).stdout) for run in (case.theirs, case.ours))
    assert len(ours) == len(theirs)
    for one, other in zip(theirs, ours, strict=True):
        assert golden.info_differences(one, other) == {}


def test_the_secrets_of_the_layers_in_our_own_words(
    new_case: NewCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What QEMU made, opened with files and by name and depth."""
    layers = [
        Layer(0, "qcow", 300 * K, encrypted=True),
        Layer(1, "qcow2", 400 * K, encrypted=True),
        Layer(2, "qcow2", 512 * K, encrypted=False),
        Layer(3, "qcow2", 512 * K, encrypted=True),
    ]
    chance = random.Random(7)
    with new_case() as case:
        monkeypatch.chdir(case.folder)
        for count in range(1, len(layers) + 1):
            create(case, layers[:count])
            write(case, layers[:count], chance)
            Path(f"key{count - 1}").write_text(f"pass-{count - 1}")
        named = [*secret_words(layers), "--image-opts", image_options(layers)]
        case.theirs("convert", "-O", "raw", *named, "theirs")
        for below in (["3=key0", "2=key1"], ["layer0=key0", "layer1=key1"]):
            words = [word for one in below for word in ("--layer-secret-file", one)]
            case.ours("convert", "-O", "raw", "--secret-file", "key3", *words, "layer3", "ours")
            assert Path("ours").read_bytes() == Path("theirs").read_bytes()
        done = case.ours(
            "convert", "--secret-file", "key3", "--layer-secret-file", "2=key1", "layer3", "x",
            check=False,
        )  # fmt: skip
        assert done.status == 1
        assert "backing file 'layer0' (depth 3)" in done.stderr


@pytest.mark.parametrize("aes", [False, True])
@pytest.mark.parametrize("version", [2, 3])
def test_convert_with_a_backing_file(
    new_case: NewCase, version: int, aes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """-B: the same disk as qemu-img makes, and the base is not copied."""
    layers = [
        Layer(0, "raw", 300 * K, encrypted=False),
        Layer(1, "qcow2", 500 * K, encrypted=False, cluster_size=4096, version=version),
    ]
    chance = random.Random(version)
    with new_case() as case:
        monkeypatch.chdir(case.folder)
        for count in (1, 2):
            create(case, layers[:count])
            write(case, layers[:count], chance)
        Path("copy").write_bytes(Path("layer0").read_bytes())
        words = ["-O", "qcow2", "-o", f"compat=v{version}", "--object", "secret,id=s,data=pw"]
        words += ["-o", "encrypt.format=aes,encrypt.key-secret=s"] if aes else []
        for base in ("layer0", "copy"):
            words_here = ["convert", *words, "-B", base, "-F", "raw", "layer1"]
            case.theirs(*words_here, "theirs")
            case.ours(*words_here, "ours")
            for name in ("theirs", "ours"):
                opts = f"driver=qcow2,file.filename={name}"
                opts += ",encrypt.key-secret=s" if aes else ""
                case.theirs("compare", "--object", "secret,id=s,data=pw", "--image-opts", opts,
                            "driver=qcow2,file.filename=layer1")  # fmt: skip
                case.theirs("check", "--object", "secret,id=s,data=pw", "--image-opts", opts)
            ours, theirs = Path("ours").stat().st_size, Path("theirs").stat().st_size
            assert ours <= theirs
            info = json.loads(case.ours("info", "--output=json", "ours").stdout)
            assert (info["backing-filename"], info["backing-filename-format"]) == (base, "raw")


def test_several_sources(new_case: NewCase, monkeypatch: pytest.MonkeyPatch) -> None:
    with new_case() as case:
        monkeypatch.chdir(case.folder)
        Path("a").write_bytes(random.Random(1).randbytes(100 * K + 512) + bytes(100 * K))
        Path("b").write_bytes(bytes(50 * K) + random.Random(2).randbytes(70 * K))
        for target in (["raw"], ["qcow2"], ["qcow2", "-o", "cluster_size=512"]):
            words = ["convert", "-f", "raw", "-O", *target, "a", "b", "a"]
            case.theirs(*words, "theirs")
            case.ours(*words, "ours")
            case.same_files(Path("theirs"), Path("ours"))


@pytest.mark.parametrize("name", ["snap2", "2", "snapshot.name=snap2", "snapshot.id=2",
                                  "snapshot.id=2,snapshot.name=snap2"])  # fmt: skip
def test_a_snapshot(new_case: NewCase, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with new_case() as case:
        monkeypatch.chdir(case.folder)
        case.theirs("create", "-q", "-f", "qcow2", "disk", "1M")
        for number in (1, 2, 3):
            case.qemu.run_io("-c", f"write -q -P {number} {number * 1000 * 64} 100k", "disk")
            case.theirs("snapshot", "-c", f"snap{number}", "disk")
        for program, target in ((case.theirs, "theirs"), (case.ours, "ours")):
            program("convert", "-O", "qcow2", "-l", name, "disk", target)
        case.same_files(Path("theirs"), Path("ours"))


def test_a_long_chain(new_case: NewCase, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three hundred layers, which QEMU opens, too: the same disk, the same map, the same info."""
    layers = [Layer(number, "qcow2", 512 * K, encrypted=False) for number in range(300)]
    with new_case() as case:
        monkeypatch.chdir(case.folder)
        for layer, below in zip(layers, [None, *layers], strict=False):
            path = overlay(Path(layer.name), below.name if below else None, size=layer.size)
            if layer.number % 50 == 0:
                fill(path, layer.number * K, b"of layer %d " % layer.number * 100)
                without_holes(path)
        top = layers[-1]
        for program, target in ((case.theirs, "theirs"), (case.ours, "ours")):
            program("convert", "-O", "raw", top.name, target)
        assert b"of layer 250 of" in Path("ours").read_bytes()
        case.same_guest(Path("ours").read_bytes(), Path("theirs").read_bytes(), "our disk")
        theirs, ours = (
            plain_map(program("map", "--output=json", top.name).stdout)
            for program in (case.theirs, case.ours)
        )
        assert ours == theirs
        assert len({row["depth"] for row in ours}) == 6
        same_chain(case, top)
