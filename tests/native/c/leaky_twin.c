/* The twin of key.c and kernel_portable.c that leaks: the plain AES of the tests, whose S-box is a
 * table.  Linked in their place, it must be found out by the test of constant time. */
#include <string.h>

#include "internal.h"
#include "plain_aes.h"

void qc_expand_key(qc_schedule *schedule, const uint8_t *key, size_t length)
{
    uint8_t keys[15][16];
    schedule->rounds = plain_expand(keys, key, length);
    memcpy(schedule->encrypt, keys, sizeof keys);
}

static void ecb(const qc_schedule *key, const uint8_t *src, uint8_t *dst, size_t blocks,
                void (*one)(uint8_t *, uint8_t (*)[16], int))
{
    uint8_t keys[15][16];
    memcpy(keys, key->encrypt, sizeof keys);
    for (size_t at = 0; at < blocks * 16; at += 16) {
        memmove(dst + at, src + at, 16);
        one(dst + at, keys, key->rounds);
    }
}

static void ecb_encrypt(const qc_schedule *key, const uint8_t *src, uint8_t *dst, size_t blocks)
{
    ecb(key, src, dst, blocks, plain_encrypt);
}

static void ecb_decrypt(const qc_schedule *key, const uint8_t *src, uint8_t *dst, size_t blocks)
{
    ecb(key, src, dst, blocks, plain_decrypt);
}

static void cbc_encrypt(const qc_schedule *key, const uint8_t *ivs, const uint8_t *src,
                        uint8_t *dst, size_t count, size_t sector_size)
{
    for (size_t at = 0; at < count * sector_size; at += 16) {
        memmove(dst + at, src + at, 16);
        qc_xor_block(dst + at, at % sector_size ? dst + at - 16 : ivs + at / sector_size * 16);
        ecb_encrypt(key, dst + at, dst + at, 1);
    }
}

static void cbc_decrypt(const qc_schedule *key, const uint8_t *ivs, const uint8_t *src,
                        uint8_t *dst, size_t count, size_t sector_size)
{
    for (size_t at = count * sector_size; at; ) {
        at -= 16;
        uint8_t before[16];
        memcpy(before, at % sector_size ? src + at - 16 : ivs + at / sector_size * 16, 16);
        ecb_decrypt(key, src + at, dst + at, 1);
        qc_xor_block(dst + at, before);
    }
}

const qc_kernel qc_kernel_portable = {"portable", 0, cbc_encrypt, cbc_decrypt, ecb_encrypt,
                                      ecb_decrypt};
