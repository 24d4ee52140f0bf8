/* What check.h declares for all programs of this folder, but for regions. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"

void fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("driver: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

const char *left_out;

int usable(int kernel)
{
    if (left_out && !strcmp(left_out, qc_kernel_name(kernel)))
        return 0;
    return !(qc_kernel_needs(kernel) & ~qc_cpu_features());
}

void fill(uint8_t *bytes, size_t length, uint32_t seed)
{
    uint32_t x = seed * 2654435761u + 1;
    for (size_t i = 0; i < length; i++) {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        bytes[i] = (uint8_t)(x >> 8);
    }
}

qc_key *new_key(int kernel, const uint8_t *key, size_t length)
{
    region r = new_region(length);
    qc_status status;
    qc_key *made;
    memcpy(r.end - length, key, length);
    read_only(r, 1);
    made = qc_key_new(kernel, r.end - length, length, &status);
    CHECK(made && status == QC_OK, "%s: no key: status %d", qc_kernel_name(kernel), (int)status);
    free_region(r);
    return made;
}

qc_status ecb_encrypt(const qc_key *key, const uint8_t *ivs, size_t ivs_length, const uint8_t *src,
                      uint8_t *dst, size_t length, size_t sector_size)
{
    (void)ivs, (void)ivs_length, (void)sector_size;
    return qc_ecb_encrypt(key, src, dst, length);
}

qc_status ecb_decrypt(const qc_key *key, const uint8_t *ivs, size_t ivs_length, const uint8_t *src,
                      uint8_t *dst, size_t length, size_t sector_size)
{
    (void)ivs, (void)ivs_length, (void)sector_size;
    return qc_ecb_decrypt(key, src, dst, length);
}
