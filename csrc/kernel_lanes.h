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
 *                        and vectors of which vector i holds block i of every row
 *   v_previous(p, v)     the last block of p, then all but the last block of v
 *   v_first(iv)          a vector that ends with the block at iv
 *   LANES                how many vectors go through the rounds together
 *   NARROW               a kernel of single blocks, for what does not fill a vector (VL > 1)
 *
 * To encrypt a sector is serial work: each block waits for the one before.  An AES instruction
 * takes about four cycles, but one or two can begin in every cycle.  So LANES vectors, each with
 * one block of VL sectors, go through the rounds side by side.  Meanwhile the blocks that come
 * next are loaded and transposed, and those just finished are transposed back and stored, a few
 * in every round, so that the AES units never wait for memory.
 *
 * Rounds as in FIPS-197; decryption by its "equivalent inverse cipher".
 */

#define INLINE static inline __attribute__((always_inline)) TARGET
#define UNROLL _Pragma("GCC unroll 16")
#define CACHE_LINE 64
#define DECRYPT_AHEAD 4096 /* bytes, asked for while a piece is decrypted */
#define FULL_ROUNDS 9 /* of AES-128; longer keys have two or four more */

#define ROW(i) (whole ? (size_t)(i) * sector_size : row[i])

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

/* Encrypt one group: sectors 0 to last, in lanes * VL rows.  Rows behind the last sector repeat
 * it: they compute and store the same bytes again, which costs less than a narrower kernel.
 * whole: there are as many sectors as rows, which spares the look at row[]. */
