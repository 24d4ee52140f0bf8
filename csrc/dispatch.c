/* The table of kernels, and the one place where arguments are checked. */
#include "internal.h"

#include <stdlib.h>

struct qc_key {
    const qc_kernel *kernel;
    qc_schedule schedule;
};

/* Best first: what `auto` takes is the first that this processor can run. */
static const qc_kernel *const kernels[] = {
#ifdef QC_X86
    &qc_kernel_vaes512, &qc_kernel_vaes256, &qc_kernel_aesni, &qc_kernel_portable_avx2,
#endif
#ifdef QC_ARM64
    &qc_kernel_armv8,
#endif
    &qc_kernel_portable,
};

#define KERNELS ((int)(sizeof kernels / sizeof *kernels))

static const qc_kernel *find(int kernel)
{
    return kernel >= 0 && kernel < KERNELS ? kernels[kernel] : NULL;
}

int qc_kernel_count(void)
{
    return KERNELS;
}

const char *qc_kernel_name(int kernel)
{
    const qc_kernel *found = find(kernel);
    return found ? found->name : NULL;
}

unsigned qc_kernel_needs(int kernel)
{
    const qc_kernel *found = find(kernel);
    return found ? found->needs : 0;
}

qc_status qc_self_test(int kernel)
{
    const qc_kernel *found = find(kernel);
    int no_memory;
    if (!found)
        return QC_NO_KERNEL;
    if (found->needs & ~qc_cpu_features())
        return QC_NO_FEATURE;
    if (qc_kernel_is_right(found, &no_memory))
        return QC_OK;
    return no_memory ? QC_NO_MEMORY : QC_SELF_TEST;
}

qc_key *qc_key_new(int kernel, const uint8_t *key, size_t length, qc_status *status)
{
    const qc_kernel *found = find(kernel);
    qc_key *made = NULL;
    if (!found)
        *status = QC_NO_KERNEL;
    else if (found->needs & ~qc_cpu_features())
        *status = QC_NO_FEATURE;
    else if (length != 16 && length != 24 && length != 32)
        *status = QC_BAD_KEY;
    else if (!(made = calloc(1, sizeof *made)))
        *status = QC_NO_MEMORY;
    else {
        made->kernel = found;
        qc_expand_key(&made->schedule, key, length);
        *status = QC_OK;
    }
    return made;
}

void qc_key_free(qc_key *key)
{
    if (key)
        qc_wipe(key, sizeof *key);
    free(key);
}

/* As integers: pointers into different buffers cannot be compared in C. */
static int overlap(const uint8_t *a, size_t a_length, const uint8_t *b, size_t b_length)
{
    const uintptr_t x = (uintptr_t)a, y = (uintptr_t)b;
    return a_length && b_length && (x < y ? y - x < a_length : x - y < b_length);
}

static qc_status check_run(const uint8_t *ivs, size_t ivs_length, const uint8_t *src,
                           const uint8_t *dst, size_t length, size_t sector_size)
{
    if (!sector_size || sector_size % QC_BLOCK)
        return QC_BAD_SECTOR;
    /* Divided, not multiplied: no length can overflow. */
    if (length % sector_size || ivs_length % QC_BLOCK ||
        ivs_length / QC_BLOCK != length / sector_size)
        return QC_BAD_LENGTH;
    if ((src != dst && overlap(src, length, dst, length)) || overlap(ivs, ivs_length, dst, length))
        return QC_OVERLAP;
    return QC_OK;
}

qc_status qc_cbc_encrypt(const qc_key *key, const uint8_t *ivs, size_t ivs_length,
                         const uint8_t *src, uint8_t *dst, size_t length, size_t sector_size)
{
    const qc_status status = check_run(ivs, ivs_length, src, dst, length, sector_size);
    if (status == QC_OK && length)
        key->kernel->cbc_encrypt(&key->schedule, ivs, src, dst, length / sector_size, sector_size);
    return status;
}

qc_status qc_cbc_decrypt(const qc_key *key, const uint8_t *ivs, size_t ivs_length,
                         const uint8_t *src, uint8_t *dst, size_t length, size_t sector_size)
{
    const qc_status status = check_run(ivs, ivs_length, src, dst, length, sector_size);
    if (status == QC_OK && length)
        key->kernel->cbc_decrypt(&key->schedule, ivs, src, dst, length / sector_size, sector_size);
    return status;
}

static qc_status check_blocks(const uint8_t *src, const uint8_t *dst, size_t length)
{
    if (length % QC_BLOCK)
        return QC_BAD_LENGTH;
    return src != dst && overlap(src, length, dst, length) ? QC_OVERLAP : QC_OK;
}

qc_status qc_ecb_encrypt(const qc_key *key, const uint8_t *src, uint8_t *dst, size_t length)
{
    const qc_status status = check_blocks(src, dst, length);
    if (status == QC_OK && length)
        key->kernel->ecb_encrypt(&key->schedule, src, dst, length / QC_BLOCK);
    return status;
}

qc_status qc_ecb_decrypt(const qc_key *key, const uint8_t *src, uint8_t *dst, size_t length)
{
    const qc_status status = check_blocks(src, dst, length);
    if (status == QC_OK && length)
        key->kernel->ecb_decrypt(&key->schedule, src, dst, length / QC_BLOCK);
    return status;
}

qc_status qc_plain64(uint64_t first_sector, uint8_t *ivs, size_t length)
{
    const size_t count = length / QC_BLOCK;
    if (length % QC_BLOCK)
        return QC_BAD_LENGTH;
    if (count && count - 1 > UINT64_MAX - first_sector)
        return QC_OVERFLOW;
    for (size_t i = 0; i < count; i++, ivs += QC_BLOCK) {
        qc_store32(ivs, (uint32_t)(first_sector + i));
        qc_store32(ivs + 4, (uint32_t)((first_sector + i) >> 32));
        memset(ivs + 8, 0, 8);
    }
    return QC_OK;
}
