/* Constant-time AES on bit planes, many blocks at once: the algorithm, written once.
 *
 * A kernel file defines a word type W (one or several 64-bit lanes), W_LANES, TARGET and NAME,
 * and includes this file.  No table is read and nothing branches on a key or on data, so timing
 * and cache tell nothing about them.
 *
 * Four blocks fill one 64-bit lane of eight planes.  Plane b holds bit b of every byte; the byte
 * in row r, column c of block k has its bits at position 16 r + 4 c + k.  So ShiftRows rotates
 * 16-bit pieces and MixColumns, which mixes rows, rotates lanes by 16 bits.
 *
 * The S-box is the circuit of J. Boyar and R. Peralta, "A New Combinational Logic Minimization
 * Technique with Applications to Cryptology", SEA 2010: 113 gates.  The inverse S-box uses it
 * too: S(x) = A(1/x) + 63, so its inverse is B(S(B(x))) with B(x) = A^-1(x + 63).
 */

#define INLINE static inline __attribute__((always_inline)) TARGET
#define UNROLL _Pragma("GCC unroll 16")
#define BLOCKS (4 * W_LANES) /* that go through the rounds together */

INLINE void sub_bytes(W q[8])
{
    const W x0 = q[7], x1 = q[6], x2 = q[5], x3 = q[4], x4 = q[3], x5 = q[2], x6 = q[1], x7 = q[0];
    /* The top linear layer. */
    const W y14 = x3 ^ x5, y13 = x0 ^ x6, y9 = x0 ^ x3, y8 = x0 ^ x5, t0 = x1 ^ x2;
    const W y1 = t0 ^ x7, y4 = y1 ^ x3, y12 = y13 ^ y14, y2 = y1 ^ x0, y5 = y1 ^ x6;
    const W y3 = y5 ^ y8, t1 = x4 ^ y12, y15 = t1 ^ x5, y20 = t1 ^ x1, y6 = y15 ^ x7;
    const W y10 = y15 ^ t0, y11 = y20 ^ y9, y7 = x7 ^ y11, y17 = y10 ^ y11, y19 = y10 ^ y8;
    const W y16 = t0 ^ y11, y21 = y13 ^ y16, y18 = x0 ^ y16;
    /* The inversion. */
    const W t2 = y12 & y15, t4 = (y3 & y6) ^ t2, t6 = (y4 & x7) ^ t2, t7 = y13 & y16;
    const W t9 = (y5 & y1) ^ t7, t11 = (y2 & y7) ^ t7, t12 = y9 & y11;
    const W t14 = (y14 & y17) ^ t12, t16 = (y8 & y10) ^ t12;
    const W t21 = t4 ^ t14 ^ y20, t22 = t6 ^ t16 ^ y19, t23 = t9 ^ t14 ^ y21;
    const W t24 = t11 ^ t16 ^ y18, t25 = t21 ^ t22, t26 = t21 & t23, t27 = t24 ^ t26;
    const W t29 = (t25 & t27) ^ t22, t30 = t23 ^ t24, t31 = t22 ^ t26, t33 = (t31 & t30) ^ t24;
    const W t34 = t23 ^ t33, t35 = t27 ^ t33, t36 = t24 & t35, t37 = t36 ^ t34, t38 = t27 ^ t36;
    const W t40 = t25 ^ (t29 & t38), t41 = t40 ^ t37, t42 = t29 ^ t33, t43 = t29 ^ t40;
    const W t44 = t33 ^ t37, t45 = t42 ^ t41;
    const W z0 = t44 & y15, z1 = t37 & y6, z2 = t33 & x7, z3 = t43 & y16, z4 = t40 & y1;
    const W z5 = t29 & y7, z6 = t42 & y11, z7 = t45 & y17, z8 = t41 & y10, z9 = t44 & y12;
    const W z10 = t37 & y3, z11 = t33 & y4, z12 = t43 & y13, z13 = t40 & y5, z14 = t29 & y2;
    const W z15 = t42 & y9, z16 = t45 & y14, z17 = t41 & y8;
    /* The bottom linear layer. */
    const W t46 = z15 ^ z16, t47 = z10 ^ z11, t48 = z5 ^ z13, t49 = z9 ^ z10, t50 = z2 ^ z12;
    const W t51 = z2 ^ z5, t52 = z7 ^ z8, t53 = z0 ^ z3, t54 = z6 ^ z7, t55 = z16 ^ z17;
    const W t56 = z12 ^ t48, t57 = t50 ^ t53, t58 = z4 ^ t46, t59 = z3 ^ t54, t60 = t46 ^ t57;
    const W t61 = z14 ^ t57, t62 = t52 ^ t58, t63 = t49 ^ t58, t64 = z4 ^ t59, t65 = t61 ^ t62;
    const W t66 = z1 ^ t63, s3 = t53 ^ t66, t67 = t64 ^ t65;
    q[7] = t59 ^ t63;
    q[6] = t64 ^ ~s3;
    q[5] = t55 ^ ~t67;
    q[4] = s3;
    q[3] = t51 ^ t66;
    q[2] = t47 ^ t65;
    q[1] = t56 ^ ~t62;
    q[0] = t48 ^ ~t60;
}

