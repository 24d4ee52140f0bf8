/* CBC over many sectors at once with AES instructions: the algorithm, written once.
 *
 * A kernel file defines a vector of VL blocks (VL is 1, 2 or 4) and these operations, and then
 * includes this file:
 *
 *   V, TARGET            the vector type; the function attribute with the features it needs
 *   v_load v_store       VL consecutive blocks, at any alignment
 *   v_xor v_splat        exclusive or; one block in all places
 *   FOLDED               0 if there is v_xor3, the exclusive or of three in one instruction
 *   v_enc v_enclast v_dec v_declast    one AES round on every block
 *   v_tile_load v_tile_store   a tile, VL consecutive blocks of each of VL rows, between memory
 *                        and vectors of which vector i holds block i of every row; row i begins
 *                        at p + row[i]
 *   v_previous(p, v)     the last block of p, then all but the last block of v
 *   v_first(iv)          a vector that ends with the block at iv
 *   LANES                how many vectors go through the rounds together
 *   NARROW               a kernel of single blocks, for what does not fill a vector (VL > 1)
 *   LONG_LANES           as LANES, for a run that outgrows caches; with it v_stream, v_tile_stream
 *                        and v_stream_end: stores past the caches, of whole aligned cache lines.
 *                        Such a kernel also has a way of its own through the third cache
 *
 * To encrypt a sector is serial work: each block waits for the one before.  An AES instruction
 * takes about four cycles, but one or two can begin in every cycle.  So LANES vectors, each with
 * one block of VL sectors, go through the rounds side by side.  Meanwhile the blocks that come
 * next are loaded and transposed, and those just finished are transposed back and stored, a few
 * in every round, so that the AES units never wait for memory.  That goes on from one group of
 * sectors to the next: only the first load and the last store of a run stand alone.
 *
 * Rounds as in FIPS-197; decryption by its "equivalent inverse cipher".
 */

#define INLINE static inline __attribute__((always_inline)) TARGET
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif
#include "kernel_place.h"

#define DECRYPT_AHEAD 4096 /* bytes, asked for while a piece is decrypted */
#define FULL_ROUNDS 9 /* of AES-128; longer keys have two or four more */
#define SLOTS (VL * FULL_ROUNDS) /* of a tile: between them memory is read and written */
#define WHOLE_SECTOR 512 /* of whole groups: rows are then at distances that the compiler knows */
#define COLUMNS_AHEAD 2 /* cache lines of a row, asked for while a run in the caches is encrypted */

#define ROW(i) (whole ? (size_t)(i) * sector_size : row[i])

#ifndef LONG_LANES
#define v_stream v_store
#define v_tile_stream v_tile_store
#endif
#define STORE(p, v) (place == STREAMED ? v_stream(p, v) : v_store(p, v))
#define TILE_STORE(t, p, row) \
    (place == STREAMED ? v_tile_stream(t, p, row) : v_tile_store(t, p, row))

#if FOLDED
#define BEGIN(state, block) v_xor(state, block)
#define END(state) v_xor(state, first)
#else
#define BEGIN(state, block) v_xor3(state, block, first)
#define END(state) (state)
#endif

INLINE void load_keys(V keys[QC_MAX_ROUNDS + 1], const uint8_t *schedule, int rounds)
{
    for (int i = 0; i <= rounds; i++)
        keys[i] = v_splat(schedule + QC_BLOCK * i);
}

/* Every function that has round keys ends here.  What a compiler has put aside on its own stack
 * or left in registers is out of reach. */
INLINE void forget_keys(V keys[QC_MAX_ROUNDS + 1])
{
    static const uint8_t zero[QC_BLOCK];
    for (int i = 0; i <= QC_MAX_ROUNDS; i++)
        keys[i] = v_splat(zero);
    __asm__ volatile("" : : "r"(keys) : "memory");
}

/* Encrypt groups of sectors, each in lanes * VL rows, one sector in a row.
 *
 * whole: every row has a sector of its own, of WHOLE_SECTOR bytes.  Else there is one group, of
 * sectors 0 to last.  Rows behind the last sector repeat it: they compute and store the same
 * bytes again, which costs less than a narrower kernel. */
