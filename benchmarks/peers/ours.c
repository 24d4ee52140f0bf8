/* Our kernels, each by its own name, through the public header. */
#include "peers.h"

#include <stdlib.h>

#include "qcow2crypt.h"

typedef struct {
    qc_key *key;
    int encrypt;
} state;

static void *ours_open(const contender *self, const uint8_t *key, size_t key_length, int encrypt)
{
    qc_status status;
    state *s = malloc(sizeof *s);
    if (!s)
        abort();
    s->encrypt = encrypt;
    s->key = qc_key_new(self->kernel, key, key_length, &status);
    if (!s->key) {
        free(s);
        return NULL;
    }
    return s;
}

static void ours_run(void *state_, const uint8_t *ivs, const uint8_t *src, uint8_t *dst,
                     size_t sectors)
{
    const state *s = state_;
    if ((s->encrypt ? qc_cbc_encrypt : qc_cbc_decrypt)(s->key, ivs, BLOCK * sectors, src, dst,
                                                       SECTOR * sectors, SECTOR) != QC_OK)
        abort();
}

/* The same with the IVs made in each call, as a reader of images does it. */
static void plain64_run(void *state_, const uint8_t *ivs, const uint8_t *src, uint8_t *dst,
                        size_t sectors)
{
    uint8_t own[BLOCK * 128];
    (void)ivs;
    for (size_t done = 0; done < sectors;) {
        const size_t part = sectors - done < 128 ? sectors - done : 128;
        if (qc_plain64(done, own, BLOCK * part) != QC_OK)
            abort();
        ours_run(state_, own, src + SECTOR * done, dst + SECTOR * done, part);
        done += part;
    }
}

static void ours_close(void *state_)
{
    state *s = state_;
    qc_key_free(s->key);
    free(s);
}

int ours_contenders(contender *to)
{
    int n = 0;
    for (int k = 0; k < qc_kernel_count(); k++)
        if (!(qc_kernel_needs(k) & ~qc_cpu_features()))
            to[n++] = (contender){qc_kernel_name(k), ours_open, ours_run, ours_close, 1, k, NULL};
    to[n] = to[0]; /* the one that `auto` takes */
    to[n].name = "plain64";
    to[n].run = plain64_run;
    to[n].ciphers = 0; /* other IVs than the rest: only for the cost of making them */
    return n + 1;
}
