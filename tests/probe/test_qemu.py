"""The installed QEMU, with and without the switch of its library, in both forms of output."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import jsonschema
import pytest
from cli.schemas import schema

from qcow2crypt import probe
from qcow2crypt.cli.output_doctor import doctor_lines
from qcow2crypt.probe import qemu
from qcow2crypt.probe.elf import Elf
from qcow2crypt.testing.witness import QemuImg

pytestmark = pytest.mark.usefixtures("traced")


def kinds(report: probe.Report) -> dict[str, tuple[str, float]]:
    assert report.problem == ""
    return {
        f"{each.encryption} {each.direction}": (each.verdict.kind, each.verdict.per_block)
        for each in report.findings
    }


def needs_nettle() -> None:
    program = Elf.read(qemu.identify("qemu-img").path)
    if not any("libnettle" in name for name in program.needed):
        pytest.skip("figures of Debian's qemu-img were not checked: this one is without libnettle")


def shown(report: probe.Report) -> str:
    answer = probe.as_dict(probe.processor(), [report])
    jsonschema.validate(json.loads(json.dumps(answer)), schema("doctor"))
    return "\n".join(doctor_lines(answer, proof=True))


@pytest.mark.parametrize("name", ["qemu-img", "qemu-io", "qemu-nbd"])
def test_hardware_one_for_each_block(qemu_img: QemuImg, name: str) -> None:
    del qemu_img
    report = probe.examine_qemu(name, ["aes"])
    needs_nettle()
    assert kinds(report) == {"aes encrypt": ("hardware", 1.0), "aes decrypt": ("hardware", 1.0)}
    text = shown(report)
    assert "_nettle_aes128_encrypt_aesni (16 bytes)" in text
    assert "ran 4096 -> 8192, 1.0000 per block" in text
    assert "called from libnettle.so" in text
    library = report.libraries[0]
    assert (library.needed, library.executed > 0, library.per_block) == (True, True, 1.0)
    # Linked, mapped, full of AES instructions, and not used.
    gnutls = next(row for row in report.libraries if "libgnutls" in row.path)
    assert (gnutls.sites > 0, gnutls.executed, gnutls.per_block) == (True, 0, 0.0)


def test_software_by_the_switch_of_nettle(
    qemu_img: QemuImg, monkeypatch: pytest.MonkeyPatch
) -> None:
    del qemu_img
    monkeypatch.setenv("NETTLE_FAT_OVERRIDE", "none")
    report = probe.examine_qemu("qemu-img", ["aes"])
    needs_nettle()
    assert kinds(report) == {"aes encrypt": ("software", 0.0), "aes decrypt": ("software", 0.0)}
    text = shown(report)
    assert "_nettle_aes_encrypt" in text
    assert "_nettle_aes_decrypt" in text
    assert "NETTLE_FAT_OVERRIDE in the environment may be the reason" in text


@pytest.mark.slow
def test_luks_has_a_tweak_for_each_sector(qemu_img: QemuImg) -> None:
    del qemu_img
    report = probe.examine_qemu("qemu-img", ["luks"])
    if report.refused:
        pytest.skip(f"LUKS was not examined: {report.refused}")
    needs_nettle()
    for kind, per_block in kinds(report).values():
        assert (kind, per_block) == ("hardware", 1 + 1 / 32)


def test_a_script_in_place_of_a_binary(qemu_img: QemuImg, tmp_path: Path) -> None:
    real = qemu.identify("qemu-img").path
    script = tmp_path / "my-qemu"
    script.write_text(f'#!/bin/sh\nexec {real} "$@"\n')
    script.chmod(0o755)
    report = probe.examine_qemu(str(script), ["aes"])
    needs_nettle()
    assert {kind for kind, _ in kinds(report).values()} == {"hardware"}
    assert report.findings[0].evidence.programs[-1].path == str(Path(real).resolve())


OLD = """\
#!/bin/sh
# As a qemu-img before 2.10: the passphrase comes from standard input, up to a carriage return.
if [ "$1" = --version ]; then echo "qemu-img version 1.6.0, Copyright (c)"; exit; fi
secret=$(tr -d '\\r')
object=secret,id=s0,data=$secret
if [ "$3" = raw ]; then
    [ "$7" = encryption=on ] || exit 9
    exec {real} convert --object $object -f raw -O qcow2 \\
        -o encrypt.format=aes,encrypt.key-secret=s0 "$8" "$9"
