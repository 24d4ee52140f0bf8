"""`vaes512` on an emulated Tiger Lake: Bochs boots the self-test, with no system below it.

The boot sector also plays the operating system that saves too few registers: the processor has
AVX-512 then, and it may not be used.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from support.native_c import CSRC, TESTS, core, once, run

pytestmark = pytest.mark.slow

SHARE = Path("/usr/share/bochs")
BARE = ["-ffreestanding", "-fno-tree-loop-distribute-patterns", "-fno-stack-protector", "-fno-pic"]
BARE += ["-mno-red-zone", "-fcf-protection=none", "-nostdlib", "-static"]
FLAT = "-Wl,--oformat,binary,--build-id=none,"
SECTORS = 20 * 16 * 63

BASE = ["portable"]
AES = ["aesni", *BASE]
AVX = ["vaes256", "aesni", "portable-avx2", *BASE]
ALL = ["vaes512", *AVX]


def image(folder: Path, made: Path, gcc: str, xcr0: int) -> Path:
    """A disk with the boot sector and the program behind it, which is compiled once in ``made``."""
    boot, disk = folder / "boot", folder / "disk"
    source = TESTS / "boot"
    run([gcc, f"-DXCR0={xcr0}", *BARE, source / "boot.S", FLAT + "-Ttext=0x7c00", "-o", boot])
    sources = [source / "program.c", *core()]
    flags = ["-std=c11", "-O2", f"-I{CSRC}", FLAT + f"-T,{source / 'boot.ld'}"]
    program = once(made / "program-of-boot", [gcc, *BARE, *flags, *sources])
    data = boot.read_bytes() + program.read_bytes()
    assert len(boot.read_bytes()) == 512
    assert len(data) <= 4 * 127 * 512, "boot.S reads less than the program has"
    disk.write_bytes(data.ljust(SECTORS * 512, b"\0"))
    return disk


@pytest.mark.parametrize(
    ("cpu", "xcr0", "kernels"),
    [
        ("tigerlake", 0xE7, ALL),
        ("tigerlake", 0x07, AVX),
        ("tigerlake", 0x03, AES),
        ("tigerlake", 0, AES),
        ("corei7_skylake_x", 0xE7, ["aesni", "portable-avx2", *BASE]),
    ],
)
def test_the_self_test_boots(
    tool: Callable[[str], str],
    c_folder: Path,
    tmp_path: Path,
    cpu: str,
    xcr0: int,
    kernels: list[str],
) -> None:
    bochs, disk = tool("bochs"), image(tmp_path, c_folder, tool("gcc"), xcr0)
    settings = [
        f"romimage: file={SHARE}/BIOS-bochs-latest",
        f"vgaromimage: file={SHARE}/VGABIOS-lgpl-latest",
        f"cpu: model={cpu}, ips=100000000",
        "memory: guest=64, host=64",
        f'ata0-master: type=disk, path="{disk}", mode=flat, cylinders=20, heads=16, spt=63',
        "boot: disk",
        "port_e9_hack: enabled=1",
        'display_library: rfb, options="timeout=0"',
        "plugin_ctrl: speaker=0",  # with a sound mixer, a race can end Bochs: "buffer overflow"
        f"log: {tmp_path / 'log'}",
        "panic: action=fatal",
    ]
    (tmp_path / "bochsrc").write_text("\n".join(settings) + "\n", "utf-8")
    # Debian's Bochs begins in its debugger: c is for continue.
    done = subprocess.run(
        [bochs, "-q", "-f", tmp_path / "bochsrc"],
        check=False,
        input="c\n",
        capture_output=True,
        text=True,
        timeout=280,
        cwd=tmp_path,
    )
    lines = (done.stdout + done.stderr).splitlines()
    last = "\n".join([f"Bochs ended with {done.returncode}:", *lines[-20:]])
    said = dict(words for line in lines if len(words := line.split()) == 2 and words[0] in ALL)
    assert said == {name: "ok" if name in kernels else "refused" for name in ALL}, last
    assert "end" in lines
