/* Is a kernel right?  Asked before its first use: known answers, then the portable kernel.
 *
 * The known answers are FIPS-197 appendix C and SP 800-38A F.2 (CBC). */
#include "internal.h"

#include <stdlib.h>

#define SECTORS_MAX 131 /* past two of the widest groups, and odd */
#define ODD_SECTOR 144 /* not a multiple of any vector but the narrowest */
#define WIDE_SECTORS 2053 /* wide in kernel_lanes.h, in place too, and odd */
#define SECTOR_MAX 512
#define BYTES_MAX (SECTORS_MAX * SECTOR_MAX)
#define ECB_MAX (SECTORS_MAX * 64) /* has no sectors: groups and tails are all there is */
#define WIDE_BYTES (WIDE_SECTORS * 512)

static const size_t key_sizes[] = {16, 24, 32};
static const size_t sector_sizes[] = {SECTOR_MAX, ODD_SECTOR, 64, 48, 16}; /* ever shorter */
static const size_t counts[] = {1, 3, 5, 9, 17, 33, 49, SECTORS_MAX};

#define LENGTH(array) (sizeof(array) / sizeof *(array))

/* FIPS-197 appendix C: key 00 01 02 ..., plaintext 00 11 22 ... */
static const uint8_t block_answers[3][QC_BLOCK] = {
    {0x69, 0xc4, 0xe0, 0xd8, 0x6a, 0x7b, 0x04, 0x30, 0xd8, 0xcd, 0xb7, 0x80, 0x70, 0xb4, 0xc5, 0x5a},
    {0xdd, 0xa9, 0x7c, 0xa4, 0x86, 0x4c, 0xdf, 0xe0, 0x6e, 0xaf, 0x70, 0xa0, 0xec, 0x0d, 0x71, 0x91},
    {0x8e, 0xa2, 0xb7, 0xca, 0x51, 0x67, 0x45, 0xbf, 0xea, 0xfc, 0x49, 0x90, 0x4b, 0x49, 0x60, 0x89},
};

/* SP 800-38A F.2.1: the first two blocks. */
static const uint8_t cbc_key[16] = {0x2b, 0x7e, 0x15, 0x16, 0x28, 0xae, 0xd2, 0xa6,
                                    0xab, 0xf7, 0x15, 0x88, 0x09, 0xcf, 0x4f, 0x3c};
static const uint8_t cbc_plaintext[32] = {
    0x6b, 0xc1, 0xbe, 0xe2, 0x2e, 0x40, 0x9f, 0x96, 0xe9, 0x3d, 0x7e, 0x11, 0x73, 0x93, 0x17, 0x2a,
    0xae, 0x2d, 0x8a, 0x57, 0x1e, 0x03, 0xac, 0x9c, 0x9e, 0xb7, 0x6f, 0xac, 0x45, 0xaf, 0x8e, 0x51};
static const uint8_t cbc_ciphertext[32] = {
    0x76, 0x49, 0xab, 0xac, 0x81, 0x19, 0xb2, 0x46, 0xce, 0xe9, 0x8e, 0x9b, 0x12, 0xe9, 0x19, 0x7d,
    0x50, 0x86, 0xcb, 0x9b, 0x50, 0x72, 0x19, 0xee, 0x95, 0xdb, 0x11, 0x3a, 0x91, 0x76, 0x78, 0xb2};

static int known_answers(const qc_kernel *kernel)
{
    qc_schedule schedule;
    uint8_t key[32], plain[QC_BLOCK], iv[QC_BLOCK], out[32];
    int right = 1;

    for (int i = 0; i < 32; i++)
        key[i] = (uint8_t)i;
    for (int i = 0; i < QC_BLOCK; i++) {
        plain[i] = (uint8_t)(i * 0x11);
        iv[i] = (uint8_t)i;
    }
    for (int i = 0; i < 3; i++) {
        qc_expand_key(&schedule, key, key_sizes[i]);
        kernel->ecb_encrypt(&schedule, plain, out, 1);
        right &= !memcmp(out, block_answers[i], QC_BLOCK);
        kernel->ecb_decrypt(&schedule, out, out, 1);
        right &= !memcmp(out, plain, QC_BLOCK);
    }
    qc_expand_key(&schedule, cbc_key, sizeof cbc_key);
    kernel->cbc_encrypt(&schedule, iv, cbc_plaintext, out, 1, sizeof out);
    right &= !memcmp(out, cbc_ciphertext, sizeof out);
    kernel->cbc_decrypt(&schedule, iv, out, out, 1, sizeof out);
    return right & !memcmp(out, cbc_plaintext, sizeof out);
}

typedef struct {
    uint8_t key[32], ivs[WIDE_SECTORS * QC_BLOCK];
    uint8_t plain[BYTES_MAX], cbc[BYTES_MAX], found[BYTES_MAX];
    uint8_t ecb_plain[ECB_MAX], ecb[ECB_MAX];
    uint8_t wide_plain[WIDE_BYTES], wide[WIDE_BYTES];
} workspace;

/* A period that is prime: blocks in each other's place would be noticed. */
static void fill(uint8_t *bytes, size_t length, unsigned seed)
{
    for (size_t i = 0; i < length; i++)
        bytes[i] = (uint8_t)((i + seed) % 251 * 7 + seed);
}

