/* The public functions of csrc with hostile arguments, under libFuzzer: fuzz/csrc.sh builds it.
 *
 * An input is a few numbers that choose one call: lengths, a sector size, and places in one arena
 * that may overlap.  A model of a few lines, written after qcow2crypt.h, says what must come of
 * it.  What it allows is done by every kernel of this processor, and must give the bytes of
 * `portable` and nothing else; what it refuses must leave the arena as it was.  During a call all
 * of the arena but the arguments is poisoned for AddressSanitizer.
 */
#include <limits.h>
#include <sanitizer/asan_interface.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "qcow2crypt.h"

#define ARENA ((size_t)40 << 10)
#define CHECK(condition) ((condition) ? (void)0 : wrong(#condition, __LINE__))

typedef unsigned __int128 wide; /* where no sum of two sizes wraps */
typedef struct {
    uint8_t *at;
    size_t length;
} piece;

static uint8_t arena[ARENA], before[ARENA], wanted[ARENA];
static const uint8_t *input;
static size_t left;

static void wrong(const char *condition, int line)
{
    fprintf(stderr, "fuzz/csrc.c:%d: not so: %s\n", line, condition);
    abort();
}

/* The next number of an input, of so many bytes; 0 behind its end. */
static uint64_t take(size_t bytes)
{
    uint64_t number = 0;
    for (; bytes && left; bytes--, left--)
        number = number << 8 | *input++;
    return number;
}

/* Mostly what fits, often a little more or less, at times anything at all. */
static size_t length_near(size_t fitting)
{
    const uint64_t how = take(1);
    if (how < 160)
        return fitting;
    return how < 224 ? fitting + (size_t)take(1) - 128 : (size_t)take(8);
}

static size_t sector_size(void)
{
    static const size_t usual[] = {16, 32, 48, 512, 528, 1024, 4096};
    const uint64_t how = take(1);
    return how < 224 ? usual[how % (sizeof usual / sizeof *usual)] : (size_t)take(how % 9);
}

/* A place in the arena: any, or near the end of the piece before it, or that piece itself. */
static uint8_t *place(piece previous)
{
    const uint64_t how = take(1);
    const size_t offset = (size_t)(previous.at - arena);
    if (how < 64)
        return arena + take(2) % ARENA;
    if (how < 128)
        return previous.at;
    return arena + (offset + previous.length % ARENA + (size_t)take(1) - 32) % ARENA;
}

static int overlap(piece a, piece b)
{
    const wide x = (uintptr_t)a.at, y = (uintptr_t)b.at;
    return a.length && b.length && x < y + b.length && y < x + a.length;
}

/* In the arena: a call that csrc allows, since it cannot know better, would leave it. */
static int inside(piece p)
{
    return p.length <= ARENA && (size_t)(p.at - arena) <= ARENA - p.length;
}

static int usable(int kernel)
{
    return !(qc_kernel_needs(kernel) & ~qc_cpu_features());
}

static void reveal(piece p)
{
    if (inside(p))
        __asan_unpoison_memory_region(p.at, p.length);
}

static qc_key *new_key(int kernel, const uint8_t *bytes, size_t length)
{
    qc_status status;
    uint8_t *copy = malloc(length); /* of just this size, so that a byte too far is seen */
    qc_key *key;
    CHECK(copy);
    memcpy(copy, bytes, length);
    key = qc_key_new(kernel, copy, length, &status);
    CHECK(key && status == QC_OK);
    free(copy);
    return key;
}

/* A key that must not come into being. */
static void bad_key(void)
{
    static const int kernels[] = {-1, INT_MIN, INT_MAX};
    const uint64_t how = take(1);
    const int kernel = how < 3 ? kernels[how] : (int)how % (qc_kernel_count() + 2);
    const size_t length = length_near(16 + 8 * (take(1) % 3));
    const int known = kernel >= 0 && kernel < qc_kernel_count();
    const int fits = length == 16 || length == 24 || length == 32;
    qc_status status, expected = QC_BAD_KEY;
    qc_key *key;
    if (!known)
        expected = QC_NO_KERNEL;
    else if (!usable(kernel))
        expected = QC_NO_FEATURE;
    else if (fits)
        return;
    CHECK((qc_kernel_name(kernel) != NULL) == known);
    __asan_poison_memory_region(arena, ARENA);
    key = qc_key_new(kernel, arena, length, &status);
    __asan_unpoison_memory_region(arena, ARENA);
    CHECK(!key && status == expected);
    qc_key_free(key);
}

static void plain64(void)
{
    const uint64_t first = take(1) & 1 ? take(8) : UINT64_MAX - take(2);
    const size_t length = length_near(16 * (size_t)take(1));
    const piece ivs = {place((piece){arena, 0}), length};
    qc_status status, expected = QC_OK;
    if (length % 16)
        expected = QC_BAD_LENGTH;
    else if ((wide)first + length / 16 > (wide)UINT64_MAX + 1)
        expected = QC_OVERFLOW;
    else if (!inside(ivs))
        return;
    if (expected == QC_OK)
        for (size_t i = 0; i < length; i++)
            wanted[(size_t)(ivs.at - arena) + i] =
                i % 16 < 8 ? (uint8_t)((first + i / 16) >> 8 * (i % 16)) : 0;
    __asan_poison_memory_region(arena, ARENA);
    if (expected == QC_OK)
        reveal(ivs);
    status = qc_plain64(first, ivs.at, length);
    __asan_unpoison_memory_region(arena, ARENA);
    CHECK(status == expected);
    CHECK(!memcmp(arena, wanted, ARENA));
}

