/* OpenSSL through EVP: one context, which gets the IV of each sector in turn. */
#include "peers.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdlib.h>

static void *openssl_open(const contender *self, const uint8_t *key, size_t key_length, int encrypt)
{
    const EVP_CIPHER *cipher = key_length == 16 ? EVP_aes_128_cbc() : EVP_aes_256_cbc();
    EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
    (void)self;
    if (!context || EVP_CipherInit_ex(context, cipher, NULL, key, NULL, encrypt) != 1)
        abort();
    EVP_CIPHER_CTX_set_padding(context, 0);
    return context;
}

static void openssl_run(void *state, const uint8_t *ivs, const uint8_t *src, uint8_t *dst,
                        size_t sectors)
{
    int length;
    for (size_t i = 0; i < sectors; i++)
        if (EVP_CipherInit_ex(state, NULL, NULL, NULL, ivs + BLOCK * i, -1) != 1 ||
            EVP_CipherUpdate(state, dst + SECTOR * i, &length, src + SECTOR * i, SECTOR) != 1 ||
            length != SECTOR)
            abort();
}

static void openssl_close(void *state)
{
    EVP_CIPHER_CTX_free(state);
}

int openssl_contenders(contender *to)
{
    *to = (contender){"openssl",     openssl_open, openssl_run, openssl_close, 1, 0,
                      OpenSSL_version(OPENSSL_VERSION_STRING)};
    return 1;
}
