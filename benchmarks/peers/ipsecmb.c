/* intel-ipsec-mb: its burst of cipher jobs, one job a sector, without checks of the arguments.
 * The jobs are made ready in each call, as the IVs and places change with each. */
#include "peers.h"

#include <intel-ipsec-mb.h>
#include <stdlib.h>
#include <string.h>

#define BURST 128 /* the most that the library takes */

typedef struct {
    IMB_MGR *manager;
    IMB_JOB jobs[BURST];
    DECLARE_ALIGNED(uint8_t encrypt[16 * 15], 16);
    DECLARE_ALIGNED(uint8_t decrypt[16 * 15], 16);
    IMB_CIPHER_DIRECTION direction;
    IMB_KEY_SIZE_BYTES key_size;
} state;

static void ipsecmb_close(void *state_)
{
    state *s = state_;
    free_mb_mgr(s->manager);
    free(s);
}

static void *ipsecmb_open(const contender *self, const uint8_t *key, size_t key_length,
                          int encrypt)
{
    state *s = aligned_alloc(64, (sizeof *s + 63) / 64 * 64);
    IMB_ARCH arch;
    (void)self;
    if (!s)
        abort();
    memset(s, 0, sizeof *s);
    s->manager = alloc_mb_mgr(0);
    if (!s->manager)
        abort();
    init_mb_mgr_auto(s->manager, &arch);
    s->direction = encrypt ? IMB_DIR_ENCRYPT : IMB_DIR_DECRYPT;
    s->key_size = key_length == 16 ? IMB_KEY_128_BYTES : IMB_KEY_256_BYTES;
    if (key_length == 16)
        IMB_AES_KEYEXP_128(s->manager, key, s->encrypt, s->decrypt);
    else
        IMB_AES_KEYEXP_256(s->manager, key, s->encrypt, s->decrypt);
    for (int i = 0; i < BURST; i++) {
        IMB_JOB *job = &s->jobs[i];
        job->cipher_mode = IMB_CIPHER_CBC;
        job->hash_alg = IMB_AUTH_NULL;
        job->chain_order = IMB_ORDER_CIPHER_HASH;
        job->cipher_direction = s->direction;
        job->enc_keys = s->encrypt;
        job->dec_keys = s->decrypt;
        job->key_len_in_bytes = key_length;
        job->iv_len_in_bytes = BLOCK;
        job->msg_len_to_cipher_in_bytes = SECTOR;
    }
    return s;
}

static void ipsecmb_run(void *state_, const uint8_t *ivs, const uint8_t *src, uint8_t *dst,
                        size_t sectors)
{
    state *s = state_;
    while (sectors) {
        const uint32_t n = sectors < BURST ? (uint32_t)sectors : BURST;
        for (uint32_t i = 0; i < n; i++) {
            s->jobs[i].src = src + (size_t)SECTOR * i;
            s->jobs[i].dst = dst + (size_t)SECTOR * i;
            s->jobs[i].iv = ivs + (size_t)BLOCK * i;
        }
        if (IMB_SUBMIT_CIPHER_BURST_NOCHECK(s->manager, s->jobs, n, IMB_CIPHER_CBC, s->direction,
                                            s->key_size) != n)
            abort();
        sectors -= n;
        src += (size_t)SECTOR * n;
        dst += (size_t)SECTOR * n;
        ivs += (size_t)BLOCK * n;
    }
}

int ipsecmb_contenders(contender *to)
{
    *to = (contender){"ipsecmb", ipsecmb_open, ipsecmb_run, ipsecmb_close, 1, 0,
                      imb_get_version_str()};
    return 1;
}