INLINE void encrypt_groups(const V *keys, int rounds, const uint8_t *ivs, const uint8_t *src,
                           uint8_t *dst, size_t sector_size, size_t groups, size_t last,
                           const int lanes, const int whole, const int place)
{
    size_t row[LANES * VL];
    uint8_t iv[LANES * VL * QC_BLOCK];
    V state[LANES], in[2][LANES * VL], out[2][LANES * VL];
    const size_t width = VL * QC_BLOCK, tiles = sector_size / width;
    const size_t group = (size_t)(lanes * VL) * sector_size;
    /* So many lines are asked for while one tile is worked on, since hardware does not see a
     * pattern in as many streams as there are sectors.  In the caches they are those that come
     * next in each row, few and soon used: the first cache is small, and what is there of dst is
     * best not fetched.  Memory is slower and wants to be read in its own order, so from there
     * it is all of the next group, line after line, of dst too. */
    const int asked = lanes * VL * VL / (CACHE_LINE / QC_BLOCK);
    const size_t parts = CACHE_LINE / width, columns = WHOLE_SECTOR / CACHE_LINE;
    const size_t apart = place <= WIDE ? WHOLE_SECTOR : CACHE_LINE;
    /* Without v_xor3 the state is kept as ciphertext ^ first key: the plaintext is then all that
     * must be added before the next block's rounds; the first key is off the serial path. */
    const V first = keys[0], final = END(keys[rounds]);
    uint8_t *behind = dst;
    size_t parity = 0, left = groups;

    for (int i = 0; i < lanes * VL && !whole; i++) {
        const size_t sector = (size_t)i < last ? (size_t)i : last;
        row[i] = sector * sector_size;
        memcpy(iv + i * QC_BLOCK, ivs + sector * QC_BLOCK, QC_BLOCK);
    }
    for (int lane = 0; lane < lanes; lane++) {
        size_t at[VL];
        for (int i = 0; i < VL; i++)
            at[i] = ROW(lane * VL + i);
        v_tile_load(&in[0][lane * VL], src, at);
    }
    do {
        UNROLL
        for (int lane = 0; lane < lanes; lane++)
            state[lane] = END(v_load((whole ? ivs : iv) + (size_t)lane * width));
        for (size_t tile = 0; tile < tiles; tile++, parity ^= 1) {
            V *now = in[parity], *next = in[parity ^ 1];
            V *done = out[parity ^ 1], *finished = out[parity];
            const int ends = tile + 1 == tiles, load = !ends || left > 1;
            const int store = tile || left < groups;
            const uint8_t *ahead = ends ? src + group : src + (tile + 1) * width;
            const size_t column = tile / parts + COLUMNS_AHEAD, part = (size_t)asked * apart;
            const uint8_t *soon = place <= WIDE ? src + column % columns * CACHE_LINE +
                                                      tile % parts * part +
                                                      (left > 1 ? column / columns * group : 0)
                                                : src + tile * part + (left > 1 ? group : 0);
            UNROLL
            for (int step = 0; step < VL; step++) {
                UNROLL
                for (int lane = 0; lane < lanes; lane++)
                    state[lane] = BEGIN(state[lane], now[lane * VL + step]);
                UNROLL
                for (int round = 1; round <= FULL_ROUNDS; round++) {
                    const V key = keys[round];
                    const int slot = step * FULL_ROUNDS + round - 1;
                    UNROLL
                    for (int i = slot * asked / SLOTS; i < (slot + 1) * asked / SLOTS; i++) {
                        if (whole && place == WIDE) /* no further than into the second cache */
                            __builtin_prefetch(soon + (size_t)i * apart, 0, 2);
                        else if (whole)
                            __builtin_prefetch(soon + (size_t)i * apart);
                        if (whole && place == APART)
                            __builtin_prefetch(dst + (soon - src) + (size_t)i * apart);
                    }
                    UNROLL
                    for (int lane = 0; lane < lanes; lane++)
                        state[lane] = v_enc(state[lane], key);
#ifdef LONG_LANES
                    /* In the third cache order counts most: from the first row to the last, each
                     * load with a store, is a step that hardware sees and runs ahead of. */
                    UNROLL
                    for (int lane = place == WIDE ? slot * lanes / SLOTS : lanes;
                         lane < (slot + 1) * lanes / SLOTS; lane++) {
                        const int other = (lane + lanes / 2) % lanes;
                        size_t at[VL], to[VL];
                        UNROLL
                        for (int i = 0; i < VL; i++) {
                            at[i] = ROW(lane * VL + i);
                            to[i] = ROW(other * VL + i);
                        }
                        if (load)
                            v_tile_load(&next[lane * VL], ahead, at);
                        if (store)
                            v_tile_store(&done[other * VL], behind, to);
                    }
                    if (place == WIDE)
                        continue;
#endif
                    UNROLL
                    for (int lane = step; lane < lanes; lane += VL) {
                        size_t at[VL];
                        UNROLL
                        for (int i = 0; i < VL; i++)
                            at[i] = ROW(lane * VL + i);
                        if (lane / VL % FULL_ROUNDS == round - 1 && load)
                            v_tile_load(&next[lane * VL], ahead, at);
                        if ((lane / VL + 4) % FULL_ROUNDS == round - 1 && store)
                            TILE_STORE(&done[lane * VL], behind, at);
                    }
                }
                for (int round = FULL_ROUNDS + 1; round < rounds; round++) {
                    const V key = keys[round];
                    UNROLL
                    for (int lane = 0; lane < lanes; lane++)
                        state[lane] = v_enc(state[lane], key);
                }
                UNROLL
                for (int lane = 0; lane < lanes; lane++) {
                    state[lane] = v_enclast(state[lane], final);
                    finished[lane * VL + step] = END(state[lane]);
                }
            }
            behind = dst + tile * width;
        }
        ivs += (size_t)lanes * width;
        src += group;
        dst += group;
    } while (--left);
    for (int lane = 0; lane < lanes; lane++) {
        size_t at[VL];
        for (int i = 0; i < VL; i++)
            at[i] = ROW(lane * VL + i);
        TILE_STORE(&out[parity ^ 1][lane * VL], behind, at);
    }
}

