/* For valgrind: do all work of one kernel with a key, IVs and data that count as undefined.
 *
 *   secret KERNEL [branch]
 *
 * Memcheck complains where undefined bytes decide a branch or an address, so what it is silent
 * about takes the same way through the program for every secret.  The method is that of
 * A. Langley's ctgrind.  With `branch` the program itself branches on the key: that must be seen. */
#include <stdio.h>
#include <string.h>
#include <valgrind/memcheck.h>

#include "check.h"

#define SECTOR 512
#define SECTORS 19 /* more than one group of every kernel, and a tail */
#define BYTES (SECTOR * SECTORS)

static uint8_t plain[BYTES], work[BYTES], single[BYTES], secret_key[32], ivs[16 * SECTORS];
static volatile int sink;

static void secret(void *p, size_t length)
{
    (void)VALGRIND_MAKE_MEM_UNDEFINED(p, length);
}

static void known(void *p, size_t length)
{
    (void)VALGRIND_MAKE_MEM_DEFINED(p, length);
}

static int is_secret(const uint8_t *p)
{
    unsigned char bits = 0;
    (void)VALGRIND_GET_VBITS(p, &bits, 1);
    known(&bits, 1);
    return bits == 0xff;
}

static void must_be_plain(uint8_t *bytes, const char *what)
{
    /* Undefined in, undefined out: valgrind followed the secrets through every instruction. */
    if (RUNNING_ON_VALGRIND)
        for (size_t at = 0; at < BYTES; at++)
            CHECK(is_secret(bytes + at), "%s: valgrind lost the secret at byte %zu", what, at);
    known(bytes, BYTES);
    known(plain, BYTES);
    CHECK(!memcmp(bytes, plain, BYTES), "%s: there and back gives other bytes", what);
    secret(plain, BYTES);
}

static void all_work(int kernel, size_t key_length, int branch)
{
    qc_status status;
    qc_key *key;

    fill(secret_key, key_length, 1);
    fill(plain, BYTES, 2);
    fill(ivs, sizeof ivs, 3);
    secret(secret_key, key_length);
    secret(plain, BYTES);
    secret(ivs, sizeof ivs);
    if (branch && secret_key[0] & 1)
        sink = 1;
    key = qc_key_new(kernel, secret_key, key_length, &status);
    CHECK(key, "no key");
    CHECK(qc_cbc_encrypt(key, ivs, sizeof ivs, plain, work, BYTES, SECTOR) == QC_OK, "encrypt");
    CHECK(qc_cbc_decrypt(key, ivs, sizeof ivs, work, work, BYTES, SECTOR) == QC_OK, "decrypt");
    must_be_plain(work, "CBC");
    CHECK(qc_ecb_encrypt(key, plain, single, BYTES) == QC_OK, "ECB encrypt");
    CHECK(qc_ecb_decrypt(key, single, single, BYTES) == QC_OK, "ECB decrypt");
    must_be_plain(single, "ECB");
    qc_key_free(key);
}

int main(int count, char **words)
{
    for (int kernel = 0; count > 1 && kernel < qc_kernel_count(); kernel++) {
        if (strcmp(words[1], qc_kernel_name(kernel)) || !usable(kernel))
            continue;
        for (size_t key_length = 16; key_length <= 32; key_length += 8)
            all_work(kernel, key_length, count > 2);
        printf("%s on secrets%s\n", words[1], RUNNING_ON_VALGRIND ? ", under valgrind" : "");
        return 0;
    }
    fail("there is no such kernel here");
}