/* B(x) = A^-1(x + 63): bit i becomes x[i+2] + x[i+5] + x[i+7], indices modulo 8, plus 05. */
INLINE void undo_affine(W q[8])
{
    W x[8];
    UNROLL
    for (int i = 0; i < 8; i++)
        x[i] = q[i];
    UNROLL
    for (int i = 0; i < 8; i++)
        q[i] = x[(i + 2) % 8] ^ x[(i + 5) % 8] ^ x[(i + 7) % 8];
    q[0] = ~q[0];
    q[2] = ~q[2];
}

INLINE void inv_sub_bytes(W q[8])
{
    undo_affine(q);
    sub_bytes(q);
    undo_affine(q);
}

/* Row r of every lane, rotated by r columns: columns are 4 bits apart, rows 16. */
INLINE void shift_rows(W q[8], const int direction)
{
    UNROLL
    for (int i = 0; i < 8; i++) {
        const W x = q[i];
        if (direction > 0)
            q[i] = (x & W_ALL(0x000000000000FFFF)) | ((x & W_ALL(0x00000000FFF00000)) >> 4) |
                   ((x & W_ALL(0x00000000000F0000)) << 12) | ((x & W_ALL(0x0000FF0000000000)) >> 8) |
                   ((x & W_ALL(0x000000FF00000000)) << 8) | ((x & W_ALL(0xF000000000000000)) >> 12) |
                   ((x & W_ALL(0x0FFF000000000000)) << 4);
        else
            q[i] = (x & W_ALL(0x000000000000FFFF)) | ((x & W_ALL(0x000000000FFF0000)) << 4) |
                   ((x & W_ALL(0x00000000F0000000)) >> 12) | ((x & W_ALL(0x0000FF0000000000)) >> 8) |
                   ((x & W_ALL(0x000000FF00000000)) << 8) | ((x & W_ALL(0x000F000000000000)) << 12) |
                   ((x & W_ALL(0xFFF0000000000000)) >> 4);
    }
}

INLINE W next_row(W x) { return (x >> 16) | (x << 48); }
INLINE W second_row(W x) { return (x >> 32) | (x << 32); }

/* With a the row itself and b, c, d those below it: 2a + 3b + c + d = 2(a+b) + b + c + d. */
INLINE void mix_columns(W q[8])
{
    W sum[8], rest[8];
    UNROLL
    for (int i = 0; i < 8; i++) {
        const W b = next_row(q[i]);
        sum[i] = q[i] ^ b;
        rest[i] = b ^ second_row(sum[i]);
    }
    q[0] = rest[0] ^ sum[7];
    q[1] = rest[1] ^ sum[0] ^ sum[7];
    q[2] = rest[2] ^ sum[1];
    q[3] = rest[3] ^ sum[2] ^ sum[7];
    q[4] = rest[4] ^ sum[3] ^ sum[7];
    q[5] = rest[5] ^ sum[4];
    q[6] = rest[6] ^ sum[5];
    q[7] = rest[7] ^ sum[6];
}

