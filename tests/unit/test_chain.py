"""Opening an image with everything under it: names, formats, loops, passphrases, modes."""

from __future__ import annotations

from pathlib import Path

import golden
import pytest
from support.chains import CLUSTER, SIZE, fill, open_descriptors, overlay, raw

import qcow2crypt
from qcow2crypt.errors import (
    ArgumentError,
    BackingChainError,
    ExternalReferenceError,
    HeaderError,
    Qcow2CryptError,
    ReadOnlyError,
    SecretRequiredError,
    SnapshotNotFoundError,
    SourceError,
    UnsupportedFeatureError,
)
from qcow2crypt.image import open_layers
from qcow2crypt.image.names import LayerOptions, layer_options
from qcow2crypt.image.secrets import secrets_by_layer
from qcow2crypt.secret import Secret

BASE = bytes(range(256)) * (SIZE // 256)


def read(path: Path | str, **how: object) -> bytes:
    with qcow2crypt.open(path, **how) as image:  # type: ignore[arg-type]
        return image.readall()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a raw base; the current directory is another one."""
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    home.mkdir()
    elsewhere.mkdir()
    raw(home / "base.raw", BASE)
    monkeypatch.chdir(elsewhere)
    return home


class TestNames:
    def test_a_relative_name_starts_from_the_image(self, folder: Path) -> None:
        (folder / "sub").mkdir()
        overlay(folder / "middle", "base.raw", backing_format="raw")
        overlay(folder / "sub" / "low", "../base.raw", backing_format="raw")
        overlay(folder / "high", "sub/low")
        assert read(folder / "middle") == BASE
        assert read(folder / "high") == BASE

    def test_after_file_and_in_json_it_starts_from_the_current_directory(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """So it is in QEMU."""
        names = ("file:base.raw", 'json:{"driver":"raw","file.filename":"base.raw"}')
        for number, name in enumerate(names):
            path = overlay(folder / f"over{number}", name, backing_format="raw")
            with pytest.raises(Qcow2CryptError):
                read(path)
            with monkeypatch.context() as patch:
                patch.chdir(folder)
                assert read(path) == BASE

    def test_an_absolute_name(self, folder: Path) -> None:
        overlay(folder / "over", str(folder / "base.raw"), backing_format="raw")
        assert read(folder / "over") == BASE

    @pytest.mark.parametrize(
        "text",
        [
            '{"driver": "qcow2", "file": {"driver": "file", "filename": "PATH"}}',
            '{"driver": "qcow2", "file.filename": "PATH"}',
            "{'file.driver': 'file', 'file.filename': 'PATH', 'cache.direct': true}",
        ],
    )
    def test_json(self, text: str, folder: Path) -> None:
        low = overlay(folder / "low", "base.raw", backing_format="raw")
        name = f"json:{text}".replace("PATH", str(low))
        overlay(folder / "over", name, backing_format=None)
        assert read(folder / "over") == BASE

    @pytest.mark.parametrize("name", ["nbd://host/x", "https://host/x", "json:{}", "strange:x"])
    def test_what_is_no_local_file_is_refused(self, name: str, folder: Path) -> None:
        overlay(folder / "over", name, backing_format="raw")
        with pytest.raises(ExternalReferenceError) as caught:
            read(folder / "over", external="any")
        assert caught.value.reference == name
        assert caught.value.image == str(folder / "over")

    def test_the_error_says_whose_backing_file_is_missing(self, folder: Path) -> None:
        overlay(folder / "over", "gone", backing_format="raw")
        with pytest.raises(
            SourceError, match=r"gone': No such file .*\(backing file .*over'; to name"
        ):
            read(folder / "over")

    def test_the_error_says_which_header_is_wrong(self, folder: Path) -> None:
        overlay(folder / "over", "base.raw", backing_format="qcow2")
        with pytest.raises(HeaderError, match=r"\(in backing file '.*base.raw' of '.*over'\)"):
            read(folder / "over")


class TestFormats:
    def test_without_a_format_the_first_bytes_decide(self, folder: Path) -> None:
        overlay(folder / "low", "base.raw", backing_format=None)
        overlay(folder / "over", "low", backing_format=None)
        assert read(folder / "over") == BASE

    def test_a_format_that_is_stored_goes_first(self, folder: Path) -> None:
        low = overlay(folder / "low", "base.raw", backing_format="raw")
        overlay(folder / "over", "low", backing_format="raw", size=4096)
        assert read(folder / "over") == low.read_bytes()[:4096]

    def test_the_format_beside_the_name_goes_before_the_one_in_json(self, folder: Path) -> None:
        name = 'json:{"driver":"qcow2","file.filename":"%s"}' % (folder / "base.raw")
        overlay(folder / "over", name, backing_format="raw")
        assert read(folder / "over") == BASE

    def test_formats_that_are_not_read_are_named(self, folder: Path) -> None:
        overlay(folder / "over", "base.raw", backing_format="vmdk")
        with pytest.raises(UnsupportedFeatureError, match="images of format vmdk"):
            read(folder / "over")

    def test_a_shorter_base_ends_in_zeros_and_a_longer_one_is_cut(self, folder: Path) -> None:
        raw(folder / "short.raw", BASE[:5000])
        overlay(folder / "long", "short.raw", backing_format="raw")
        assert read(folder / "long") == BASE[:5000].ljust(SIZE, b"\0")
        overlay(folder / "cut", "base.raw", backing_format="raw", size=8192)
        assert read(folder / "cut") == BASE[:8192]


class TestLoops:
    def test_an_image_that_names_itself(self, folder: Path) -> None:
        overlay(folder / "other", "self")
        (folder / "other").rename(folder / "self")
        with pytest.raises(BackingChainError, match=r"depth 1 is the same file as .* at depth 0"):
            read(folder / "self")

    def test_a_loop_under_other_names(self, folder: Path) -> None:
        overlay(folder / "a", "b")
        overlay(folder / "b", "c")
        overlay(folder / "c", "link")
        (folder / "link").symlink_to("b")
        with pytest.raises(BackingChainError, match=r"depth 3 is the same file as .* at depth 1"):
            read(folder / "a")


class TestSecrets:
    @pytest.fixture
    def top(self, folder: Path) -> Path:
        """AES over AES over raw, with a sector of its own in each."""
        overlay(folder / "low", "base.raw", backing_format="raw", secret="one")
        fill(folder / "low", 0, b"L" * 512, secret="one")
        overlay(folder / "top", "low", secret="two")
        fill(folder / "top", CLUSTER, b"T" * 512, secret="two", secrets={1: "one"})
        return folder / "top"

    DISK = b"L" * 512 + BASE[512:CLUSTER] + b"T" * 512 + BASE[CLUSTER + 512 :]

    @pytest.mark.parametrize("key", [1, "low"])
    def test_by_depth_and_by_name(self, key: str | int, top: Path) -> None:
        assert read(top, secret="two", secrets={key: "one"}) == self.DISK

    def test_by_path(self, top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(top.parent.parent)
        assert read("home/top", secrets={"home/low": "one", 0: b"two"}) == self.DISK
        real = str(top.with_name("low").resolve())
        assert read("home/top", secrets={real: "one", "top": "two"}) == self.DISK

    def test_by_the_id_that_the_name_asks_for(self, top: Path) -> None:
        low = top.with_name("low")
        name = f'json:{{"driver":"qcow2","encrypt.key-secret":"k1","file.filename":"{low}"}}'
        overlay(top.with_name("over"), name)
        disk = read(top.with_name("over"), secrets={"k1": "one"})
        assert disk == b"L" * 512 + BASE[512:]

    def test_a_passphrase_is_for_its_layer_alone(self, top: Path) -> None:
        with pytest.raises(SecretRequiredError) as caught:
            read(top, secret="one")
        message = str(caught.value)
        assert f"backing file '{top.with_name('low')}' (depth 1, under '{top}')" in message
        assert "--layer-secret-file 1=PATH" in message
        assert "secrets={1: ...}" in message
        with pytest.raises(SecretRequiredError, match="top' is encrypted"):
            read(top, secrets={1: "one"})

    def test_a_callable_is_asked_once_and_from_the_top(self, top: Path) -> None:
        asked = []

        def give(value: str) -> str:
            asked.append(value)
            return value

        disk = read(top, secret=lambda: give("two"), secrets={"low": lambda: give("one")})
        assert disk == self.DISK
        assert asked == ["two", "one"]

    def test_nobody_is_asked_for_what_cannot_be_read(self, folder: Path) -> None:
        luks = golden.load("luks-aes128cbc-essiv.qcow2")
        (folder / "luks").write_bytes(luks.data)
        overlay(folder / "over", "luks", secret="two")
        with pytest.raises(UnsupportedFeatureError, match="LUKS"):
            read(folder / "over", secret=pytest.fail)

    @pytest.mark.parametrize("key", [1.5, None, True])
    def test_a_key_that_names_nothing(self, key: object, top: Path) -> None:
        with pytest.raises(ArgumentError, match="by file name or depth"):
            read(top, secret="two", secrets={key: "one"})


class TestOptions:
    """What --image-opts says of the layers."""

    def opened(self, path: Path, text: dict[str, str], **secrets: str) -> bytes:
        options = layer_options({"file.filename": str(path), **text}, what="options")
        given: dict[str | int, Secret] = dict(secrets.items())
        with open_layers(path, secrets_by_layer(None, given), options=options) as image:
            return image.readall()

    def test_another_backing_file(self, folder: Path) -> None:
        overlay(folder / "over", "gone", backing_format="qcow2")
        raw(folder.parent / "other", b"x" * SIZE)
        text = {"backing.file.filename": str(folder.parent / "other"), "backing.driver": "raw"}
        # A person named it: no policy is asked.
        assert self.opened(folder / "over", text) == b"x" * SIZE

    def test_no_backing_file(self, folder: Path) -> None:
        overlay(folder / "over", "gone", backing_format="qcow2")
        assert self.opened(folder / "over", {"backing": ""}) == bytes(SIZE)

    def test_secrets_of_the_layers(self, folder: Path) -> None:
        overlay(folder / "low", "base.raw", backing_format="raw", secret="one")
        overlay(folder / "over", "low", secret="two")
        text = {"encrypt.key-secret": "s2", "backing.encrypt.key-secret": "s1"}
        assert self.opened(folder / "over", text, s1="one", s2="two") == BASE

    def test_options_for_what_is_not_there(self, folder: Path) -> None:
        overlay(folder / "alone", None)
        with pytest.raises(ArgumentError, match="but it has none"):
            self.opened(folder / "alone", {"backing.driver": "raw"})
        with pytest.raises(ArgumentError, match="has no external data file"):
            self.opened(folder / "alone", {"data-file.filename": "x"})
        overlay(folder / "over", "base.raw", backing_format="raw")
        with pytest.raises(ArgumentError, match="it has no backing file"):
            self.opened(folder / "over", {"backing.backing.read-only": "on"})

    def test_the_encryption_must_be_the_one_that_is_said(self, folder: Path) -> None:
        overlay(folder / "alone", None)
        with pytest.raises(ArgumentError, match=r"is not encrypted, but encrypt\.format=aes"):
            self.opened(folder / "alone", {"encrypt.format": "aes"})

    def test_levels_without_end(self) -> None:
        with pytest.raises(ArgumentError, match="more than 32 levels"):
            layer_options({"backing." * 40 + "driver": "raw", "file.filename": "a"}, what="x")

    def test_options_over_options(self) -> None:
        typed = LayerOptions(key_secret="a", backing=LayerOptions(format="raw"))
        stored = LayerOptions(path="p", key_secret="b", backing=LayerOptions(path="q"))
        joined = typed.over(stored)
        assert (joined.path, joined.key_secret) == ("p", "a")
        assert joined.backing == LayerOptions(path="q", format="raw")
        assert LayerOptions(no_backing=True).over(stored).backing is None


class TestModes:
    def test_only_the_image_itself_is_written(self, folder: Path) -> None:
        low = overlay(folder / "low", "base.raw", backing_format="raw")
        before = low.read_bytes()
        overlay(folder / "top", "low")
        low.chmod(0o444)
        fill(folder / "top", 100, b"new")
        with qcow2crypt.open(folder / "top", mode="r+") as image:
            assert image.writable()
            assert image.backing is not None
            with pytest.raises(ReadOnlyError):
                image.backing.pwrite(b"x", 0)
        assert low.read_bytes() == before
        assert (folder / "base.raw").read_bytes() == BASE
        assert read(folder / "top") == BASE[:100] + b"new" + BASE[103:]

    def test_a_corrupt_image_is_only_read(self, folder: Path) -> None:
        path = overlay(folder / "top", "base.raw", backing_format="raw")
        data = bytearray(path.read_bytes())
        data[79] |= 2
        path.write_bytes(data)
        assert read(path) == BASE
        with pytest.raises(ReadOnlyError, match="corrupt"):
            qcow2crypt.open(path, mode="r+")

    def test_qcow_version_1_is_only_read(self, tmp_path: Path) -> None:
        path = tmp_path / "old"
        path.write_bytes(golden.load("qcow1-aes.qcow").data)
        with pytest.raises(ReadOnlyError, match="version 1"):
            qcow2crypt.open(path, secret="x", mode="r+")

    def test_modes_that_are_none(self, folder: Path) -> None:
        for mode in ("w", "a", "", "r++"):
            with pytest.raises(ArgumentError, match="mode is 'r' or"):
                qcow2crypt.open(folder / "base.raw", mode=mode)

    def test_a_snapshot_takes_the_image_with_it(self) -> None:
        image = golden.load("aes-c512-snapshot.qcow2")
        (row,) = image.manifest["snapshots"]
        before = open_descriptors()
        for name in ("1", row["name"]):
            with qcow2crypt.open(image.path, image.secret, snapshot=name) as disk:
                assert golden.sha256(disk.readall()) == row["guest_sha256"]
        with pytest.raises(SnapshotNotFoundError, match="has no internal snapshot 'no'"):
            qcow2crypt.open(image.path, image.secret, snapshot="no")
        with pytest.raises(ArgumentError, match="can only be read"):
            qcow2crypt.open(image.path, image.secret, "r+", snapshot="1")
        assert open_descriptors() == before
