/* Runs of every length between guards, compared with the plain AES of the tests. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "plain_aes.h"

#define SECTOR_MAX 4096
#define MARGIN 64 /* bytes beside dst that are looked at: one vector of the widest kernel */

/* Around the lane counts of all kernels: 1 to 12 vectors of 1, 2 or 4 blocks, and groups of them. */
static const size_t around[] = {1,  2,  3,  4,  5,  7,  8,  9,  10, 11, 12, 13, 15, 16, 17, 19, 20,
                                21, 23, 24, 25, 31, 32, 33, 39, 40, 41, 47, 48, 49, 64, 65, 97};
static const size_t sector_sizes[] = {16, 32, 48, 64, 144, 256, 512, 528, 1024, SECTOR_MAX};

#define LENGTH(array) (sizeof(array) / sizeof *(array))

/* Around the lengths from which kernels go another way through memory: 1024 and 4097 sectors from
 * one buffer to another, 2048 and 8193 in place. */
static const size_t wide[] = {1023, 1024, 1025, 1029, 1088, 2047, 2048, 2049, 4096, 4097, 8197};

/* One set of inputs and the answers of the plain AES to them; a shorter run is the begin of it. */
typedef struct {
    uint8_t key[32];
    size_t key_length, sector_size, count;
    uint8_t *ivs, *plain, *cbc, *ecb;
} answers;

static answers *make_answers(size_t key_length, size_t sector_size, size_t count)
{
    answers *a = calloc(1, sizeof *a);
    const size_t length = count * sector_size;
    uint8_t keys[15][16];
    int rounds;

    CHECK(a && (a->ivs = malloc(count * 16)) && (a->plain = malloc(length)) &&
              (a->cbc = malloc(length)) && (a->ecb = malloc(length)), "no memory");
    a->key_length = key_length;
    a->sector_size = sector_size;
    a->count = count;
    fill(a->key, key_length, 1);
    fill(a->ivs, count * 16, 2);
    fill(a->plain, length, (uint32_t)sector_size);
    memcpy(a->cbc, a->plain, length);
    memcpy(a->ecb, a->plain, length);
    rounds = plain_expand(keys, a->key, key_length);
    for (size_t at = 0; at < length; at += 16) {
        const uint8_t *before = at % sector_size ? a->cbc + at - 16 : a->ivs + at / sector_size * 16;
        for (size_t i = 0; i < 16; i++)
            a->cbc[at + i] ^= before[i];
        plain_encrypt(a->cbc + at, keys, rounds);
        plain_encrypt(a->ecb + at, keys, rounds);
    }
    return a;
}

static void free_answers(answers *a)
{
    free(a->ivs);
    free(a->plain);
    free(a->cbc);
    free(a->ecb);
    free(a);
}

typedef struct {
    region ivs, src, dst;
} places;

/* Against the guard behind it (shift 0, to_end), or shift bytes behind the guard before it. */
static uint8_t *place(region r, size_t length, int to_end, size_t shift)
{
    return to_end ? r.end - length : r.begin + shift;
}

static void check_margins(region r, const uint8_t *p, size_t length, const char *what)
{
    for (size_t i = 1; i <= MARGIN; i++) {
        CHECK(p - r.begin < (ptrdiff_t)i || *(p - i) == 0xa5, "%s: wrote %zu before dst", what, i);
        CHECK(r.end - p - (ptrdiff_t)length < (ptrdiff_t)i || p[length + i - 1] == 0xa5,
              "%s: wrote %zu behind dst", what, i);
    }
}

