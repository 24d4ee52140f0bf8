"""SectorCipher does what the textbook does, with every engine."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import every_engine, vectors

from qcow2crypt import engines
from qcow2crypt.crypt import ivgen
from qcow2crypt.crypt.cipher import SectorCipher
from qcow2crypt.errors import ArgumentError, EngineUnavailableError, SecretError
from qcow2crypt.reference.sectors import decrypt_sectors, encrypt_sectors
from qcow2crypt.testing import strategies
from qcow2crypt.testing.runs import Run, make_run

each_engine = pytest.mark.parametrize("name", every_engine.ENGINES)


def hunter2(name: str) -> SectorCipher:
    return SectorCipher.from_passphrase("hunter2", engine=every_engine.engine(name))


@each_engine
@pytest.mark.parametrize("generator", ivgen.names())
@given(data=st.data(), run=strategies.runs(max_bytes=1 << 14))
@settings(max_examples=20)
def test_the_textbook_gives_the_same_bytes(
    name: str, generator: str, data: st.DataObject, run: Run
) -> None:
    first = data.draw(strategies.sector_numbers(run.count))
    cipher = SectorCipher(
        run.key,
        iv_generator=generator,
        engine=every_engine.engine(name),
        sector_size=run.sector_size,
    )
    secret = encrypt_sectors(run.data, first, run.key, sector_size=run.sector_size, ivgen=generator)
    plain = decrypt_sectors(run.data, first, run.key, sector_size=run.sector_size, ivgen=generator)
    assert cipher.encrypt(run.data, first) == secret
    assert cipher.decrypt(run.data, first) == plain
    buffer = bytearray(run.data)
    cipher.encrypt_into(buffer, buffer, first)
    assert buffer == secret
    cipher.decrypt_into(secret, buffer, first)
    assert buffer == run.data


@each_engine
def test_what_qemu_io_wrote(name: str) -> None:
    """512 zero bytes under "hunter2", read from an image made by qemu-io 7.2.22."""
    cipher = hunter2(name)
    for sector, begin, end in (
        (
            0,
            "34d652ea3385b68510d3cf871a6e7fbb579a85bfc605de4b43a3f8bd6c61c3e4",
            "abc6df26fe848efe0e194631e2b3810f",
        ),
        (
            1,
            "34d4fd9fcba0bd00d4dd20b205ecfd506e255e348316f16b5f70c64d197d47d5",
            "a8e621fec06b3bdafd61a650fadf29a4",
        ),
        (0x200000000, "49a0bc3868cf1aaef9f46f7fdc6e491af7e197cba44c5b17025d9a91d30edee3", ""),
    ):
        secret = cipher.encrypt(bytes(512), sector).hex()
        assert secret.startswith(begin)
        assert secret.endswith(end)
    assert cipher.decrypt(bytes(512), 0).hex() == "fc7fca58bd98ce7403ef3992f9e555b5" * 32


@each_engine
def test_the_sector_vectors(name: str) -> None:
    rows = vectors.load("sectors")["cases"]
    assert rows
    for row in rows:
        # The IV of plain64 is the sector number.
        first = int.from_bytes(bytes.fromhex(row["iv"]), "little")
        cipher = SectorCipher(bytes.fromhex(row["key"]), engine=every_engine.engine(name))
        plaintext, ciphertext = bytes.fromhex(row["plaintext"]), bytes.fromhex(row["ciphertext"])
        assert cipher.encrypt(plaintext, first) == ciphertext, row["id"]
        assert cipher.decrypt(ciphertext, first) == plaintext, row["id"]


@pytest.mark.parametrize("name", [name for name in every_engine.ENGINES if name != "reference"])
@pytest.mark.parametrize("count", [2047, 2048, 2049, 4097])
def test_a_long_run_is_the_two_parts_of_it(name: str, count: int) -> None:
    run, cipher, first = make_run(1, count), hunter2(name), 2**33 - 1000
    whole = cipher.encrypt(run.data, first)
    cut = 1333
    assert whole[: 512 * cut] == cipher.encrypt(run.data[: 512 * cut], first)
    assert whole[512 * cut :] == cipher.encrypt(run.data[512 * cut :], first + cut)
    assert cipher.decrypt(whole, first) == run.data


def test_a_sector_that_is_longer_than_what_is_done_at_once() -> None:
    run = make_run(1, 4096)
    cipher = SectorCipher(run.key, sector_size=2 << 20)
    secret = cipher.encrypt(bytes(2 << 20), 7)
    assert secret[:512] == SectorCipher(run.key).encrypt(bytes(512), 7)
    assert cipher.decrypt(secret, 7) == bytes(2 << 20)


@each_engine
def test_no_data_is_nothing_to_do(name: str) -> None:
    cipher = hunter2(name)
    assert cipher.encrypt(b"", 0) == b""
    assert cipher.decrypt(b"", 2**64 - 1) == b""
    cipher.encrypt_into(b"", bytearray(), 5)


@pytest.mark.parametrize("way", ["encrypt_into", "decrypt_into"])
@pytest.mark.parametrize(
    ("length", "size", "first", "message"),
    [
        (511, 511, 0, "511 bytes are not whole sectors of 512 bytes"),
        (1024, 512, 0, "output has 512 bytes, input has 1024"),
        (1024, 1536, 0, "output has 1536 bytes, input has 1024"),
        (3 << 20, 2 << 20, 0, "output has 2097152 bytes, input has 3145728"),
        (1024, 1024, -1, "2 sectors from -1 on are not all in 0 to 2"),
        (1024, 1024, 2**64 - 1, "2 sectors from 18446744073709551615 on are not all"),
        # All pieces are looked at before the first is worked on.
        (3 << 20, 3 << 20, 2**64 - 5000, "6144 sectors from 18446744073709546616 on"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_written(
    way: str, length: int, size: int, first: int, message: str
) -> None:
    out = bytearray(b"\xee" * size)
    cipher = SectorCipher(bytes(16))
    with pytest.raises(ArgumentError, match=message):
        getattr(cipher, way)(bytes(length), out, first)
    assert out == b"\xee" * size


@each_engine
@pytest.mark.parametrize("way", ["encrypt_into", "decrypt_into"])
def test_a_target_that_is_read_only(name: str, way: str) -> None:
    out = bytes(512)
    with pytest.raises(ArgumentError, match="the output buffer is read-only"):
        getattr(hunter2(name), way)(bytes(512), out, 0)
    assert out == bytes(512)


def test_what_a_cipher_cannot_be_made_of() -> None:
    with pytest.raises(ArgumentError, match="an AES key has 16, 24 or 32 bytes, not 7"):
        SectorCipher(b"hunter2")
    with pytest.raises(ArgumentError, match="there is no IV generator 'null'"):
        SectorCipher(bytes(16), iv_generator="null")
    assert SectorCipher(bytes(16), sector_size=16).sector_size == 16
    for size in (0, -16, 8, 500):
        with pytest.raises(ArgumentError, match=f"sector size {size} is not"):
            SectorCipher(bytes(16), sector_size=size)
    with pytest.raises(EngineUnavailableError, match="'fast' is not available"):
        SectorCipher(bytes(16), engine="fast")
    with pytest.raises(SecretError):
        SectorCipher.from_passphrase("\udc80")


def test_a_cipher_tells_what_it_is_and_never_its_key() -> None:
    cipher = SectorCipher.from_passphrase("open sesame", engine="pure")
    assert (cipher.engine, cipher.iv_generator, cipher.sector_size) == ("pure", "plain64", 512)
    assert repr(cipher) == "<SectorCipher plain64, sectors of 512 bytes, engine 'pure'>"
    assert SectorCipher(bytes(16)).engine == engines.get().name


def test_a_closed_cipher_has_no_key_and_does_nothing() -> None:
    with SectorCipher(bytes(16), engine="pure") as cipher:
        assert cipher.encrypt(bytes(512), 0)
    assert cipher._key is None
    assert cipher._ivs is None
    assert repr(cipher).endswith("closed>")
    cipher.close()
    for call in (cipher.encrypt, cipher.decrypt):
        with pytest.raises(ArgumentError, match="is closed"):
            call(bytes(512), 0)
    out = bytearray(512)
    with pytest.raises(ArgumentError, match="is closed"):
        cipher.encrypt_into(out, out, 0)
