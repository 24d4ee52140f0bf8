/* What must be refused: each time with the right status, and before any byte is written. */
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "check.h"

#define SECTOR 512
#define RUN (2 * SECTOR)
#define IVS 32
#define ARENA 8192

static uint8_t arena[ARENA], before[ARENA];
static uint8_t *const ivs = arena, *const src = arena + 1024, *const dst = arena + 4096;

static void reset(void)
{
    fill(before, sizeof before, 99);
    memcpy(arena, before, sizeof arena);
}

static void refused(qc_status found, qc_status wanted, const char *what, size_t number)
{
    CHECK(found == wanted, "%s, %zu: status %d, not %d", what, number, (int)found, (int)wanted);
    CHECK(!memcmp(arena, before, sizeof arena), "%s, %zu: refused, but bytes were written", what,
          number);
}

/* ... and the same must work: a check that refuses everything would pass all else here. */
static void accepted(qc_status found, const char *what, size_t number)
{
    CHECK(found == QC_OK, "%s, %zu: status %d, not 0", what, number, (int)found);
    CHECK(memcmp(arena, before, sizeof arena) != 0, "%s, %zu: nothing was written", what, number);
    reset();
}

static void bad_sizes(operation *op, const qc_key *key)
{
    static const size_t sectors[] = {0, 1, 8, 15, 17, 24, 511, 513, 520, SIZE_MAX, SIZE_MAX - 14};
    static const size_t lengths[] = {1, 15, 16, 511, 513, RUN - 1, RUN + 1, RUN - 16, RUN + 16};
    static const size_t iv_lengths[] = {0, 1, 15, 16, 31, 33, 48, SIZE_MAX, SIZE_MAX - 15};
    const size_t most = SIZE_MAX - 15; /* the greatest multiple of 16 */

    for (size_t i = 0; i < sizeof sectors / sizeof *sectors; i++) {
        refused(op(key, ivs, IVS, src, dst, RUN, sectors[i]), QC_BAD_SECTOR, "sector size", i);
        refused(op(key, ivs, 0, src, dst, 0, sectors[i]), QC_BAD_SECTOR, "and no data", i);
    }
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++)
        refused(op(key, ivs, IVS, src, dst, lengths[i], SECTOR), QC_BAD_LENGTH, "length", i);
    for (size_t i = 0; i < sizeof iv_lengths / sizeof *iv_lengths; i++)
        refused(op(key, ivs, iv_lengths[i], src, dst, RUN, SECTOR), QC_BAD_LENGTH, "IVs", i);
    refused(op(key, ivs, 16, src, dst, 0, SECTOR), QC_BAD_LENGTH, "an IV too many", 0);
    refused(op(key, ivs, IVS, src, dst, RUN, most), QC_BAD_LENGTH, "sector > run", 0);
    /* Where count * 16 or count * sector_size would wrap around. */
    refused(op(key, ivs, IVS, src, dst, most, 16), QC_BAD_LENGTH, "too long", 0);
    refused(op(key, ivs, 0, src, dst, most, 32), QC_BAD_LENGTH, "too long", 1);
    refused(op(key, ivs, most, src, dst, most, 16), QC_OVERLAP, "all memory", 0);
    refused(op(key, ivs, most, dst, dst, most, 16), QC_OVERLAP, "all memory", 1);
    refused(op(key, ivs, 16, src, dst, most, most), QC_OVERLAP, "all memory", 2);
    refused(op(key, ivs, 16, dst, src, most, most), QC_OVERLAP, "all memory", 3);
}

static void bad_overlaps(operation *op, const qc_key *key)
{
    uint8_t *const middle = arena + ARENA / 2;
    for (size_t shift = 1; shift < RUN; shift++) {
        refused(op(key, ivs, IVS, middle, middle + shift, RUN, SECTOR), QC_OVERLAP, "behind", shift);
        refused(op(key, ivs, IVS, middle, middle - shift, RUN, SECTOR), QC_OVERLAP, "before", shift);
    }
    accepted(op(key, ivs, IVS, middle, middle + RUN, RUN, SECTOR), "just behind", RUN);
    accepted(op(key, ivs, IVS, middle, middle - RUN, RUN, SECTOR), "just before", RUN);
    accepted(op(key, ivs, IVS, middle, middle, RUN, SECTOR), "in place", 0);
    for (size_t shift = 1; shift < RUN + IVS; shift++) {
        const uint8_t *inside = middle - IVS + shift;
        refused(op(key, inside, IVS, src, middle, RUN, SECTOR), QC_OVERLAP, "IVs in dst", shift);
        refused(op(key, inside, IVS, middle, middle, RUN, SECTOR), QC_OVERLAP, "in place", shift);
        accepted(op(key, inside, IVS, middle, src, RUN, SECTOR), "IVs in src", shift);
    }
    accepted(op(key, middle - IVS, IVS, src, middle, RUN, SECTOR), "IVs just before dst", 0);
    accepted(op(key, middle + RUN, IVS, src, middle, RUN, SECTOR), "IVs just behind dst", 0);
}

