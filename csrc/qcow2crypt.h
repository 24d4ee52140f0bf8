/* AES over runs of sectors: the public header of the C part.
 *
 * A run is `count` sectors of `sector_size` bytes, each a CBC message of its own with an IV of
 * its own.  A kernel is one way to do this, for one instruction set; all of them give the same
 * bytes.  Nothing here keeps state but the keys that the caller holds.  All functions may be
 * called from many threads; a key may be shared by them.
 *
 * cffi reads what stands between the two marks.
 */
#ifndef QCOW2CRYPT_H
#define QCOW2CRYPT_H

#include <stddef.h>
#include <stdint.h>

/* cffi begin */

typedef enum {
    QC_OK = 0,
    QC_NO_KERNEL,     /* there is no kernel with this number */
    QC_NO_FEATURE,    /* the processor lacks what the kernel needs */
    QC_BAD_KEY,       /* the key has not 16, 24 or 32 bytes */
    QC_BAD_SECTOR,    /* the sector size is not a positive multiple of 16 */
    QC_BAD_LENGTH,    /* not whole sectors or blocks, or not one IV for each */
    QC_OVERLAP,       /* buffers overlap and are not the same */
    QC_OVERFLOW,      /* sector numbers beyond 2**64 - 1 */
    QC_NO_MEMORY,
    QC_SELF_TEST      /* a kernel gave wrong bytes: it must not be used */
} qc_status;

/* What the kernels need of a processor, as bits. */
#define QC_FEATURE_AES 1
#define QC_FEATURE_AVX2 2
#define QC_FEATURE_VAES 4
#define QC_FEATURE_AVX512F 8
#define QC_FEATURE_NEON_AES 16

typedef struct qc_key qc_key;

/* The features that this processor has and this operating system lets programs use. */
unsigned qc_cpu_features(void);

/* Kernels are numbered from 0, best first; the last one runs everywhere. */
int qc_kernel_count(void);
const char *qc_kernel_name(int kernel);
unsigned qc_kernel_needs(int kernel);

/* Known answers, and the same bytes as the portable kernel, for every operation. */
qc_status qc_self_test(int kernel);

/* Expand a key for one kernel; NULL and a status when it cannot be.  qc_key_free wipes it. */
qc_key *qc_key_new(int kernel, const uint8_t *key, size_t length, qc_status *status);
void qc_key_free(qc_key *key);

/* ivs: 16 bytes for every sector.  dst may be src, or must not overlap it; it must not overlap
 * ivs.  Nothing is written unless QC_OK is returned. */
qc_status qc_cbc_encrypt(const qc_key *key, const uint8_t *ivs, size_t ivs_length,
                         const uint8_t *src, uint8_t *dst, size_t length, size_t sector_size);
qc_status qc_cbc_decrypt(const qc_key *key, const uint8_t *ivs, size_t ivs_length,
                         const uint8_t *src, uint8_t *dst, size_t length, size_t sector_size);

/* Single blocks, each on its own: for the IVs of essiv, not for data. */
qc_status qc_ecb_encrypt(const qc_key *key, const uint8_t *src, uint8_t *dst, size_t length);
qc_status qc_ecb_decrypt(const qc_key *key, const uint8_t *src, uint8_t *dst, size_t length);

/* The plain64 IVs of consecutive sectors: the number as 64 bits, little-endian, and 8 zeros. */
qc_status qc_plain64(uint64_t first_sector, uint8_t *ivs, size_t length);

/* cffi end */

#endif