/* ``w->cbc`` and ``w->ecb`` hold what portable makes of ``w->plain`` and ``w->ecb_plain``, of more
 * sectors: each is a message of its own, so fewer of them give the same bytes. */
static int same_as_portable(const qc_kernel *kernel, workspace *w, const qc_schedule *schedule,
                            size_t count, size_t sector_size)
{
    const size_t length = count * sector_size;
    const size_t ecb_length = length < ECB_MAX ? length : ECB_MAX;
    int right;

    kernel->cbc_encrypt(schedule, w->ivs, w->plain, w->found, count, sector_size);
    right = !memcmp(w->found, w->cbc, length);
    kernel->cbc_decrypt(schedule, w->ivs, w->cbc, w->found, count, sector_size);
    right &= !memcmp(w->found, w->plain, length);
    kernel->cbc_encrypt(schedule, w->ivs, w->found, w->found, count, sector_size);
    right &= !memcmp(w->found, w->cbc, length);
    kernel->cbc_decrypt(schedule, w->ivs, w->found, w->found, count, sector_size);
    right &= !memcmp(w->found, w->plain, length);
    kernel->ecb_encrypt(schedule, w->ecb_plain, w->found, ecb_length / QC_BLOCK);
    right &= !memcmp(w->found, w->ecb, ecb_length);
    kernel->ecb_decrypt(schedule, w->found, w->found, ecb_length / QC_BLOCK);
    return right & !memcmp(w->found, w->ecb_plain, ecb_length);
}

/* Leave the first ``length`` bytes of every sector of ``size`` bytes. */
static void cut_sectors(uint8_t *bytes, size_t size, size_t length)
{
    for (size_t sector = 1; sector < SECTORS_MAX; sector++)
        memmove(bytes + sector * length, bytes + sector * size, length);
}

/* All sizes of sectors, and all counts.  Portable is slow, so it works once, on the longest: what
 * CBC makes of the beginning of a message is the beginning of what it makes of the message. */
static int same_for_all_sizes(const qc_kernel *kernel, workspace *w, const qc_schedule *schedule)
{
    size_t size = SECTOR_MAX;
    int right = 1;

    qc_kernel_portable.cbc_encrypt(schedule, w->ivs, w->plain, w->cbc, SECTORS_MAX, size);
    for (size_t s = 0; s < LENGTH(sector_sizes); s++) {
        cut_sectors(w->plain, size, sector_sizes[s]);
        cut_sectors(w->cbc, size, sector_sizes[s]);
        size = sector_sizes[s];
        for (size_t n = 0; n < LENGTH(counts); n++)
            right &= same_as_portable(kernel, w, schedule, counts[n], size);
    }
    return right;
}

/* A wide run has a path of its own in one direction alone, between buffers and in place: it is held
 * against short runs, which are known to be right by now. */
static int wide_same_as_short(const qc_kernel *kernel, workspace *w, const qc_schedule *schedule)
{
    size_t count = SECTORS_MAX;
    int right = 1;

    /* Equal plaintexts, but of different IVs: sectors in each other's place would be noticed. */
    for (size_t at = 0; at < WIDE_BYTES; at += BYTES_MAX)
        memcpy(w->wide_plain + at, w->plain,
               WIDE_BYTES - at < BYTES_MAX ? WIDE_BYTES - at : BYTES_MAX);
    kernel->cbc_encrypt(schedule, w->ivs, w->wide_plain, w->wide, WIDE_SECTORS, 512);
    for (size_t at = 0; at < WIDE_SECTORS; at += count) {
        count = at + SECTORS_MAX < WIDE_SECTORS ? SECTORS_MAX : WIDE_SECTORS - at;
        kernel->cbc_encrypt(schedule, w->ivs + at * QC_BLOCK, w->wide_plain + at * 512, w->found,
                            count, 512);
        right &= !memcmp(w->found, w->wide + at * 512, count * 512);
    }
    kernel->cbc_encrypt(schedule, w->ivs, w->wide_plain, w->wide_plain, WIDE_SECTORS, 512);
    return right & !memcmp(w->wide_plain, w->wide, WIDE_BYTES);
}

int qc_kernel_is_right(const qc_kernel *kernel, int *no_memory)
{
    int right = known_answers(kernel);
    workspace *w = right ? malloc(sizeof *w) : NULL;

    *no_memory = right && !w;
    for (size_t k = 0; w && k < LENGTH(key_sizes); k++) {
        qc_schedule schedule;
        fill(w->key, sizeof w->key, (unsigned)k);
        fill(w->ivs, sizeof w->ivs, (unsigned)k + 3);
        fill(w->plain, sizeof w->plain, (unsigned)k + 5);
        qc_expand_key(&schedule, w->key, key_sizes[k]);
        fill(w->ecb_plain, sizeof w->ecb_plain, (unsigned)k + 5);
        qc_kernel_portable.ecb_encrypt(&schedule, w->ecb_plain, w->ecb, ECB_MAX / QC_BLOCK);
        right &= same_for_all_sizes(kernel, w, &schedule);
        if (k == LENGTH(key_sizes) - 1) /* enough: keys differ in the number of rounds only */
            right &= wide_same_as_short(kernel, w, &schedule);
    }
    free(w);
    return right && !*no_memory;
}
