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
    from qcow2crypt.amending import amend
    from qcow2crypt.checking import CheckResult, check
    from qcow2crypt.committing import commit
    from qcow2crypt.comparison import Comparison, compare
    from qcow2crypt.conversion import ConvertResult, convert
    from qcow2crypt.copying import copy_range
    from qcow2crypt.creation import create
    from qcow2crypt.crypt.cipher import SectorCipher
    from qcow2crypt.image import open_image as open  # noqa: A004 - qcow2crypt.open is the name
    from qcow2crypt.image.base import Extent, ExtentKind, Image
    from qcow2crypt.image.describe import describe as info
    from qcow2crypt.image.describechain import describe_chain as info_chain
    from qcow2crypt.image.info import ImageInfo
    from qcow2crypt.image.qcow2.options import Qcow2Options
    from qcow2crypt.image.rawoptions import RawOptions
    from qcow2crypt.measuring import Measurement, measure
    from qcow2crypt.rebasing import rebase, set_backing
    from qcow2crypt.resizing import resize

__all__ = [
    "CheckResult",
    "Comparison",
    "ConvertResult",
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
    "info",
    "info_chain",
    "measure",
    "open",
    "rebase",
    "resize",
    "set_backing",
]

_PLACES = {
    "CheckResult": ("checking", "CheckResult"),
    "Comparison": ("comparison", "Comparison"),
    "ConvertResult": ("conversion", "ConvertResult"),
    "Extent": ("image.base", "Extent"),
    "ExtentKind": ("image.base", "ExtentKind"),
    "Image": ("image.base", "Image"),
    "ImageInfo": ("image.info", "ImageInfo"),
    "Measurement": ("measuring", "Measurement"),
    "Qcow2Options": ("image.qcow2.options", "Qcow2Options"),
    "RawOptions": ("image.rawoptions", "RawOptions"),
    "SectorCipher": ("crypt.cipher", "SectorCipher"),
    "amend": ("amending", "amend"),
    "check": ("checking", "check"),
    "commit": ("committing", "commit"),
    "compare": ("comparison", "compare"),
    "convert": ("conversion", "convert"),
    "copy_range": ("copying", "copy_range"),
    "create": ("creation", "create"),
    "engines": ("engines", None),
    "errors": ("errors", None),
    "info": ("image.describe", "describe"),
    "info_chain": ("image.describechain", "describe_chain"),
    "measure": ("measuring", "measure"),
    "open": ("image", "open_image"),
    "rebase": ("rebasing", "rebase"),
    "resize": ("resizing", "resize"),
    "set_backing": ("rebasing", "set_backing"),
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
