"""A verdict follows from evidence alone, and never says more than it holds."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcow2crypt.probe import VERDICTS
from qcow2crypt.probe.evidence import Evidence, KernelCount, SiteCount, TableCount
from qcow2crypt.probe.instructions import Site
from qcow2crypt.probe.meaning import meaning
from qcow2crypt.probe.record import Hit, Place
from qcow2crypt.probe.tables import Table
from qcow2crypt.probe.verdict import decide

PAYLOAD = (65536, 131072)
MORE = 4096  # blocks


def site(small: int, large: int, width: int = 16, path: str = "/lib/libnettle.so.8") -> SiteCount:
    found = Site(64, b"\x66\x0f\x38\xdd", "aesenclast", width, sure=True)
    return SiteCount(Place(path, small), found, small, large)


def table(small: int, large: int, *, vector: bool = False) -> TableCount:
    return TableCount(Place("/bin/qemu", small, data=True), Table(0, "Te0", vector), small, large)


def test_the_measured_cases() -> None:
    """Debian's qemu-img, libgcrypt and its self-tests, LUKS, builtin AES, SSSE3."""
    cases = [
        ((site(4096, 8192),), (table(70, 70),), "hardware", 1.0),
        ((site(2048, 4096), site(2049, 4097)), (), "hardware", 1.0),
        ((site(4096, 8192), site(4096, 8192), site(31, 31)), (), "hardware", 2.0),
        ((site(256, 512, 32), site(20, 276, 32)) * 4, (), "hardware", 1.0),
        ((), (table(1142, 2281),), "software", 0.0),
        ((site(353, 353),), (table(1142, 2281),), "software", 0.0),
        ((site(353, 353),), (), "unknown", 0.0),
        ((), (table(128, 256, vector=True),), "software", 0.0),
        ((site(16, 32, 64),) * 64, (), "hardware", 1.0),
        ((site(16, 17, 16),), (table(1142, 2281),), "software", 1 / 4096),
        ((site(2048, 4096),), (table(570, 1140),), "mixed", 0.5),
        ((site(2048, 4096),), (), "unknown", 0.5),
        ((), (), "unknown", 0.0),
    ]
    for sites, tables, kind, per_block in cases:
        found = decide(Evidence(PAYLOAD, sites, tables))
        assert found.per_block == pytest.approx(per_block)
        assert found.kind == kind


def test_the_kernel() -> None:
    used = Evidence(PAYLOAD, kernel=KernelCount(65536, 131072, ("cbc(aes)",), 1))
    assert decide(used).kind == "kernel"
    assert decide(replace(used, tables=(table(1142, 2281),))).kind == "mixed"
    tried = Evidence(PAYLOAD, (site(4096, 8192),), kernel=KernelCount(0, 0, (), 5))
    assert decide(tried).kind == "hardware"
    part = Evidence(PAYLOAD, kernel=KernelCount(0, 32768, ("cbc(aes)",), 1))
    assert decide(part).kind == "unknown"


counts = st.integers(0, 20_000)
sites = st.builds(site, counts, counts, st.sampled_from([16, 32, 64]))
tables = st.builds(lambda a, b, v: table(a, b, vector=v), counts, counts, st.booleans())
kernels = st.builds(lambda a, b: KernelCount(a, b, ("cbc(aes)",), 1), counts, counts)
hits = st.sampled_from([{}, {Place("/x", 1): Hit(site(0, 0).site, 1, b"", ())}])
evidences = st.builds(
    Evidence,
    st.sampled_from([PAYLOAD, (0, 0), (65536, 65536)]),
    st.lists(sites, max_size=4).map(tuple),
    st.lists(tables, max_size=4).map(tuple),
    kernels,
    hits,
    uncounted=st.sampled_from([frozenset(), frozenset({Place("/x", 1)})]),
    failure=st.sampled_from(["", "", "", "it crashed"]),
)


@given(evidences)
def test_never_more_than_was_seen(evidence: Evidence) -> None:
    found = decide(evidence)
    assert found.kind in VERDICTS
    by_instructions = sum(
        (each.large - each.small) * each.site.width for each in evidence.sites
        if each.large > each.small
    )  # fmt: skip
    grows = any(each.large > each.small for each in evidence.tables)
    by_kernel = evidence.kernel.large > evidence.kernel.small
    if found.kind == "hardware":
        assert by_instructions >= 0.95 * 16 * MORE
        assert not any(each.large - each.small >= 0.05 * MORE for each in evidence.tables)
    if found.kind == "software":
        assert grows
        assert not evidence.uncounted
        assert found.per_block <= 0.005
    if found.kind == "kernel":
        assert by_kernel
    if found.kind == "mixed":
        assert sum([by_instructions > 0, grows, by_kernel]) > 1
    if evidence.failure or evidence.more_blocks <= 0:
        assert found.kind == "unknown"
    if found.kind != "unknown":
        assert found.by or by_kernel
    assert found.why
    assert meaning(found, evidence, True, {})


@given(evidences, st.integers(0, 100_000))
def test_what_is_done_once_changes_nothing(evidence: Evidence, once: int) -> None:
    """A self-test, or a key schedule: the same in both runs."""
    more = replace(
        evidence,
        sites=tuple(
            each._replace(small=each.small + once, large=each.large + once)
            for each in evidence.sites
        ),
        tables=tuple(
            each._replace(small=each.small + once, large=each.large + once)
            for each in evidence.tables
        ),
    )
    before, after = decide(evidence), decide(more)
    assert (before.kind, before.per_block, before.table_reads) == (
        after.kind,
        after.per_block,
        after.table_reads,
    )


@given(evidences)
def test_the_order_of_what_was_seen_changes_nothing(evidence: Evidence) -> None:
    turned = replace(evidence, sites=evidence.sites[::-1], tables=evidence.tables[::-1])
    assert decide(turned).kind == decide(evidence).kind


@pytest.mark.parametrize(
    ("evidence", "has_aes", "environment", "expected"),
    [
        (Evidence(PAYLOAD, (site(4096, 8192),)), True, {}, "NETTLE_FAT_OVERRIDE=none"),
        (
            Evidence(PAYLOAD, (site(4096, 8192, path="/x/libgnutls.so.30"),)),
            True,
            {},
            "GNUTLS_CPUID_OVERRIDE=0x4",
        ),
        (Evidence(PAYLOAD, (), (table(0, 1140),)), False, {}, "has no AES instructions"),
        (Evidence(PAYLOAD, (), (table(0, 1140),)), None, {}, "is not known"),
        (Evidence(PAYLOAD, (), (table(0, 1140),)), True, {}, "a build with nettle, gcrypt or"),
        (
            Evidence(PAYLOAD, (), (table(0, 1140),)),
            True,
            {"NETTLE_FAT_OVERRIDE": "none"},
            "NETTLE_FAT_OVERRIDE in the environment may be the reason",
        ),
        (Evidence(PAYLOAD, (), (table(0, 128, vector=True),)), True, {}, "with SSSE3"),
        (Evidence(PAYLOAD, kernel=KernelCount(0, 65536)), True, {}, "/proc/crypto"),
        (Evidence((0, 0)), True, {}, "{}"),
        (Evidence(PAYLOAD, (site(4096, 8192),), where="processor of X"), True, {}, "not proven"),
    ],
)
def test_the_sentence_for_the_user(
    evidence: Evidence, has_aes: bool | None, environment: dict[str, str], expected: str
) -> None:
    text = meaning(decide(evidence), evidence, has_aes, environment)
    assert expected in text
    assert text.endswith(".")