/* The inverse is MixColumns after adding 4(a + c) to a and c, and 4(b + d) to b and d. */
INLINE void inv_mix_columns(W q[8])
{
    W sum[8];
    UNROLL
    for (int i = 0; i < 8; i++)
        sum[i] = q[i] ^ second_row(q[i]);
    q[0] ^= sum[6];
    q[1] ^= sum[6] ^ sum[7];
    q[2] ^= sum[0] ^ sum[7];
    q[3] ^= sum[1] ^ sum[6];
    q[4] ^= sum[2] ^ sum[6] ^ sum[7];
    q[5] ^= sum[3] ^ sum[7];
    q[6] ^= sum[4];
    q[7] ^= sum[5];
    mix_columns(q);
}

/* Transpose 8 x 8 bits in every 8 bytes, byte n of all eight words together.  An involution. */
INLINE void swap_bits(W *a, W *b, const uint64_t low, const int by)
{
    const W t = ((*a >> by) ^ *b) & W_ALL(low);
    *b ^= t;
    *a ^= t << by;
}

INLINE void transpose(W q[8])
{
    UNROLL
    for (int i = 0; i < 8; i += 2)
        swap_bits(&q[i], &q[i + 1], 0x5555555555555555, 1);
    UNROLL
    for (int i = 0; i < 8; i += 4) {
        swap_bits(&q[i], &q[i + 2], 0x3333333333333333, 2);
        swap_bits(&q[i + 1], &q[i + 3], 0x3333333333333333, 2);
    }
    UNROLL
    for (int i = 0; i < 4; i++)
        swap_bits(&q[i], &q[i + 4], 0x0F0F0F0F0F0F0F0F, 4);
}

/* Every second byte: 0000abcd becomes 0a0b0c0d. */
static inline uint64_t spread(uint32_t column)
{
    uint64_t x = column;
    x = (x | x << 16) & 0x0000FFFF0000FFFF;
    return (x | x << 8) & 0x00FF00FF00FF00FF;
}

static inline uint32_t gather(uint64_t x)
{
    x &= 0x00FF00FF00FF00FF;
    x = (x | x >> 8) & 0x0000FFFF0000FFFF;
    return (uint32_t)(x | x >> 16);
}

/* Blocks to planes: word 4p + k holds columns p and p + 2 of block k, their bytes in turns. */
INLINE void to_planes(W q[8], const uint8_t blocks[BLOCKS * QC_BLOCK])
{
    uint64_t words[8][W_LANES];
    for (int lane = 0; lane < W_LANES; lane++)
        for (int k = 0; k < 4; k++) {
            const uint8_t *block = blocks + (lane * 4 + k) * QC_BLOCK;
            words[k][lane] = spread(qc_load32(block)) | spread(qc_load32(block + 8)) << 8;
            words[4 + k][lane] = spread(qc_load32(block + 4)) | spread(qc_load32(block + 12)) << 8;
        }
    memcpy(q, words, sizeof words);
    transpose(q);
}

INLINE void from_planes(uint8_t blocks[BLOCKS * QC_BLOCK], W q[8])
{
    uint64_t words[8][W_LANES];
    transpose(q);
    memcpy(words, q, sizeof words);
    for (int lane = 0; lane < W_LANES; lane++)
        for (int k = 0; k < 4; k++) {
            uint8_t *block = blocks + (lane * 4 + k) * QC_BLOCK;
            qc_store32(block, gather(words[k][lane]));
            qc_store32(block + 8, gather(words[k][lane] >> 8));
            qc_store32(block + 4, gather(words[4 + k][lane]));
            qc_store32(block + 12, gather(words[4 + k][lane] >> 8));
        }
}

INLINE void add_key(W q[8], const uint64_t planes[8])
{
    UNROLL
    for (int i = 0; i < 8; i++)
        q[i] ^= W_ALL(planes[i]);
}

#ifndef QC_PRIMITIVES_ONLY

TARGET static void NAME(encrypt_blocks)(const qc_schedule *key, uint8_t blocks[BLOCKS * QC_BLOCK])
{
    W q[8];
    to_planes(q, blocks);
    add_key(q, key->planes[0]);
    for (int round = 1; round < key->rounds; round++) {
        sub_bytes(q);
        shift_rows(q, 1);
        mix_columns(q);
        add_key(q, key->planes[round]);
    }
    sub_bytes(q);
    shift_rows(q, 1);
    add_key(q, key->planes[key->rounds]);
    from_planes(blocks, q);
}