TARGET static void NAME(cbc_encrypt)(const qc_schedule *key, const uint8_t *ivs,
                                     const uint8_t *src, uint8_t *dst, size_t count,
                                     size_t sector_size)
{
    V keys[QC_MAX_ROUNDS + 1];
    const int place = place_of(src, dst, count * sector_size);
#if VL > 1
    if (sector_size % (VL * QC_BLOCK)) {
        NARROW.cbc_encrypt(key, ivs, src, dst, count, sector_size);
        return;
    }
#endif
    load_keys(keys, key->encrypt, key->rounds);
    while (count) {
        size_t taken = count < LANES * VL ? count : LANES * VL;
#define WHOLE(n, to)                                                                          \
    do {                                                                                      \
        taken = count - count % ((n) * VL);                                                   \
        encrypt_groups(keys, key->rounds, ivs, src, dst, WHOLE_SECTOR, taken / ((n) * VL), 0, \
                       n, 1, to);                                                             \
    } while (0)
#define PART(n) \
    encrypt_groups(keys, key->rounds, ivs, src, dst, sector_size, 1, taken - 1, n, 0, NEAR)
#ifdef LONG_LANES
        /* Fewer rows at a time, where each is waited for longer. */
        const int is_long = sector_size == WHOLE_SECTOR && count >= LONG_LANES * VL;
        if (is_long && place == STREAMED) {
            WHOLE(LONG_LANES, STREAMED);
            v_stream_end();
        } else if (is_long && place == FAR)
            WHOLE(LONG_LANES, FAR);
        else if (is_long && place == APART)
            WHOLE(LONG_LANES, APART);
        else if (sector_size == WHOLE_SECTOR && taken == LANES * VL && place == WIDE)
            WHOLE(LANES, WIDE);
        else
#endif
        if (sector_size == WHOLE_SECTOR && taken == LANES * VL) {
            if (place <= WIDE)
                WHOLE(LANES, NEAR);
            else if (place == FAR)
                WHOLE(LANES, FAR);
            else
                WHOLE(LANES, APART);
        } else if (LANES > 12 && taken > 12 * VL)
            PART(LANES);
        else if (taken > 8 * VL)
            PART(LANES < 12 ? LANES : 12);
        else if (taken > 4 * VL)
            PART(8);
        else if (taken > 2 * VL)
            PART(4);
        else if (taken > VL)
            PART(2);
        else
            PART(1);
        count -= taken;
        ivs += taken * QC_BLOCK;
        src += taken * sector_size;
        dst += taken * sector_size;
    }
    forget_keys(keys);
}

/* Decrypt up to 8 * VL blocks.  carry: a vector that ends with the block before.  All is read
 * before anything is written, so src may be dst, and no load waits behind a store of the piece.
 * To add the blocks before to the last round's key at once, not at the end, would be a little
 * faster; but a compiler without registers for all would leave that on its stack, and ciphertext
 * is no secret. */
INLINE V decrypt_piece(const V *keys, int rounds, V carry, const uint8_t *src, uint8_t *dst,
                       const int vectors, const int place)
{
    V state[8], before[8];
    const V head = v_load(src), tail = v_load(src + (size_t)(vectors - 1) * VL * QC_BLOCK);
    UNROLL
    for (int line = 0; line < vectors * VL * QC_BLOCK; line += CACHE_LINE)
        __builtin_prefetch(src + line + DECRYPT_AHEAD);
    UNROLL
    for (int i = 0; i < vectors; i++) {
        before[i] = i ? v_load(src + (i * VL - 1) * QC_BLOCK) : v_previous(carry, head);
        state[i] = v_xor(v_load(src + i * VL * QC_BLOCK), keys[0]);
    }
    UNROLL
    for (int round = 1; round <= FULL_ROUNDS; round++) {
        const V key = keys[round];
        UNROLL
        for (int i = 0; i < vectors; i++)
            state[i] = v_dec(state[i], key);
    }
    for (int round = FULL_ROUNDS + 1; round < rounds; round++) {
        const V key = keys[round];
        UNROLL
        for (int i = 0; i < vectors; i++)
            state[i] = v_dec(state[i], key);
    }
    UNROLL
    for (int i = vectors - 1; i >= 0; i--)
        STORE(dst + i * VL * QC_BLOCK, v_xor(v_declast(state[i], keys[rounds]), before[i]));
    return tail;
}

