"""Which other files an image may make us open."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from support.chains import SIZE, overlay, raw

import qcow2crypt
from qcow2crypt.errors import ArgumentError, ExternalReferenceError
from qcow2crypt.image.hostfile import HostFile
from qcow2crypt.image.policy import Policy, home_of


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The image's directory, with one below it and a secret file beside it."""
    (tmp_path / "home" / "sub").mkdir(parents=True)
    raw(tmp_path / "secret", b"s" * SIZE)
    raw(tmp_path / "home" / "base", b"b" * SIZE)
    raw(tmp_path / "home" / "sub" / "base", b"u" * SIZE)
    return tmp_path / "home"


def first_byte(path: Path, **how: object) -> bytes:
    with qcow2crypt.open(path, **how) as image:  # type: ignore[arg-type]
        return image.pread(1, 0)


@pytest.mark.parametrize(
    ("name", "byte"), [("base", b"b"), ("sub/base", b"u"), ("sub/../base", b"b"), ("./base", b"b")]
)
def test_beneath(name: str, byte: bytes, home: Path) -> None:
    assert first_byte(overlay(home / "top", name, backing_format="raw")) == byte


@pytest.mark.parametrize("name", ["../secret", "sub/../../secret", "ABSOLUTE", "link", "sub/link"])
def test_outside(name: str, home: Path) -> None:
    (home / "link").symlink_to("../secret")
    (home / "sub" / "link").symlink_to(home.parent / "secret")
    name = name.replace("ABSOLUTE", str(home.parent / "secret"))
    path = overlay(home / "top", name, backing_format="raw")
    with pytest.raises(ExternalReferenceError) as caught:
        first_byte(path)
    assert (caught.value.image, caught.value.reference) == (str(path), name)
    assert "--external any" in str(caught.value)
    assert "external='any'" in str(caught.value)
    assert first_byte(path, external="any") == b"s"


def test_a_name_that_only_begins_alike_is_not_beneath(home: Path) -> None:
    (home.parent / "home2").mkdir()
    raw(home.parent / "home2" / "base", b"x" * SIZE)
    path = overlay(home / "top", "../home2/base", backing_format="raw")
    with pytest.raises(ExternalReferenceError):
        first_byte(path)


def test_links_that_stay_inside(home: Path) -> None:
    (home / "link").symlink_to("sub/base")
    assert first_byte(overlay(home / "top", "link", backing_format="raw")) == b"u"


def test_every_layer_is_held_to_the_directory_of_the_first(home: Path) -> None:
    overlay(home / "sub" / "low", "../base", backing_format="raw")
    assert first_byte(overlay(home / "top", "sub/low")) == b"b"
    # Opened by itself its own directory counts.
    with pytest.raises(ExternalReferenceError):
        first_byte(home / "sub" / "low")


def test_an_image_that_is_a_link_counts_where_the_link_lies(home: Path) -> None:
    overlay(home / "sub" / "real", "base", backing_format="raw")
    (home / "link").symlink_to("sub/real")
    assert first_byte(home / "link") == b"b"
    (home.parent / "folder").symlink_to("home")
    assert first_byte(home.parent / "folder" / "link") == b"b"


def test_none(home: Path) -> None:
    path = overlay(home / "top", "base", backing_format="raw")
    with pytest.raises(ExternalReferenceError, match="with external 'none'"):
        first_byte(path, external="none")
    assert first_byte(home / "base", external="none", format="raw") == b"b"


def test_a_word_that_is_none(home: Path) -> None:
    with pytest.raises(ArgumentError, match="beneath, any, none"):
        first_byte(home / "base", external="all")


def test_file_objects(home: Path) -> None:
    path = overlay(home / "top", "base", backing_format="raw")
    with path.open("rb") as file, qcow2crypt.open(file) as image:
        assert image.pread(1, 0) == b"b"  # its name is its place
    memory = io.BytesIO(path.read_bytes())
    for external in ("beneath", "any"):
        with pytest.raises(ExternalReferenceError, match="no directory"):
            qcow2crypt.open(memory, external=external)
    absolute = overlay(home / "other", str(home / "base"), backing_format="raw")
    memory = io.BytesIO(absolute.read_bytes())
    with pytest.raises(ExternalReferenceError, match="no directory"):
        qcow2crypt.open(memory)
    with qcow2crypt.open(memory, external="any") as image:
        assert image.pread(1, 0) == b"b"


def test_a_file_object_with_the_name_of_another_file(home: Path) -> None:
    memory = io.BytesIO(b"")
    memory.name = str(home / "base")
    assert home_of(HostFile(memory)) is None


def test_a_link_that_changes_while_it_is_opened(home: Path) -> None:
    policy = Policy("beneath", str(home))
    (home / "link").symlink_to("base")
    policy.check(str(home / "link"), image="i", reference="link")
    file = HostFile(home / "link")
    (home / "link").unlink()
    (home / "link").symlink_to("sub/base")
    with pytest.raises(ExternalReferenceError, match="changed while it was opened"):
        policy.check_opened(file, str(home / "link"), image="i", reference="link")
    file.close()
