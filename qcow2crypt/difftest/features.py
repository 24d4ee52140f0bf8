"""What a case is about, in words: of a small case, what the difference takes.  Pure."""

from __future__ import annotations

from qcow2crypt.testing.case import Case, Layer, Operation, Resize, Snapshot, Write, WriteZeroes


def features(case: Case) -> tuple[str, ...]:
    """What a case has beyond one plain image with plain writes, each word once.

    >>> from qcow2crypt.testing.case import Discard
    >>> features(Case((Layer(512, passphrase="x", operations=(Discard(0, 512),)),)))
    ('aes', 'discard')
    """
    found: dict[str, None] = {}
    for depth, layer in enumerate(reversed(case.layers)):
        words = _of_layer(layer)
        found |= dict.fromkeys("backing-" * bool(depth) + word for word in sorted(words))
    if len(case.layers) > 1:
        found["backing"] = None
    return tuple(found)


def _of_layer(layer: Layer) -> set[str]:
    packed = any(isinstance(one, Write) and one.compressed for one in layer.operations)
    has = {
        "aes": layer.passphrase is not None,
        "version-2": layer.version == 2,
        "extended-l2": layer.extended_l2,
        "data-file": layer.data_file,
        "compressed": packed,
        "zstd": layer.compression_type == "zstd",
        str(layer.format): layer.format != "qcow2",
    }
    words = {word for word, there in has.items() if there}
    return words | {_word(one) for one in layer.operations if not isinstance(one, Write)}


def _word(operation: Operation) -> str:
    if isinstance(operation, Snapshot):
        return f"snapshot-{operation.action}"
    if isinstance(operation, WriteZeroes):
        return "write-zeroes"
    return "resize" if isinstance(operation, Resize) else "discard"