TARGET static void NAME(cbc_decrypt)(const qc_schedule *key, const uint8_t *ivs,
                                     const uint8_t *src, uint8_t *dst, size_t count,
                                     size_t sector_size)
{
    const size_t vector = VL * QC_BLOCK;
    V keys[QC_MAX_ROUNDS + 1];
#if VL > 1
    if (sector_size % vector) {
        NARROW.cbc_decrypt(key, ivs, src, dst, count, sector_size);
        return;
    }
#endif
    load_keys(keys, key->decrypt, key->rounds);
#ifdef LONG_LANES
    if (sector_size == WHOLE_SECTOR && place_of(src, dst, count * sector_size) == STREAMED) {
        for (; count; count--, ivs += QC_BLOCK, src += WHOLE_SECTOR, dst += WHOLE_SECTOR)
            decrypt_piece(keys, key->rounds, v_first(ivs), src, dst, 8, STREAMED);
        v_stream_end();
    }
#endif
    for (; count; count--, ivs += QC_BLOCK, src += sector_size, dst += sector_size) {
        V carry = v_first(ivs);
        size_t at = 0;
        for (; at + 8 * vector <= sector_size; at += 8 * vector)
            carry = decrypt_piece(keys, key->rounds, carry, src + at, dst + at, 8, NEAR);
        for (; at + vector <= sector_size; at += vector)
            carry = decrypt_piece(keys, key->rounds, carry, src + at, dst + at, 1, NEAR);
    }
    forget_keys(keys);
}

/* One of encryption or decryption of `vectors` vectors of single blocks. */
INLINE void ecb_piece(const V *keys, int rounds, const uint8_t *src, uint8_t *dst,
                      const int vectors, const int encrypt)
{
    V state[8];
    UNROLL
    for (int i = 0; i < vectors; i++)
        state[i] = v_xor(v_load(src + i * VL * QC_BLOCK), keys[0]);
    for (int round = 1; round < rounds; round++) {
        const V key = keys[round];
        UNROLL
        for (int i = 0; i < vectors; i++)
            state[i] = encrypt ? v_enc(state[i], key) : v_dec(state[i], key);
    }
    UNROLL
    for (int i = 0; i < vectors; i++)
        v_store(dst + i * VL * QC_BLOCK, encrypt ? v_enclast(state[i], keys[rounds])
                                                 : v_declast(state[i], keys[rounds]));
}

INLINE void ecb(const qc_schedule *key, const uint8_t *src, uint8_t *dst, size_t blocks,
                const int encrypt)
{
    V keys[QC_MAX_ROUNDS + 1];
    load_keys(keys, encrypt ? key->encrypt : key->decrypt, key->rounds);
    for (; blocks >= 8 * VL; blocks -= 8 * VL, src += 8 * VL * QC_BLOCK, dst += 8 * VL * QC_BLOCK)
        ecb_piece(keys, key->rounds, src, dst, 8, encrypt);
    for (; blocks >= VL; blocks -= VL, src += VL * QC_BLOCK, dst += VL * QC_BLOCK)
        ecb_piece(keys, key->rounds, src, dst, 1, encrypt);
#if VL > 1
    if (blocks)
        (encrypt ? NARROW.ecb_encrypt : NARROW.ecb_decrypt)(key, src, dst, blocks);
#endif
    forget_keys(keys);
}

TARGET static void NAME(ecb_encrypt)(const qc_schedule *key, const uint8_t *src, uint8_t *dst,
                                     size_t blocks)
{
    ecb(key, src, dst, blocks, 1);
}

TARGET static void NAME(ecb_decrypt)(const qc_schedule *key, const uint8_t *src, uint8_t *dst,
                                     size_t blocks)
{
    ecb(key, src, dst, blocks, 0);
}

#define KERNEL(title, features)                                                             \
    {                                                                                       \
        title, features, NAME(cbc_encrypt), NAME(cbc_decrypt), NAME(ecb_encrypt),           \
            NAME(ecb_decrypt)                                                               \
    }
