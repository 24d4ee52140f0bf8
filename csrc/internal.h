/* What the C files of this folder share.  Nobody outside includes it: see qcow2crypt.h. */
#ifndef QC_INTERNAL_H
#define QC_INTERNAL_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "qcow2crypt.h"

#define QC_BLOCK 16
#define QC_MAX_ROUNDS 14

#if defined(__x86_64__) || defined(_M_X64)
#define QC_X86 1
#elif defined(__aarch64__) && !defined(__ARM_BIG_ENDIAN)
#define QC_ARM64 1
#endif

/* One expanded key, in every form that a kernel may want. */
typedef struct {
    uint8_t encrypt[(QC_MAX_ROUNDS + 1) * QC_BLOCK]; /* FIPS-197 round keys, in order of use */
    uint8_t decrypt[(QC_MAX_ROUNDS + 1) * QC_BLOCK]; /* of the equivalent inverse cipher, likewise */
    uint64_t planes[QC_MAX_ROUNDS + 1][8];           /* encrypt, as bit planes of four blocks */
    int rounds;                                      /* 10, 12 or 14 */
} qc_schedule;

/* Kernels trust their arguments: dispatch.c has checked them. */
typedef void qc_cbc_function(const qc_schedule *key, const uint8_t *ivs, const uint8_t *src,
                             uint8_t *dst, size_t count, size_t sector_size);
typedef void qc_ecb_function(const qc_schedule *key, const uint8_t *src, uint8_t *dst,
                             size_t blocks);

/* One row for each kernel; a cipher mode to come (XTS) adds two functions to it. */
typedef struct {
    const char *name;
    unsigned needs; /* exactly the features that it is compiled for */
    qc_cbc_function *cbc_encrypt, *cbc_decrypt;
    qc_ecb_function *ecb_encrypt, *ecb_decrypt;
} qc_kernel;

extern const qc_kernel qc_kernel_portable;
#ifdef QC_X86
extern const qc_kernel qc_kernel_portable_avx2, qc_kernel_aesni, qc_kernel_vaes256,
    qc_kernel_vaes512;
#endif
#ifdef QC_ARM64
extern const qc_kernel qc_kernel_armv8;
#endif

/* Known answers, and the same bytes as the portable kernel. */
int qc_kernel_is_right(const qc_kernel *kernel, int *no_memory);

void qc_expand_key(qc_schedule *schedule, const uint8_t *key, size_t length);

static inline uint32_t qc_load32(const uint8_t *p)
{
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static inline void qc_store32(uint8_t *p, uint32_t x)
{
    p[0] = (uint8_t)x;
    p[1] = (uint8_t)(x >> 8);
    p[2] = (uint8_t)(x >> 16);
    p[3] = (uint8_t)(x >> 24);
}

static inline void qc_xor_block(uint8_t *a, const uint8_t *b)
{
    uint64_t x[2], y[2];
    memcpy(x, a, sizeof x);
    memcpy(y, b, sizeof y);
    x[0] ^= y[0];
    x[1] ^= y[1];
    memcpy(a, x, sizeof x);
}

/* Overwrite a secret.  The barrier keeps the compiler from dropping a store that nobody reads. */
static inline void qc_wipe(void *p, size_t length)
{
    memset(p, 0, length);
    __asm__ volatile("" : : "r"(p) : "memory");
}

#endif