INLINE void encrypt_group(const V *keys, int rounds, const uint8_t *ivs, const uint8_t *src,
                          uint8_t *dst, size_t sector_size, size_t last, const int lanes,
                          const int whole)
{
    size_t row[LANES * VL];
    V state[LANES], in[2][LANES * VL], out[2][LANES * VL];
    const size_t tiles = sector_size / (QC_BLOCK * VL);
    /* So much of the next group is asked for while one tile is worked on: hardware does not see
     * a pattern in as many streams as there are sectors. */
    const size_t share = (size_t)lanes * VL * VL * QC_BLOCK;
    /* Without v_xor3 the state is kept as ciphertext ^ first key: the plaintext is then all that
     * must be added before the next block's rounds; the first key is off the serial path. */
    const V first = keys[0], final = END(keys[rounds]);

    for (int i = 0; i < lanes * VL; i++)
        row[i] = ((size_t)i < last ? (size_t)i : last) * sector_size;
    for (int lane = 0; lane < lanes; lane++) {
        uint8_t iv[VL * QC_BLOCK];
        for (int i = 0; i < VL; i++) {
            size_t sector = (size_t)(lane * VL + i) < last ? (size_t)(lane * VL + i) : last;
            memcpy(iv + i * QC_BLOCK, ivs + sector * QC_BLOCK, QC_BLOCK);
        }
        state[lane] = END(v_load(iv));
        const uint8_t *rows[VL];
        for (int i = 0; i < VL; i++)
            rows[i] = src + row[lane * VL + i];
        v_tile_load(&in[0][lane * VL], rows);
    }
    for (size_t tile = 0; tile <= tiles; tile++) {
        V *now = in[tile & 1], *next = in[~tile & 1];
        V *done = out[~tile & 1], *finished = out[tile & 1];
        const size_t ahead = (tile + 1) * VL * QC_BLOCK, behind = (tile - 1) * VL * QC_BLOCK;
        const int load = tile + 1 < tiles, store = tile > 0;
        if (tile == tiles) {
            for (int lane = 0; lane < lanes; lane++) {
                uint8_t *rows[VL];
                for (int i = 0; i < VL; i++)
                    rows[i] = dst + row[lane * VL + i] + behind;
                v_tile_store(&done[lane * VL], rows);
            }
            break;
        }
        UNROLL
        for (int step = 0; step < VL; step++) {
            UNROLL
            for (int lane = 0; lane < lanes; lane++)
                state[lane] = BEGIN(state[lane], now[lane * VL + step]);
            UNROLL
            for (int round = 1; round <= FULL_ROUNDS; round++) {
                const V key = keys[round];
                const size_t line = (step * FULL_ROUNDS + round - 1) * (size_t)CACHE_LINE;
                if (whole && line < share) {
                    __builtin_prefetch(src + (lanes * VL) * sector_size + tile * share + line);
                    if (src != dst)
                        __builtin_prefetch(dst + (lanes * VL) * sector_size + tile * share + line, 1);
                }
                UNROLL
                for (int lane = 0; lane < lanes; lane++)
                    state[lane] = v_enc(state[lane], key);
                UNROLL
                for (int lane = step; lane < lanes; lane += VL) {
                    if (lane / VL % FULL_ROUNDS == round - 1 && load) {
                        const uint8_t *rows[VL];
                        UNROLL
                        for (int i = 0; i < VL; i++)
                            rows[i] = src + ROW(lane * VL + i) + ahead;
                        v_tile_load(&next[lane * VL], rows);
                    }
                    if ((lane / VL + 4) % FULL_ROUNDS == round - 1 && store) {
                        uint8_t *rows[VL];
                        UNROLL
                        for (int i = 0; i < VL; i++)
                            rows[i] = dst + ROW(lane * VL + i) + behind;
                        v_tile_store(&done[lane * VL], rows);
                    }
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
    }
}

TARGET static void NAME(cbc_encrypt)(const qc_schedule *key, const uint8_t *ivs,
                                     const uint8_t *src, uint8_t *dst, size_t count,
                                     size_t sector_size)
{
    V keys[QC_MAX_ROUNDS + 1];
#if VL > 1
    if (sector_size % (VL * QC_BLOCK)) {
        NARROW.cbc_encrypt(key, ivs, src, dst, count, sector_size);
        return;
    }
#endif
    load_keys(keys, key->encrypt, key->rounds);
    while (count) {
        size_t taken = count < LANES * VL ? count : LANES * VL;
#define GROUP(n, whole) \
    encrypt_group(keys, key->rounds, ivs, src, dst, sector_size, taken - 1, n, whole)
        if (taken == LANES * VL)
            GROUP(LANES, 1);
        else if (taken > 8 * VL)
            GROUP(LANES, 0);
        else if (taken > 4 * VL)
            GROUP(8, 0);
        else if (taken > 2 * VL)
            GROUP(4, 0);
        else if (taken > VL)
            GROUP(2, 0);
        else
            GROUP(1, 0);
        count -= taken;
        ivs += taken * QC_BLOCK;
        src += taken * sector_size;
        dst += taken * sector_size;
    }
}

/* Decrypt 8 * VL blocks from the last to the first, so that in place every ciphertext is still
 * there when the block behind it wants it.  carry: a vector that ends with the block before. */
INLINE V decrypt_piece(const V *keys, int rounds, V carry, const uint8_t *src, uint8_t *dst,
                       const int vectors)
{
    V state[8];
    const V head = v_load(src), tail = v_load(src + (size_t)(vectors - 1) * VL * QC_BLOCK);
    UNROLL
    for (int line = 0; line < vectors * VL * QC_BLOCK; line += CACHE_LINE)
        __builtin_prefetch(src + line + DECRYPT_AHEAD);
    UNROLL
    for (int i = 0; i < vectors; i++)
        state[i] = v_xor(v_load(src + i * VL * QC_BLOCK), keys[0]);
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
    for (int i = vectors - 1; i >= 0; i--) {
        V before = i ? v_load(src + (i * VL - 1) * QC_BLOCK) : v_previous(carry, head);
        v_store(dst + i * VL * QC_BLOCK, v_xor(v_declast(state[i], keys[rounds]), before));
    }
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
    for (; count; count--, ivs += QC_BLOCK, src += sector_size, dst += sector_size) {
        V carry = v_first(ivs);
        size_t at = 0;
        for (; at + 8 * vector <= sector_size; at += 8 * vector)
            carry = decrypt_piece(keys, key->rounds, carry, src + at, dst + at, 8);
        for (; at + vector <= sector_size; at += vector)
            carry = decrypt_piece(keys, key->rounds, carry, src + at, dst + at, 1);
    }
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
