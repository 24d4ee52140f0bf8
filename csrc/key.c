/* The key schedule of FIPS-197, section 5.2, in constant time: one for every kernel. */
#include "internal.h"

#define TARGET
#define NAME(f) f##_scalar
typedef uint64_t W;
#define W_LANES 1
#define W_ALL(x) ((W)(x))
#define QC_PRIMITIVES_ONLY
#include "kernel_bitslice.h"

static uint32_t sub_word(uint32_t word)
{
    uint8_t blocks[BLOCKS * QC_BLOCK] = {0};
    W q[8];
    qc_store32(blocks, word);
    to_planes(q, blocks);
    sub_bytes(q);
    from_planes(blocks, q);
    word = qc_load32(blocks);
    qc_wipe(q, sizeof q);
    qc_wipe(blocks, sizeof blocks);
    return word;
}

void qc_expand_key(qc_schedule *schedule, const uint8_t *key, size_t length)
{
    const int words = (int)(length / 4), rounds = words + 6;
    uint32_t previous = 0, rcon = 1;

    schedule->rounds = rounds;
    memcpy(schedule->encrypt, key, length);
    for (int i = words; i < 4 * (rounds + 1); i++) {
        previous = qc_load32(schedule->encrypt + 4 * (i - 1));
        if (i % words == 0) {
            /* RotWord on a word whose first byte is the lowest. */
            previous = sub_word(previous >> 8 | previous << 24) ^ rcon;
            rcon = rcon << 1 ^ (rcon >> 7) * 0x11b;
        } else if (words > 6 && i % words == 4) {
            previous = sub_word(previous);
        }
        qc_store32(schedule->encrypt + 4 * i,
                   previous ^ qc_load32(schedule->encrypt + 4 * (i - words)));
    }
    for (int round = 0; round <= rounds; round++) {
        uint8_t blocks[BLOCKS * QC_BLOCK];
        W q[8];
        for (int k = 0; k < BLOCKS; k++)
            memcpy(blocks + k * QC_BLOCK, schedule->encrypt + round * QC_BLOCK, QC_BLOCK);
        to_planes(q, blocks);
        memcpy(schedule->planes[round], q, sizeof q);
        if (round > 0 && round < rounds)
            inv_mix_columns(q);
        from_planes(blocks, q);
        memcpy(schedule->decrypt + (rounds - round) * QC_BLOCK, blocks, QC_BLOCK);
        qc_wipe(q, sizeof q);
        qc_wipe(blocks, sizeof blocks);
    }
}
