"""The words: every possible answer from made-up figures, and no number that is not theirs."""

from __future__ import annotations

import re

import pytest
from support.figures import DISK, FLAT, STEEP, by_size, conversion, near, wild

from qcow2crypt.bench.answer import Answer, answer
from qcow2crypt.bench.findings import (
    Samples,
    calls,
    effects,
    findings,
    rivals,
    without_start,
)
from qcow2crypt.bench.noise import judge
from qcow2crypt.bench.subjects import FROM_RAW, TO_RAW, Work

WILD = {
    conversion(cluster_size=512): wild(1.0, shift=1),
    conversion(cluster_size=65536): wild(0.8, shift=3),
}


def words(samples: Samples, control: list[float] | None = None) -> Answer:
    noise = judge(control or near(0.004, 50), [0.02], 0.0, 2)
    return answer(
        findings(samples, noise.factor),
        effects(samples),
        rivals(samples),
        list(calls(samples, "native:vaes256")),
        noise,
        disk_size=DISK,
        rounds=len(next(iter(samples.values()), ())),
        off="Switched off by a test.",
    )


def lines(told: Answer, about: str) -> tuple[str, ...]:
    return next((p.lines for p in told.text if p.about.startswith(about)), ())


def plain(seconds: dict[int, float]) -> dict[Work, list[float]]:
    return by_size(seconds, encryption="none")


def test_yes() -> None:
    told = words(by_size(STEEP) | by_size(STEEP, what=TO_RAW))
    assert told.verdict == "yes"
    head, first, second = lines(told, "Does performance")
    assert head.startswith("Yes. Each of the 2 kinds")
    assert first.startswith("qcow2crypt, raw to qcow2: clusters of 512 bytes take 4.00 times (")
    assert first.endswith("as long as 64 KiB; from 4 KiB on it makes no difference.")
    assert second.startswith("qcow2crypt, qcow2 to raw: clusters of 512 bytes")


def test_no() -> None:
    told = words(by_size(FLAT) | by_size(FLAT, what=TO_RAW))
    assert told.verdict == "no"
    head, *rows = lines(told, "Does performance")
    assert head.startswith("No. In this run none of the 2 kinds")
    assert all("no difference worth the name" in row for row in rows)


def test_in_part() -> None:
    told = words(by_size(STEEP) | by_size(FLAT, what=TO_RAW))
    assert told.verdict == "partly"
    assert lines(told, "Does")[0] == (
        "In part. Kinds of work on encrypted images that depend on it in this run: 1 of 2; "
        "that do not: 1."
    )


def test_in_part_with_what_cannot_be_told() -> None:
    told = words({**WILD, **by_size(STEEP, what=TO_RAW)})
    assert told.verdict == "partly"
    assert lines(told, "Does")[0].endswith("run: 1 of 2; where it cannot be told: 1.")
    assert any("cannot be told; 512 bytes took" in row for row in lines(told, "Does"))


def test_it_cannot_tell_from_wild_samples() -> None:
    told = words(WILD)
    assert told.verdict == "cannot tell"
    assert lines(told, "Does")[0].startswith("This run cannot tell: differences are too small")


def test_it_cannot_tell_on_a_noisy_machine() -> None:
    """Samples that would say no, but the control says that nothing can be believed."""
    told = words(by_size(FLAT), [1.0, 2.0] * 20)
    assert told.verdict == "cannot tell"
    assert "too noisy" in lines(told, "Can these figures")[0]


def test_it_cannot_tell_from_two_rounds() -> None:
    told = words(by_size(STEEP, rounds=2) | by_size({65536: 0.4}, 2, instructions="off"))
    assert told.verdict == "cannot tell"
    assert lines(told, "Does")[1].endswith("cannot be told: too few rounds.")
    assert lines(told, "Do the AES")[1].endswith("cannot be told, too few rounds.")


@pytest.mark.parametrize("samples", [{}, plain(STEEP), by_size({65536: 1.0})])
def test_nothing_measured(samples: Samples) -> None:
    told = words(samples)
    assert told.verdict == "nothing measured"
    assert lines(told, "Why") == ()


@pytest.mark.parametrize(
    ("seconds", "reason"),
    [
        ({512: 0.39, 65536: 0.1}, "it is not the encryption, but metadata and small requests"),
        ({512: 0.25, 65536: 0.1}, "metadata and smaller pieces for the cipher have both a part"),
        ({512: 0.1, 65536: 0.1}, "it is what encryption adds"),
    ],
)
def test_why(seconds: dict[int, float], reason: str) -> None:
    why = lines(words(by_size(STEEP) | plain(seconds)), "Why")
    assert why[0].startswith(
        "It is not the unit of the encryption: that is the sector of 512 bytes"
    )
    assert "32768 clusters of 512 bytes" in why[1]
    assert reason in why[2]


def test_a_reason_that_cannot_be_told() -> None:
    samples = by_size({512: 4.0, 65536: 0.2}) | {
        conversion(encryption="none", cluster_size=512): wild(2.0, shift=1),
        conversion(encryption="none", cluster_size=65536): wild(0.2, shift=2),
    }
    assert "where it comes from cannot be told" in lines(words(samples), "Why")[2]