static void nothing_to_do(operation *op, const qc_key *key)
{
    refused(op(key, ivs, 0, src, dst, 0, SECTOR), QC_OK, "no sectors", 0);
    refused(op(key, ivs, 0, dst, dst, 0, SECTOR), QC_OK, "no sectors", 1);
    refused(op(key, NULL, 0, NULL, NULL, 0, SECTOR), QC_OK, "no sectors, no buffers", 0);
}

static void bad_blocks(operation *op, const qc_key *key)
{
    uint8_t *const middle = arena + ARENA / 2;
    for (size_t length = 1; length < 64; length++)
        if (length % 16)
            refused(op(key, NULL, 0, src, dst, length, 0), QC_BAD_LENGTH, "blocks", length);
    for (size_t shift = 1; shift < 160; shift++) {
        refused(op(key, NULL, 0, middle, middle + shift, 160, 0), QC_OVERLAP, "blocks", shift);
        refused(op(key, NULL, 0, middle, middle - shift, 160, 0), QC_OVERLAP, "blocks", shift);
    }
    refused(op(key, NULL, 0, src, dst, SIZE_MAX - 15, 0), QC_OVERLAP, "all memory, blocks", 0);
    refused(op(key, NULL, 0, NULL, NULL, 0, 0), QC_OK, "no blocks", 0);
    accepted(op(key, NULL, 0, middle, middle + 160, 160, 0), "blocks just behind", 0);
    accepted(op(key, NULL, 0, middle, middle - 160, 160, 0), "blocks just before", 0);
}

static void bad_keys(int kernel)
{
    uint8_t bytes[65];
    qc_status status;
    fill(bytes, sizeof bytes, 7);
    for (size_t length = 0; length < sizeof bytes; length++) {
        if (length == 16 || length == 24 || length == 32)
            continue;
        status = QC_OK;
        CHECK(!qc_key_new(kernel, bytes, length, &status), "a key of %zu bytes was taken", length);
        CHECK(status == QC_BAD_KEY, "a key of %zu bytes: status %d", length, (int)status);
    }
    CHECK(!qc_key_new(kernel, bytes, SIZE_MAX, &status) && status == QC_BAD_KEY, "a huge key");
}

static void bad_kernels(void)
{
    const int numbers[] = {-1, INT_MIN, qc_kernel_count(), INT_MAX};
    const uint8_t bytes[16] = {0};
    qc_status status;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        status = QC_OK;
        CHECK(!qc_kernel_name(numbers[i]) && !qc_kernel_needs(numbers[i]), "kernel %zu exists", i);
        CHECK(qc_self_test(numbers[i]) == QC_NO_KERNEL, "kernel %zu has a self-test", i);
        CHECK(!qc_key_new(numbers[i], bytes, 16, &status), "kernel %zu took a key", i);
        CHECK(status == QC_NO_KERNEL, "kernel %zu: status %d", i, (int)status);
    }
    for (int kernel = 0; kernel < qc_kernel_count(); kernel++) {
        if (!(qc_kernel_needs(kernel) & ~qc_cpu_features()))
            continue;
        status = QC_OK;
        CHECK(!qc_key_new(kernel, bytes, 16, &status) && status == QC_NO_FEATURE,
              "%s: this CPU lacks it, status %d", qc_kernel_name(kernel), (int)status);
    }
}

static void plain64_edges(void)
{
    for (size_t length = 1; length < 64; length++)
        if (length % 16)
            refused(qc_plain64(0, dst, length), QC_BAD_LENGTH, "plain64", length);
    refused(qc_plain64(UINT64_MAX, dst, 32), QC_OVERFLOW, "plain64", 1);
    refused(qc_plain64(UINT64_MAX - 299, dst, 301 * 16), QC_OVERFLOW, "plain64", 2);
    refused(qc_plain64(UINT64_MAX - (SIZE_MAX / 16) + 2, dst, SIZE_MAX - 15), QC_OVERFLOW,
            "plain64", 3);
    refused(qc_plain64(UINT64_MAX, NULL, 0), QC_OK, "plain64 of nothing", 0);
    accepted(qc_plain64(UINT64_MAX, dst, 16), "the last sector of all", 0);
    accepted(qc_plain64(UINT64_MAX - 1, dst, 32), "the last two", 0);
    CHECK(qc_plain64(0xffffffff, dst, 32) == QC_OK, "plain64 past 2**32");
    for (int i = 0; i < 32; i++)
        CHECK(dst[i] == (i < 4 ? 0xff : i == 20 ? 1 : 0), "plain64 past 2**32: byte %d", i);
    reset();
}

void test_arguments(void)
{
    const uint8_t bytes[32] = {1, 2, 3};
    operation *const both[] = {qc_cbc_encrypt, qc_cbc_decrypt};

    reset();
    bad_kernels();
    plain64_edges();
    qc_key_free(NULL);
    for (int kernel = 0; kernel < qc_kernel_count(); kernel++) {
        qc_key *key;
        if (!usable(kernel))
            continue;
        bad_keys(kernel);
        key = new_key(kernel, bytes, sizeof bytes);
        for (int i = 0; i < 2; i++) {
            bad_sizes(both[i], key);
            bad_overlaps(both[i], key);
            nothing_to_do(both[i], key);
        }
        bad_blocks(ecb_encrypt, key);
        bad_blocks(ecb_decrypt, key);
        qc_key_free(key);
        printf("%s arguments\n", qc_kernel_name(kernel));
    }
}
