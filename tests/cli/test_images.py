"""What a word of the command line names: paths, image options, json:."""

from __future__ import annotations

import pytest

from qcow2crypt.cli.failures import CommandError
from qcow2crypt.cli.images import ImageName, name_image
from qcow2crypt.image.names import LayerOptions


def named(text: str, *, image_opts: bool = False, given: str | None = None) -> ImageName:
    return name_image(text, image_opts=image_opts, given_format=given)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("a", "a"),
        ("/x/a,b=c", "/x/a,b=c"),
        ("file:a", "a"),
        ("file:file:a", "file:a"),
        ("./nbd:a", "./nbd:a"),
        ("2026-11-22T10:00.qcow2", "2026-11-22T10:00.qcow2"),
        ("-", "-"),
        (" ", " "),
    ],
)
def test_a_path_is_a_path(text: str, path: str) -> None:
    plain, raw = LayerOptions(path=path), LayerOptions(path=path, format="raw")
    assert named(text) == ImageName(text, path, options=plain)
    assert named(text, given="raw") == ImageName(text, path, "raw", options=raw)


@pytest.mark.parametrize(
    "text", ["nbd:localhost:1", "https://x/y", "ssh://h/i", "rbd:pool/x", "nbd+unix:///a?b"]
)
def test_a_protocol_is_refused_by_name(text: str) -> None:
    with pytest.raises(CommandError, match="only local files can be opened"):
        named(text)


@pytest.mark.parametrize("text", ["", "file:", "a\0b"])
def test_no_name_at_all(text: str) -> None:
    with pytest.raises(CommandError, match="the file name"):
        named(text)


OPTIONS = "driver=qcow2,encrypt.format=aes,encrypt.key-secret=s,file.driver=file,file.filename=a,,b"
FLAT = """{'driver': 'qcow2', 'encrypt.format': 'aes', 'encrypt.key-secret': 's',
    'file.filename': 'a,b'}"""
DEEP = """{"driver": "qcow2", "encrypt": {"format": "aes", "key-secret": "s"},
    "file": {"driver": "host_device", "filename": "a,b"}}"""


def test_many_ways_to_name_one_image() -> None:
    names = [named(OPTIONS, image_opts=True), named(f"json:{FLAT}"), named(f"json:{DEEP}")]
    for name in names:
        options = LayerOptions("a,b", "qcow2", "s", "aes")
        assert name == ImageName(name.text, "a,b", "qcow2", "s", "aes", options=options)


def test_the_format_may_be_left_out() -> None:
    assert named("file.filename=a", image_opts=True).format is None
    assert named("driver=file,filename=a", image_opts=True).format == "raw"
    assert named("json:{'driver':'qcow2','file.filename':'a'}", given="raw").format == "raw"
    assert named("file.filename=a,read-only", image_opts=True).read_only


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.qcow2", "file.filename=PATH"),
        ("driver=qcow2", "file.filename=PATH is missing"),
        ("file=a", "name the file with file.filename"),
        ("filename=a", "file.filename=PATH is missing"),
        ("driver=luks,file.filename=a", "'luks' is not supported yet; supported: qcow2, qcow, raw"),
        ("driver=nope,file.filename=a", "'nope' is unknown; supported: qcow2, qcow, raw"),
        ("file.filename=a,backing=node", "backing names a node; use backing.driver"),
        ("file.filename=a,backing.driver=luks", "backing.driver 'luks' is not supported yet"),
        ("file.filename=a,backing.bogus=1", "unknown option 'backing.bogus'"),
        ("file.filename=a,backing.backing.offset=1", "'backing.backing.offset' is not supported"),
        ("file.filename=a,backing.file.filename=nbd:x", "only local files"),
        ("driver=raw,file.filename=a,backing.driver=raw", "unknown option 'backing.driver'"),
        ("file.filename=a,data-file.node-name=b", "data-file.file.filename=PATH is missing"),
        ("driver=raw,offset=1,file.filename=a", "a part of a raw file"),
        ("file.driver=nbd,file.filename=a", "file.driver 'nbd' is not supported yet"),
        ("file.filename=nbd:a", "only local files"),
        ("file.filename=a,bogus=1", "unknown option 'bogus'"),
        ("file.filename=a,encrypt.bogus=1", "unknown option 'encrypt.bogus'"),
        ("driver=raw,encrypt.key-secret=s,file.filename=a", "unknown option 'encrypt.key-secret'"),
        ("file.filename=a,read-only=maybe", "read-only is 'on' or 'off'"),
        ("file.filename=a,b\x1b=1", r"unknown option 'b\\x1b'"),
    ],
)
def test_options_that_cannot_be(text: str, message: str) -> None:
    with pytest.raises(CommandError, match=message):
        named(text, image_opts=True)


def test_two_formats() -> None:
    with pytest.raises(CommandError, match="exclude each other"):
        named("file.filename=a", image_opts=True, given="raw")
    with pytest.raises(CommandError, match="format 'vmdk' is not supported yet"):
        named("a", given="vmdk")


def test_what_is_said_of_the_layers_below() -> None:
    text = "file.filename=a,backing.encrypt.key-secret=s,backing.backing.file.filename=c"
    flat = "json:{'file.filename':'a','backing':{'encrypt.key-secret':'s','backing':"
    deep = named(f"{flat}{{'file':{{'filename':'c'}}}}}}}}")
    for name in (named(text, image_opts=True), deep):
        below = name.options.backing
        assert below is not None
        assert below.backing is not None
        assert (below.path, below.key_secret, below.backing.path) == (None, "s", "c")


@pytest.mark.parametrize("text", ["json:{'file.filename':'a','backing':null}",
                                  "json:{'file.filename':'a','backing':''}"])  # fmt: skip
def test_no_backing_file(text: str) -> None:
    assert named(text).options.no_backing


def test_a_data_file() -> None:
    for text in ("data-file.filename=b", "data-file.driver=raw,data-file.file.filename=b"):
        found = named(f"file.filename=a,{text}", image_opts=True)
        assert found.options.data_file == "b"