TARGET static void NAME(decrypt_blocks)(const qc_schedule *key, uint8_t blocks[BLOCKS * QC_BLOCK])
{
    W q[8];
    to_planes(q, blocks);
    add_key(q, key->planes[key->rounds]);
    for (int round = key->rounds - 1; round > 0; round--) {
        shift_rows(q, -1);
        inv_sub_bytes(q);
        add_key(q, key->planes[round]);
        inv_mix_columns(q);
    }
    shift_rows(q, -1);
    inv_sub_bytes(q);
    add_key(q, key->planes[0]);
    from_planes(blocks, q);
}

/* As many sectors side by side as there are blocks; rows behind the last sector repeat it. */
TARGET static void NAME(cbc_encrypt)(const qc_schedule *key, const uint8_t *ivs,
                                     const uint8_t *src, uint8_t *dst, size_t count,
                                     size_t sector_size)
{
    uint8_t state[BLOCKS * QC_BLOCK] __attribute__((aligned(32)));
    while (count) {
        const size_t taken = count < BLOCKS ? count : BLOCKS;
        memset(state, 0, sizeof state);
        memcpy(state, ivs, taken * QC_BLOCK);
        for (size_t at = 0; at < sector_size; at += QC_BLOCK) {
            for (size_t i = 0; i < taken; i++)
                qc_xor_block(state + i * QC_BLOCK, src + i * sector_size + at);
            NAME(encrypt_blocks)(key, state);
            for (size_t i = 0; i < taken; i++)
                memcpy(dst + i * sector_size + at, state + i * QC_BLOCK, QC_BLOCK);
        }
        count -= taken;
        ivs += taken * QC_BLOCK;
        src += taken * sector_size;
        dst += taken * sector_size;
    }
    qc_wipe(state, sizeof state);
}

TARGET static void NAME(cbc_decrypt)(const qc_schedule *key, const uint8_t *ivs,
                                     const uint8_t *src, uint8_t *dst, size_t count,
                                     size_t sector_size)
{
    /* before: the ciphertext block before each block, then the last one, for the next round. */
    uint8_t state[BLOCKS * QC_BLOCK] __attribute__((aligned(32)));
    uint8_t before[(BLOCKS + 1) * QC_BLOCK];
    const size_t blocks = count * (sector_size / QC_BLOCK), per_sector = sector_size / QC_BLOCK;
    memset(state, 0, sizeof state);
    for (size_t done = 0; done < blocks;) {
        const size_t taken = blocks - done < BLOCKS ? blocks - done : BLOCKS;
        if (done)
            memcpy(before, before + BLOCKS * QC_BLOCK, QC_BLOCK);
        memcpy(before + QC_BLOCK, src + done * QC_BLOCK, taken * QC_BLOCK);
        memcpy(state, src + done * QC_BLOCK, taken * QC_BLOCK);
        NAME(decrypt_blocks)(key, state);
        for (size_t i = 0; i < taken; i++) {
            const size_t block = done + i;
            const uint8_t *previous = block % per_sector ? before + i * QC_BLOCK
                                                         : ivs + block / per_sector * QC_BLOCK;
            qc_xor_block(state + i * QC_BLOCK, previous);
        }
        memcpy(dst + done * QC_BLOCK, state, taken * QC_BLOCK);
        done += taken;
    }
    qc_wipe(state, sizeof state);
}

INLINE void ecb(const qc_schedule *key, const uint8_t *src, uint8_t *dst, size_t blocks,
                const int encrypt)
{
    uint8_t state[BLOCKS * QC_BLOCK] __attribute__((aligned(32)));
    memset(state, 0, sizeof state);
    while (blocks) {
        const size_t taken = blocks < BLOCKS ? blocks : BLOCKS;
        memcpy(state, src, taken * QC_BLOCK);
        (encrypt ? NAME(encrypt_blocks) : NAME(decrypt_blocks))(key, state);
        memcpy(dst, state, taken * QC_BLOCK);
        blocks -= taken;
        src += taken * QC_BLOCK;
        dst += taken * QC_BLOCK;
    }
    qc_wipe(state, sizeof state);
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

#endif /* QC_PRIMITIVES_ONLY */
