/* nettle the way QEMU drives it: its general CBC functions, with a function of the caller's that
 * does the blocks.  For encryption they call that function for every block, for decryption for
 * many at once. */
#include "peers.h"

#include <nettle/aes.h>
#include <nettle/cbc.h>
#include <nettle/version.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    union {
        struct aes128_ctx aes128;
        struct aes256_ctx aes256;
    } key;
    nettle_cipher_func *blocks;
    int encrypt;
} state;

static void encrypt128(const void *key, size_t n, uint8_t *dst, const uint8_t *src)
{
    aes128_encrypt(key, n, dst, src);
}

static void decrypt128(const void *key, size_t n, uint8_t *dst, const uint8_t *src)
{
    aes128_decrypt(key, n, dst, src);
}

static void encrypt256(const void *key, size_t n, uint8_t *dst, const uint8_t *src)
{
    aes256_encrypt(key, n, dst, src);
}

static void decrypt256(const void *key, size_t n, uint8_t *dst, const uint8_t *src)
{
    aes256_decrypt(key, n, dst, src);
}

static void *nettle_open(const contender *self, const uint8_t *key, size_t key_length, int encrypt)
{
    state *s = malloc(sizeof *s);
    (void)self;
    if (!s)
        abort();
    s->encrypt = encrypt;
    if (key_length == 16) {
        (encrypt ? aes128_set_encrypt_key : aes128_set_decrypt_key)(&s->key.aes128, key);
        s->blocks = encrypt ? encrypt128 : decrypt128;
    } else {
        (encrypt ? aes256_set_encrypt_key : aes256_set_decrypt_key)(&s->key.aes256, key);
        s->blocks = encrypt ? encrypt256 : decrypt256;
    }
    return s;
}

static void nettle_run(void *state_, const uint8_t *ivs, const uint8_t *src, uint8_t *dst,
                       size_t sectors)
{
    state *s = state_;
    for (size_t i = 0; i < sectors; i++) {
        uint8_t iv[BLOCK];
        memcpy(iv, ivs + BLOCK * i, BLOCK);
        (s->encrypt ? cbc_encrypt : cbc_decrypt)(&s->key, s->blocks, BLOCK, iv, SECTOR,
                                                 dst + SECTOR * i, src + SECTOR * i);
    }
}

int nettle_contenders(contender *to)
{
    static char version[32];
    snprintf(version, sizeof version, "%d.%d", NETTLE_VERSION_MAJOR, NETTLE_VERSION_MINOR);
    *to = (contender){"nettle", nettle_open, nettle_run, free, 1, 0, version};
    return 1;
}
