"""The main job in one minute: an image that QEMU 1.6.0 (2013) encrypted, and its passphrase.

Shows the image, explains one sector with the textbook, decrypts the disk, checks the result,
and makes an encrypted image again.  Where qemu-img is present it is asked for a second opinion.
Run it with ``python -m qcow2crypt.demo [FOLDER]``; the folder for the results is demo-out.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import qcow2crypt
from qcow2crypt.image.info import ImageInfo
from qcow2crypt.reference.modes import CbcStep
from qcow2crypt.reference.sectors import SectorIv, decrypt_sectors, passphrase_to_key

IMAGE = Path(__file__).parent / "data" / "qemu-1.6.0-aes.qcow2"
PASSPHRASE = "correct horse battery"
DISK_SHA256 = "0106d4125a9b5860566a293aa82ce203c3948f6e08542f8beafb5cfaaed3b43a"
SECTOR = 5
CLUSTER_SIZE = 4096


class DemoError(Exception):
    """Something did not come out as it must."""


def main(arguments: list[str]) -> int:
    """Run the demo; 0 when every check passed."""
    folder = Path(arguments[0] if arguments else "demo-out")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        _show_info(qcow2crypt.info(IMAGE))
        _explain_sector()
        _decrypt(folder / "disk.raw")
        _encrypt_again(folder / "disk.raw", folder / "again.qcow2")
    except (DemoError, qcow2crypt.errors.Qcow2CryptError) as error:
        print(f"\nFAILED: {error}", file=sys.stderr)
        return 1
    print(f"\nAll checks passed.  The results are in {folder}/.")
    return 0


def _show_info(info: ImageInfo) -> None:
    _title(1, "the image, without a passphrase")
    print(f"  file          {IMAGE.name}, {info.file_size} bytes")
    print(f"  format        {info.format}, compat {info.specific['compat']}")
    print(f"  guest disk    {info.virtual_size} bytes in clusters of {info.cluster_size} bytes")
    print(f"  encryption    {info.encryption}: AES-128-CBC, each 512-byte sector on its own")
    for finding in info.findings:
        print(f"  note          {finding}")


def _explain_sector() -> None:
    _title(2, f"one sector, by the textbook: guest sector {SECTOR}")
    guest_offset = SECTOR * 512
    with qcow2crypt.open(IMAGE, secret=PASSPHRASE) as disk:
        (extent,) = disk.extents(guest_offset, 512)
        expected = disk.pread(512, guest_offset)
    if extent.host_offset is None:
        raise DemoError(f"sector {SECTOR} is not stored in the file")
    with IMAGE.open("rb") as file:
        file.seek(extent.host_offset)
        ciphertext = file.read(512)
    key = passphrase_to_key(PASSPHRASE)
    steps: list[object] = []
    plaintext = decrypt_sectors(ciphertext, SECTOR, key, watch=steps.append)
    iv = next(step.iv for step in steps if isinstance(step, SectorIv))
    block = next(step for step in steps if isinstance(step, CbcStep))
    print(f"  guest offset  {guest_offset:#x} = sector {SECTOR} x 512")
    print(f"  host offset   {extent.host_offset:#x}, found through the L1 and L2 tables")
    print(f"  passphrase    {PASSPHRASE!r}, {len(PASSPHRASE)} bytes")
    print(f"  key           {key.hex()}: its first 16 bytes, no more")
    print(f"  IV            {iv.hex()}: sector {SECTOR}, 64 bits, little-endian")
    print(f"  ciphertext    {ciphertext[:16].hex()}: the first of 32 blocks")
    print(f"  AES^-1        {block.output_block.hex()}")
    print(f"  XOR IV        {plaintext[:16].hex()}: the plaintext")
    _check("the textbook and the reader give the same sector", plaintext == expected)


def _decrypt(target: Path) -> None:
    _title(3, "the whole disk, decrypted")
    qcow2crypt.convert(IMAGE, target, secret=PASSPHRASE)
    found = hashlib.sha256(target.read_bytes()).hexdigest()
    print(f"  {target}: {target.stat().st_size} bytes, SHA-256 {found}")
    _check("the hash is that of the disk that went in", found == DISK_SHA256)
    qemu_img = shutil.which("qemu-img")
    if qemu_img is None:
        print("  not checked   qemu-img is not here (Debian: apt-get install qemu-utils)")
        return
    by_qemu = target.with_name("disk-by-qemu-img.raw")
    secret = f"secret,id=s0,data={PASSPHRASE}"
    source = f"driver=qcow2,encrypt.key-secret=s0,file.filename={IMAGE}"
    _qemu_img("convert", "--object", secret, "--image-opts", source, "-O", "raw", str(by_qemu))
    _check("qemu-img decrypts to the same bytes", by_qemu.read_bytes() == target.read_bytes())


def _encrypt_again(disk: Path, target: Path) -> None:
    _title(4, "an encrypted image, made again")
    options = qcow2crypt.Qcow2Options(version=2, cluster_size=CLUSTER_SIZE, encryption="aes")
    qcow2crypt.convert(
        disk, target, target_format="qcow2", target_secret=PASSPHRASE, options=options
    )
    print(f"  {target}: {target.stat().st_size} bytes")
    with qcow2crypt.open(target, secret=PASSPHRASE) as again:
        _check("it reads back", hashlib.sha256(again.read()).hexdigest() == DISK_SHA256)
    if shutil.which("qemu-img") is None:
        return
    by_qemu = target.with_name("again-by-qemu-img.qcow2")
    create = f"compat=0.10,cluster_size={CLUSTER_SIZE},encrypt.format=aes,encrypt.key-secret=s0"
    secret = f"secret,id=s0,data={PASSPHRASE}"
    _qemu_img(
        *("convert", "--object", secret, "-f", "raw", "-O", "qcow2", "-o", create),
        *(str(disk), str(by_qemu)),
    )
    same = by_qemu.read_bytes() == target.read_bytes()
    _check("qemu-img makes the same file, byte for byte", same)


def _title(number: int, text: str) -> None:
    print(f"\n{number}. {text}\n")


def _check(what: str, passed: bool) -> None:
    if not passed:
        raise DemoError(f"not so: {what}")
    print(f"  checked       {what}")


def _qemu_img(*arguments: str) -> None:
    done = subprocess.run(  # noqa: S603 - our own arguments, no shell
        ["qemu-img", *arguments],  # noqa: S607 - the one on PATH is the one to ask
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise DemoError(f"qemu-img {arguments[0]} failed: {done.stderr.strip()}")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
