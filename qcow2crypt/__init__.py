"""Open, decrypt and make encrypted qcow2 disk images, in pure Python and fast.

    >>> import qcow2crypt
    >>> with qcow2crypt.open("old.qcow2", secret="...") as disk:   # doctest: +SKIP
    ...     boot_sector = disk.pread(512, 0)

Legacy AES encryption of qcow2 is broken by design.  It is kept here to free old data, to test
other implementations and to teach; do not protect anything new with it.

Importing this package loads nothing heavy: names are resolved when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from qcow2crypt._version import __version__

if TYPE_CHECKING:
    from qcow2crypt import engines, errors
    from qcow2crypt.crypt.cipher import SectorCipher
    from qcow2crypt.explaining.facts import Explanation
    from qcow2crypt.explaining.following import explain
    from qcow2crypt.image import open_image as open  # noqa: A004 - qcow2crypt.open is the name
    from qcow2crypt.image.base import Extent, ExtentKind, Image
    from qcow2crypt.image.describe import describe as info
    from qcow2crypt.image.describechain import describe_chain as info_chain
    from qcow2crypt.image.info import ImageInfo
    from qcow2crypt.image.qcow2.options import Qcow2Options
    from qcow2crypt.image.rawoptions import RawOptions
    from qcow2crypt.tasks.amending import amend
    from qcow2crypt.tasks.checking import CheckResult, check
    from qcow2crypt.tasks.committing import commit
    from qcow2crypt.tasks.comparison import Comparison, compare
    from qcow2crypt.tasks.conversion import ConvertResult, convert
    from qcow2crypt.tasks.copying import copy_range
    from qcow2crypt.tasks.creation import create
    from qcow2crypt.tasks.measuring import Measurement, measure
    from qcow2crypt.tasks.rebasing import rebase, set_backing
    from qcow2crypt.tasks.resizing import resize

__all__ = [
    "CheckResult",
    "Comparison",
    "ConvertResult",
    "Explanation",
    "Extent",
    "ExtentKind",
    "Image",
    "ImageInfo",
    "Measurement",
    "Qcow2Options",
    "RawOptions",
    "SectorCipher",
    "__version__",
    "amend",
    "check",
    "commit",
    "compare",
    "convert",
    "copy_range",
    "create",
    "engines",
    "errors",
    "explain",
    "info",
    "info_chain",
    "measure",
    "open",
    "rebase",
    "resize",
    "set_backing",
]

_PLACES = {
    "CheckResult": ("tasks.checking", "CheckResult"),
    "Comparison": ("tasks.comparison", "Comparison"),
    "ConvertResult": ("tasks.conversion", "ConvertResult"),
    "Explanation": ("explaining.facts", "Explanation"),
    "Extent": ("image.base", "Extent"),
    "ExtentKind": ("image.base", "ExtentKind"),
    "Image": ("image.base", "Image"),
    "ImageInfo": ("image.info", "ImageInfo"),
    "Measurement": ("tasks.measuring", "Measurement"),
    "Qcow2Options": ("image.qcow2.options", "Qcow2Options"),
    "RawOptions": ("image.rawoptions", "RawOptions"),
    "SectorCipher": ("crypt.cipher", "SectorCipher"),
    "amend": ("tasks.amending", "amend"),
    "check": ("tasks.checking", "check"),
    "commit": ("tasks.committing", "commit"),
    "compare": ("tasks.comparison", "compare"),
    "convert": ("tasks.conversion", "convert"),
    "copy_range": ("tasks.copying", "copy_range"),
    "create": ("tasks.creation", "create"),
    "engines": ("engines", None),
    "errors": ("errors", None),
    "explain": ("explaining.following", "explain"),
    "info": ("image.describe", "describe"),
    "info_chain": ("image.describechain", "describe_chain"),
    "measure": ("tasks.measuring", "measure"),
    "open": ("image", "open_image"),
    "rebase": ("tasks.rebasing", "rebase"),
    "resize": ("tasks.resizing", "resize"),
    "set_backing": ("tasks.rebasing", "set_backing"),
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a module holds things of any type
    try:
        module_name, attribute = _PLACES[name]
    except KeyError:
        message = f"module 'qcow2crypt' has no attribute {name!r}"
        raise AttributeError(message) from None
    module = importlib.import_module(f"qcow2crypt.{module_name}")
    value = module if attribute is None else getattr(module, attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