fi
exec {real} convert --object $object --image-opts -O raw \\
    driver=qcow2,encrypt.key-secret=s0,file.filename="$6" "$7"
"""


def test_words_for_an_old_qemu(qemu_img: QemuImg, tmp_path: Path) -> None:
    """A script with the command line of QEMU 1.6: shows the words and the passphrase."""
    script = tmp_path / "qemu-img"
    script.write_text(OLD.replace("{real}", qemu.identify("qemu-img").path))
    script.chmod(0o755)
    report = probe.examine_qemu(str(script))
    needs_nettle()
    assert kinds(report) == {"aes encrypt": ("hardware", 1.0), "aes decrypt": ("hardware", 1.0)}
    assert report.refused == (("luks", "QEMU 1.6 is too old for this"),)


def script_that(tmp_path: Path, text: str) -> str:
    script = tmp_path / "qemu"
    script.write_text(f"#!/bin/sh\n{text}\n")
    script.chmod(0o755)
    return str(script)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("echo hello", "does not say that it is a program of QEMU"),
        ("kill -SEGV $$", "crashed: signal 11"),
        ("exit 1", "does not say"),
    ],
)
def test_what_is_no_qemu(tmp_path: Path, text: str, problem: str) -> None:
    report = probe.examine_qemu(script_that(tmp_path, text))
    assert problem in report.problem
    assert problem in shown(report)


@pytest.mark.parametrize("kind", ["qemu-img", "qemu-io", "qemu-nbd"])
@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("kill -SEGV $$", "crashed: signal 11"),
        ("echo out of luck >&2; exit 4", "ended with 4: out of luck"),
        ("exit 0", ""),
    ],
)
def test_a_qemu_that_goes_wrong(tmp_path: Path, kind: str, text: str, why: str) -> None:
    version = f'if [ "$1" = --version ]; then echo "{kind} version 9.1.0"; exit; fi'
    report = probe.examine_qemu(script_that(tmp_path, f"{version}\n{text}"), ["aes"])
    assert report.problem == ""
    assert {each.verdict.kind for each in report.findings} == {"unknown"}
    said = [each.verdict.why for each in report.findings]
    assert all(why in text for text in said), said


@pytest.mark.slow
def test_a_system_emulator(qemu_img: QemuImg) -> None:
    del qemu_img
    if shutil.which("qemu-system-x86_64") is None:
        pytest.skip("no system emulator was examined: qemu-system-x86_64 is not installed")
    report = probe.examine_qemu("qemu-system-x86_64", ["luks"])
    needs_nettle()
    for kind, per_block in kinds(report).values():
        assert (kind, per_block) == ("hardware", 1 + 1 / 32)


def test_system_emulators_refuse_aes(tmp_path: Path) -> None:
    name = script_that(tmp_path, 'echo "QEMU emulator version 8.2.2"')
    report = probe.examine_qemu(name, ["aes"])
    assert report.findings == ()
    assert report.refused[0][0] == "aes"
    assert "refuse AES images" in report.refused[0][1]


def test_what_is_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("qemu-img", "qemu-system-riscv64", "qemu-x86_64", "qemu-img.old"):
        script = tmp_path / name
        script.write_text("")
        script.chmod(0o755)
    (tmp_path / "qemu-io").write_text("")
    (tmp_path / "qemu-nbd").symlink_to("qemu-img")
    monkeypatch.setenv("PATH", f"{tmp_path}:/no/such/folder")
    assert [Path(path).name for path in probe.qemu_on_path()] == [
        "qemu-img",
        "qemu-system-riscv64",
    ]
