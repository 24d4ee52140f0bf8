"""Random chains of images, made by random calls of qemu-img and qemu-io.

Everything the tools can make: every cluster size, version and refcount width, subclusters,
external data files, compression, AES with a passphrase for each layer, backing files of all
formats that are shorter or longer, snapshots, discards, changes of size.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qcow2crypt.testing.witness import QemuError, QemuImg, escape

SECTOR = 512
_SIZE_MAX = 3 << 20


@dataclass(slots=True)
class RandomLayer:
    """One image of a chain, and how QEMU is told to open it."""

    path: Path
    driver: str
    size: int
    cluster_size: int = 1 << 16
    passphrase: str | None = None
    has_data_file: bool = False
    extended: bool = False
    snapshots: list[str] = field(default_factory=list)

    def options(self, depth: int) -> dict[str, str]:
        """What ``--image-opts`` must be told of this layer alone."""
        options = {"driver": self.driver, "file.filename": str(self.path)}
        if self.passphrase is not None:
            options["encrypt.key-secret"] = f"s{depth}"
        return options


@dataclass(slots=True)
class RandomChain:
    """Layers, the top first, and every command that made them, to be read after a failure."""

    qemu: QemuImg
    layers: list[RandomLayer]
    log: list[str]

    @property
    def top(self) -> RandomLayer:
        return self.layers[0]

    def secrets(self) -> dict[str | int, str]:
        """The passphrases by depth, for ``open``."""
        return {
            depth: layer.passphrase
            for depth, layer in enumerate(self.layers)
            if layer.passphrase is not None
        }

    def objects(self) -> list[str]:
        """The same for QEMU."""
        return [
            word
            for depth, passphrase in self.secrets().items()
            for word in ("--object", f"secret,id=s{depth},data={escape(passphrase)}")
        ]

    def options(self, start: int = 0, *, alone: bool = False) -> str:
        """``--image-opts`` for the layer at depth ``start`` and those under it, or not."""
        found: dict[str, str] = {}
        prefix = ""
        for depth, layer in enumerate(self.layers[start:], start):
            found |= {prefix + key: value for key, value in layer.options(depth).items()}
            prefix += "backing."
            if alone:
                break
        if alone and start + 1 < len(self.layers):
            found["backing"] = ""
        return ",".join(f"{key}={escape(value)}" for key, value in found.items())

    def io(self, *commands: str) -> None:
        """Run qemu-io commands on the top layer; one that QEMU refuses changes nothing."""
        script = [part for command in commands for part in ("-c", command)]
        self.log.append(f"qemu-io {' '.join(script)} {self.options()}")
        self.qemu._run(
            self.qemu.io, *self.objects(), *script, "--image-opts", self.options(), check=False
        )

    def img(self, command: str, *words: str) -> bool:
        """Run a qemu-img command on the top layer; returns whether QEMU did it."""
        arguments = [command, *self.objects(), *words, "--image-opts", self.options()]
        return self._img(arguments)

    def resize(self, size: int) -> None:
        """Change the size of the top layer."""
        words = ["resize", "-q", *self.objects(), "--shrink", "--image-opts", self.options()]
        if self._img([*words, str(size)]):
            self.top.size = size

    def map(self, start: int = 0, *, alone: bool = False) -> list[dict[str, Any]]:
        """What ``qemu-img map`` tells."""
        words = ["map", "--output=json", *self.objects(), "--image-opts"]
        done = self.qemu.run(*words, self.options(start, alone=alone))
        return list(json.loads(done.stdout))

    def content(self, target: Path, *words: str) -> bytes:
        """What ``qemu-img convert`` makes of the chain."""
        more = [*self.objects(), *words, "-O", "raw", "--image-opts", self.options()]
        self.qemu.run("convert", *more, target)
        return target.read_bytes()

    def _img(self, arguments: Sequence[str]) -> bool:
        self.log.append(f"qemu-img {' '.join(arguments)}")
        try:
            self.qemu.run(*arguments)
        except QemuError:
            return False
        return True


def random_chain(qemu: QemuImg, folder: Path, seed: int) -> RandomChain:
    """The chain number ``seed``."""
    choose = random.Random(seed)
    chain = RandomChain(qemu, [], [f"seed {seed}"])
    for number in range(choose.choice([1, 1, 2, 2, 3, 4])):
        _add_layer(chain, folder, number, choose)
        for _ in range(choose.randrange(1, 4)):
            _change(chain, choose)
    return chain


def _add_layer(chain: RandomChain, folder: Path, number: int, choose: random.Random) -> None:
    below = chain.layers[0] if chain.layers else None
    driver = choose.choice(["raw", "qcow", "qcow2", "qcow2"] if below is None else ["qcow2"] * 9)
    if below is not None and choose.random() < 0.1:
        driver = "qcow"
    path = folder / f"layer{number}.{driver}"
    size = choose.choice([_random_size(choose), below.size if below else 1 << 20])
    layer = RandomLayer(path, driver, size)
    options: dict[str, str] = {}
    if driver == "qcow2":
        options = _random_options(layer, folder, number, choose, has_backing=below is not None)
    if driver != "raw" and choose.random() < 0.5:
        layer.passphrase = f"pass {number}"
        options |= {"encrypt.format": "aes", "encrypt.key-secret": "s0"}
    chain.layers.insert(0, layer)
    words = ["create", "-q", *chain.objects(), "-f", driver, *_dash_o(options)]
    if below is not None:
        words += ["-u", "-b", str(below.path), "-F", below.driver]
    chain.log.append(f"qemu-img {' '.join(words)} {path} {size}")
    chain.qemu.run(*words, path, str(size))


def _random_options(
    layer: RandomLayer, folder: Path, number: int, choose: random.Random, *, has_backing: bool
) -> dict[str, str]:
    bits = choose.choice([9, 9, 10, 11, 12, 12, 13, 14, 14, 15, 16, 16, 16, 17, 18, 21])
    layer.cluster_size = 1 << bits
    options = {"cluster_size": str(layer.cluster_size)}
    if choose.random() < 0.25:
        return options | {"compat": "0.10"}
    options["refcount_bits"] = str(1 << choose.randrange(7))
    if choose.random() < 0.4:
        options["compression_type"] = "zstd"
    if bits >= 14 and choose.random() < 0.6:
        layer.extended = True
        options["extended_l2"] = "on"
    if choose.random() < 0.2:
        layer.has_data_file = True
        options["data_file"] = str(folder / f"data{number}.raw")
        if not has_backing and choose.random() < 0.4:
            options["data_file_raw"] = "on"
    if choose.random() < 0.1 and (layer.extended or not has_backing):
        options["preallocation"] = choose.choice(["metadata", "falloc", "full"])
    return options


def _change(chain: RandomChain, choose: random.Random) -> None:
    layer = chain.top
    kind = choose.choice(["io"] * 5 + ["snapshot", "resize", "compress"])
    if layer.driver != "qcow2" or kind == "io":
        chain.io(*(_random_command(layer, choose) for _ in range(choose.randrange(1, 9))))
    elif kind == "snapshot":
        if chain.img("snapshot", "-c", f"snap{len(layer.snapshots)}"):
            layer.snapshots.append(str(len(layer.snapshots) + 1))
        chain.io(_random_command(layer, choose))
    elif kind == "resize":
        chain.resize(_random_size(choose))
    else:
        size = layer.cluster_size
        clusters = range(layer.size // size)
        some = choose.sample(clusters, min(len(clusters), choose.randrange(1, 6)))
        patterns = [f"-P {choose.randrange(256)} {cluster * size} {size}" for cluster in some]
        chain.io(*(f"write -q -c {pattern}" for pattern in patterns))


def _random_command(layer: RandomLayer, choose: random.Random) -> str:
    unit = choose.choice([1, SECTOR, SECTOR, layer.cluster_size // 32 or 1, layer.cluster_size])
    unit = max(unit, SECTOR if unit > 1 else 1)
    limit = layer.size // unit
    start = choose.randrange(limit) if limit else 0
    length = min(choose.choice([1, 1, 2, 3, 7, 40]) * choose.choice([1, 1, 5]), limit - start)
    where = f"{start * unit} {max(length, 0) * unit}"
    kind = choose.choice(["-P"] * 5 + ["-z", "-z -u", "discard"])
    if kind == "discard":
        return f"discard -q {where}"
    return f"write -q {kind} {choose.randrange(256) if kind == '-P' else ''} {where}"


def _random_size(choose: random.Random) -> int:
    return SECTOR * choose.choice(
        [
            choose.randrange(1, 40),
            choose.randrange(1, 600),
            choose.randrange(1, _SIZE_MAX // SECTOR),
        ]
    )


def _dash_o(options: Mapping[str, str]) -> list[str]:
    return [word for key, value in options.items() for word in ("-o", f"{key}={escape(value)}")]