def test_most_of_it_only_where_the_whole_interval_says_so() -> None:
    samples = by_size({512: 0.4, 65536: 0.1})
    samples[conversion(encryption="none", cluster_size=65536)] = [0.01] * 9
    samples[conversion(encryption="none", cluster_size=512)] = [
        0.01 + 0.3 * share for share in (0.8, 0.6, 0.8, 0.5, 0.8, 0.6, 0.8, 0.8, 0.5)
    ]
    assert "have both a part in it" in lines(words(samples), "Why")[2]


def test_where_plain_images_are_missing_no_reason_is_made_up() -> None:
    assert len(lines(words(by_size(STEEP)), "Why")) == 2


@pytest.mark.parametrize(
    ("long_call", "part"),
    [
        (2e-6, "at the speed of the long ones it would be 0.02"),
        (1.28e-4, "hardly matters"),
        (1.28e-3, "do not fit the caches"),
    ],
)
def test_what_the_cipher_does_alone(long_call: float, part: str) -> None:
    cipher = {
        Work("cipher", "native:vaes256", "encrypt", "aes", "allowed", 512): near(1e-6),
        Work("cipher", "native:vaes256", "encrypt", "aes", "allowed", 65536): near(long_call),
        Work("cipher", "pure", "encrypt", "aes", "off", 512): near(1e-3),
    }
    told = lines(words({**by_size(FLAT), **cipher}), "Why")
    assert [part in line for line in told if "The cipher alone" in line] == [True]


@pytest.mark.parametrize(
    ("who", "off", "part"),
    [
        ("qcow2crypt", 0.3, "3.00 times"),
        ("qemu-img", 0.3, "as long without AES instructions."),
        ("qemu-img", 0.1, "does not listen to the switches"),
        ("qcow2crypt", 0.1, "no difference was seen"),
        ("qemu-img", 0.05, "which is not to be expected: noise"),
    ],
)
def test_aes_instructions(who: str, off: float, part: str) -> None:
    samples = by_size(FLAT, who=who)
    samples |= by_size({512: off, 65536: off}, who=who, instructions="off")
    given, told = lines(words(samples), "Do the AES")
    assert given == "Switched off by a test."
    assert part in told
    assert "clusters of 64 KiB" in told  # one size is enough for words


def test_beside_qemu() -> None:
    told = words(by_size(FLAT) | by_size({65536: 0.5}, who="qemu-img"))
    assert lines(told, "Beside")[1].startswith(
        "qemu-img, raw to qcow2, clusters of 64 KiB, encrypted: 5.00 times ("
    )
    assert lines(words(by_size(FLAT)), "Beside") == ()


def test_ours_without_aes_instructions_is_held_beside_qemu_too() -> None:
    """Where the engine has none, its figures are those with instructions off."""
    samples = by_size(FLAT, instructions="off") | by_size(FLAT, who="qemu-img")
    assert len(lines(words(samples), "Beside")) == 2


def test_starting_is_taken_off() -> None:
    samples: dict[Work, list[float]] = by_size({65536: 0.11}, who="qemu-img")
    samples |= by_size({512: 0.101}, who="qemu-img")
    samples[Work("start", "qemu-img", FROM_RAW, "aes", "allowed", 512, 65536)] = [0.05, 0.1, 0.15]
    samples[conversion(cluster_size=512)] = [0.2] * 3
    found, missing = without_start({work: own[:3] for work, own in samples.items()})
    assert found[conversion(cluster_size=512)] == [0.2] * 3  # another program
    assert conversion("qemu-img", cluster_size=512) not in found
    assert [one.why for one in missing] == ["it takes hardly longer than starting the program"] * 2


def test_starting_is_taken_off_each_sample() -> None:
    samples = {
        conversion("qemu-img"): [0.3, 0.4, 0.5],
        Work("start", "qemu-img", FROM_RAW, "aes", "allowed", 512, 65536): [0.05, 0.1, 0.15],
    }
    found, missing = without_start(samples)
    assert found[conversion("qemu-img")] == pytest.approx([0.2, 0.3, 0.4])
    assert missing == []


@pytest.mark.parametrize(
    ("rounds", "sure", "more"), [(3, "75.0%", True), (9, "96.1%", False), (1, "0.0%", True)]
)
def test_how_sure_it_is(rounds: int, sure: str, more: bool) -> None:
    told = lines(words(by_size(STEEP, rounds)), "Can these")[1]
    assert f"from {rounds} round" in told
    assert sure in told
    assert ("--full" in told) is more


def test_every_number_in_the_words_is_of_the_figures() -> None:
    samples = by_size(STEEP)
    found = findings(samples, 1.0)[0].dependence
    row = lines(words(samples), "Does")[1]
    numbers = [float(number) for number in re.findall(r"\d+\.\d+", row)]
    assert numbers == [round(one, 2) for one in (found.ratio, found.low, found.high)]