/* The same run in seven places. */
static void one_run(operation *op, const qc_key *key, const answers *a, const places *at,
                    size_t count, const uint8_t *from, const uint8_t *wanted, const char *name)
{
    const size_t length = count * a->sector_size;
    for (int way = 0; way < 7; way++) {
        /* Two in place; two with a guard before and behind; three with odd alignments. */
        const int in_place = way < 2 || way == 6, odd = way >= 4;
        const size_t shift = odd ? 1 + (count * 7 + (size_t)way * 5) % 63 : 0;
        uint8_t *ivs = place(at->ivs, count * 16, !odd && way % 2, odd ? 64 - shift : 0);
        uint8_t *dst = place(at->dst, length, !odd && way % 2, shift);
        uint8_t *src = in_place ? dst : place(at->src, length, !odd && way % 2 == 0, shift / 2 + 1);
        char what[160];

        snprintf(what, sizeof what, "%s: AES-%zu, sectors of %zu, run of %zu, way %d", name,
                 a->key_length * 8, a->sector_size, count, way);
        memset(dst - (dst - at->dst.begin > MARGIN ? MARGIN : dst - at->dst.begin), 0xa5,
               length + (size_t)(dst - at->dst.begin > MARGIN ? MARGIN : dst - at->dst.begin));
        memset(dst + length, 0xa5, (size_t)(at->dst.end - dst) - length > MARGIN
                                       ? MARGIN : (size_t)(at->dst.end - dst) - length);
        memcpy(ivs, a->ivs, count * 16);
        memcpy(src, from, length);
        /* Who only reads must not write, not even the same bytes. */
        read_only(at->ivs, 1);
        if (!in_place)
            read_only(at->src, 1);
        CHECK(op(key, ivs, count * 16, src, dst, length, a->sector_size) == QC_OK, "%s", what);
        CHECK(!memcmp(dst, wanted, length), "%s: wrong bytes", what);
        check_margins(at->dst, dst, length, what);
        read_only(at->ivs, 0);
        read_only(at->src, 0);
    }
}

static void all_runs(int kernel, const answers *a, const places *at, const size_t *counts,
                     size_t how_many, size_t longest, int ecb)
{
    const char *name = qc_kernel_name(kernel);
    qc_key *key = new_key(kernel, a->key, a->key_length);
    char what[80];
    for (size_t i = 0; i < how_many; i++) {
        const size_t count = counts ? counts[i] : i + 1;
        if (count > longest)
            continue;
#define RUN(op, from, wanted)                                      \
    snprintf(what, sizeof what, "%s %s", name, #op);               \
    one_run(op, key, a, at, count, a->from, a->wanted, what)
        RUN(qc_cbc_encrypt, plain, cbc);
        RUN(qc_cbc_decrypt, cbc, plain);
        if (!ecb)
            continue;
        RUN(ecb_encrypt, plain, ecb);
        RUN(ecb_decrypt, ecb, plain);
    }
    qc_key_free(key);
}

void test_runs(size_t longest)
{
    places at = {new_region(longest * 16 + 128),
                 new_region((longest + LENGTH(around)) * 512 + 98 * SECTOR_MAX + 128),
                 new_region((longest + LENGTH(around)) * 512 + 98 * SECTOR_MAX + 128)};
    CHECK(longest, "the longest run must have a sector");
    if (longest < 97) {
        free_region(at.ivs);
        at.ivs = new_region(97 * 16 + 128);
    }
    for (size_t key_length = 16; key_length <= 32; key_length += 8) {
        for (size_t s = 0; s < LENGTH(sector_sizes); s++) {
            /* Every length with the sectors of the format; the lengths that matter with others. */
            const int every = key_length == 16 && (sector_sizes[s] == 512 || sector_sizes[s] == 16);
            const size_t most = sector_sizes[s] < SECTOR_MAX ? 97 : 33;
            const size_t others = longest < most ? longest : most;
            answers *a = make_answers(key_length, sector_sizes[s], every ? longest : others);
            for (int kernel = 0; kernel < qc_kernel_count(); kernel++)
                if (usable(kernel))
                    all_runs(kernel, a, &at, every ? NULL : around,
                             every ? longest : LENGTH(around),
                             every ? longest : others, 1);
            free_answers(a);
        }
    }
    for (int kernel = 0; kernel < qc_kernel_count(); kernel++)
        if (usable(kernel))
            printf("%s runs of 1 to %zu\n", qc_kernel_name(kernel), longest);
    free_region(at.ivs);
    free_region(at.src);
    free_region(at.dst);
}

void test_wide_runs(size_t longest)
{
    places at = {new_region(longest * 16 + 128), new_region(longest * 512 + 128),
                 new_region(longest * 512 + 128)};
    for (size_t key_length = 16; key_length <= 32; key_length += 8) {
        answers *a = make_answers(key_length, 512, longest);
        for (int kernel = 0; kernel < qc_kernel_count(); kernel++)
            if (usable(kernel))
                all_runs(kernel, a, &at, wide, LENGTH(wide), longest, 0);
        free_answers(a);
    }
    for (int kernel = 0; kernel < qc_kernel_count(); kernel++)
        if (usable(kernel))
            printf("%s wide runs up to %zu\n", qc_kernel_name(kernel), longest);
    free_region(at.ivs);
    free_region(at.src);
    free_region(at.dst);
}
