"""``qcow2crypt engines``: what does the AES on this machine, what else could, and why."""

from __future__ import annotations

from qcow2crypt import engines
from qcow2crypt.cli.cmd_info import check_output
from qcow2crypt.cli.failures import UsageError
from qcow2crypt.cli.options import HELP, OUTPUT, Arguments
from qcow2crypt.cli.terminal import Console

USAGE = "qcow2crypt engines [--output=human|json]"
ABOUT = """\
Show which engine does the AES here and why, which others there are, the C kernels of the engine
native, and what each of them needs of the processor.  Every kernel that can run is tested.

  qcow2crypt engines --output=json
  QCOW2CRYPT_ENGINE=native:aesni qcow2crypt engines

Exit code 1 if no engine can be taken, or a kernel gives wrong bytes.
"""
OPTIONS = (OUTPUT, HELP)


def run(arguments: Arguments, console: Console) -> int:
    """Print how it stands with the engines."""
    as_json = check_output(arguments) == "json"
    if arguments.operands:
        raise UsageError("engines takes no file names")
    status = engines.status()
    if as_json:
        from qcow2crypt.cli.output_json import engines_json

        console.out(engines_json(status))
    else:
        from qcow2crypt.cli.output_human import engines_lines

        for line in engines_lines(status):
            console.out(line)
    wrong = any(not kernel.available and not kernel.lacks for kernel in status.kernels)
    return 1 if wrong or not status.used else 0
