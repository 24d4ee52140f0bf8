/* The limit of the AES units: rounds on registers alone, as many as the work would need.
 *
 * Twelve vectors go through the rounds side by side: the instruction takes about four cycles and
 * two can begin in each, so eight would do.  Nothing is loaded, added or stored: no program that
 * does real work can be faster, for vectors of that width.  limit-serial is the limit of who does
 * one sector after the other: one block at a time, each instruction waiting for the one before. */
#include "peers.h"

#if defined(__x86_64__)
#include <stdlib.h>

#include "qcow2crypt.h"

typedef struct {
    int rounds, encrypt;
} state;

#define TWELVE(round) \
    round("0") round("1") round("2") round("3") round("4") round("5") \
    round("6") round("7") round("8") round("9") round("10") round("11")
#define SSE(op, n) op " %%xmm12, %%xmm" n "\n\t"
#define AVX(op, r, n) "v" op " %%" r "12, %%" r n ", %%" r n "\n\t"
#define ENC_XMM(n) SSE("aesenc", n)
#define DEC_XMM(n) SSE("aesdec", n)
#define ENC_YMM(n) AVX("aesenc", "ymm", n)
#define DEC_YMM(n) AVX("aesdec", "ymm", n)
#define ENC_ZMM(n) AVX("aesenc", "zmm", n)
#define DEC_ZMM(n) AVX("aesdec", "zmm", n)
#define LOOP(body, end)                                                                          \
    __asm__ volatile("1:\n\t" body "dec %0\n\tjnz 1b\n\t" end                                    \
                     : "+r"(times)                                                               \
                     :                                                                           \
                     : "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7",     \
                       "xmm8", "xmm9", "xmm10", "xmm11", "xmm12")

#define ONE(round) round("0")
#define LIMIT(name, lanes, count, width, blocks, end)                                            \
    static void name(void *state_, const uint8_t *ivs, const uint8_t *src, uint8_t *dst,         \
                     size_t sectors)                                                             \
    {                                                                                            \
        const state *s = state_;                                                                 \
        size_t times = sectors * (SECTOR / BLOCK) * (size_t)s->rounds;                           \
        (void)ivs, (void)src, (void)dst;                                                         \
        times = (times + (count) * (blocks) - 1) / ((count) * (blocks));                         \
        if (s->encrypt)                                                                          \
            LOOP(lanes(ENC_##width), end);                                                       \
        else                                                                                     \
            LOOP(lanes(DEC_##width), end);                                                       \
    }

LIMIT(run_serial, ONE, 1, XMM, 1, "")
LIMIT(run_xmm, TWELVE, 12, XMM, 1, "")
LIMIT(run_ymm, TWELVE, 12, YMM, 2, "vzeroupper\n\t")
LIMIT(run_zmm, TWELVE, 12, ZMM, 4, "vzeroupper\n\t")

static void *limit_open(const contender *self, const uint8_t *key, size_t key_length, int encrypt)
{
    state *s = malloc(sizeof *s);
    (void)self, (void)key;
    if (!s)
        abort();
    *s = (state){(int)(key_length / 4) + 6, encrypt};
    return s;
}

int limit_contenders(contender *to)
{
    const unsigned has = qc_cpu_features();
    int n = 0;
    if (has & QC_FEATURE_AES) {
        to[n++] = (contender){"limit-serial", limit_open, run_serial, free, 0, 0, NULL};
        to[n++] = (contender){"limit-xmm", limit_open, run_xmm, free, 0, 0, NULL};
    }
    if (has & QC_FEATURE_VAES)
        to[n++] = (contender){"limit-ymm", limit_open, run_ymm, free, 0, 0, NULL};
    if (has & QC_FEATURE_VAES && has & QC_FEATURE_AVX512F)
        to[n++] = (contender){"limit-zmm", limit_open, run_zmm, free, 0, 0, NULL};
    return n;
}

#else

int limit_contenders(contender *to)
{
    (void)to; /* written for x86-64 only */
    return 0;
}

#endif