typedef struct {
    int cbc, decrypting;
    piece ivs, src, dst;
    size_t sector;
} call;

static qc_status model(const call *c)
{
    if (c->cbc && (!c->sector || c->sector % 16))
        return QC_BAD_SECTOR;
    if (c->cbc ? c->src.length % c->sector ||
                     (wide)(c->src.length / c->sector) * 16 != (wide)c->ivs.length
               : c->src.length % 16)
        return QC_BAD_LENGTH;
    if ((c->src.at != c->dst.at && overlap(c->src, c->dst)) || overlap(c->ivs, c->dst))
        return QC_OVERLAP;
    return QC_OK;
}

static qc_status make(const call *c, const qc_key *key, int backwards)
{
    const int decrypting = c->decrypting ^ backwards;
    if (c->cbc)
        return (decrypting ? qc_cbc_decrypt : qc_cbc_encrypt)(
            key, c->ivs.at, c->ivs.length, c->src.at, c->dst.at, c->src.length, c->sector);
    return (decrypting ? qc_ecb_decrypt : qc_ecb_encrypt)(key, c->src.at, c->dst.at, c->src.length);
}

/* What `portable` makes of it, in memory of just the size of each argument; and back again. */
static void by_portable(const call *c, const uint8_t *key_bytes, size_t key_length)
{
    qc_key *key = new_key(qc_kernel_count() - 1, key_bytes, key_length);
    call alone = *c, back;
    alone.ivs.at = malloc(c->ivs.length);
    alone.src.at = malloc(c->src.length);
    alone.dst.at = malloc(c->src.length);
    CHECK(alone.ivs.at && alone.src.at && alone.dst.at);
    memcpy(alone.ivs.at, c->ivs.at, c->ivs.length);
    memcpy(alone.src.at, c->src.at, c->src.length);
    CHECK(make(&alone, key, 0) == QC_OK);
    memcpy(wanted + (c->dst.at - arena), alone.dst.at, c->src.length);
    back = alone;
    back.src = back.dst = (piece){alone.dst.at, c->src.length};
    CHECK(make(&back, key, 1) == QC_OK);
    CHECK(!memcmp(alone.dst.at, alone.src.at, c->src.length));
    free(alone.ivs.at);
    free(alone.src.at);
    free(alone.dst.at);
    qc_key_free(key);
}

static void crypt_run(int cbc, int decrypting)
{
    const size_t key_length = 16 + 8 * (take(1) % 3);
    call c = {.cbc = cbc, .decrypting = decrypting};
    uint8_t key_bytes[32] = {0};
    size_t count = (size_t)take(1);
    qc_status expected;
    for (size_t i = 0; i < 4; i++)
        key_bytes[i] = (uint8_t)take(1);
    c.sector = sector_size();
    c.src.length = c.dst.length = length_near(count * c.sector);
    c.ivs.length = cbc ? length_near(count * 16) : 0;
    c.src.at = place((piece){arena, 0});
    c.dst.at = place(c.src);
    c.ivs.at = place(c.dst);
    expected = model(&c);
    if (expected == QC_OK) {
        if (!inside(c.src) || !inside(c.dst) || !inside(c.ivs))
            return;
        by_portable(&c, key_bytes, key_length);
    }
    for (int kernel = 0; kernel < qc_kernel_count(); kernel++) {
        qc_key *key;
        qc_status status;
        if (!usable(kernel))
            continue;
        memcpy(arena, before, ARENA);
        key = new_key(kernel, key_bytes, key_length);
        __asan_poison_memory_region(arena, ARENA);
        if (expected == QC_OK) { /* who is refused must not look at anything */
            reveal(c.src);
            reveal(c.dst);
            reveal(c.ivs);
        }
        status = make(&c, key, 0);
        __asan_unpoison_memory_region(arena, ARENA);
        qc_key_free(key);
        CHECK(status == expected);
        CHECK(!memcmp(arena, wanted, ARENA));
    }
}

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    uint32_t x = 2463534242u;
    (void)argc, (void)argv;
    for (size_t i = 0; i < ARENA; i++) {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        before[i] = (uint8_t)(x >> 8);
    }
    for (int kernel = 0; kernel < qc_kernel_count(); kernel++)
        CHECK(qc_self_test(kernel) == (usable(kernel) ? QC_OK : QC_NO_FEATURE));
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint64_t what;
    input = data;
    left = size;
    what = take(1) % 10;
    memcpy(arena, before, ARENA);
    memcpy(wanted, before, ARENA);
    if (what == 0)
        bad_key();
    else if (what == 1)
        plain64();
    else
        crypt_run(what > 3, what & 1);
    return 0;
}
