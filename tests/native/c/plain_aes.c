/* FIPS-197, sections 4 and 5.  The state is 16 bytes, column after column. */
#include "plain_aes.h"

#include <string.h>

static uint8_t sbox[256], inverse_sbox[256];

static uint8_t times(uint8_t a, uint8_t b)
{
    unsigned product = 0, x = a;
    for (; b; b >>= 1) {
        product ^= x * (b & 1u);
        x = x << 1 ^ (x >> 7) * 0x11bu;
    }
    return (uint8_t)product;
}

/* Section 5.1.1: the inverse in GF(2^8), which is x^254, then an affine map. */
static void make_tables(void)
{
    for (unsigned i = 0; i < 256; i++) {
        uint8_t inverse = 1;
        unsigned affine = 0x63;
        for (int n = 0; n < 254; n++)
            inverse = times(inverse, (uint8_t)i);
        for (int turn = 0; turn < 5; turn++)
            affine ^= (unsigned)inverse << turn | (unsigned)inverse >> (8 - turn);
        sbox[i] = (uint8_t)affine;
        inverse_sbox[sbox[i]] = (uint8_t)i;
    }
}

int plain_expand(uint8_t keys[15][16], const uint8_t *key, size_t length)
{
    uint8_t *words = &keys[0][0], rcon = 1;
    const size_t in_key = length / 4, rounds = in_key + 6;

    if (!sbox[0])
        make_tables();
    memcpy(words, key, length);
    for (size_t i = in_key; i < 4 * (rounds + 1); i++) {
        uint8_t t[4];
        memcpy(t, words + 4 * (i - 1), 4);
        if (i % in_key == 0) {
            const uint8_t head = t[0];
            t[0] = sbox[t[1]] ^ rcon;
            t[1] = sbox[t[2]];
            t[2] = sbox[t[3]];
            t[3] = sbox[head];
            rcon = times(rcon, 2);
        } else if (in_key > 6 && i % in_key == 4) {
            for (int k = 0; k < 4; k++)
                t[k] = sbox[t[k]];
        }
        for (size_t k = 0; k < 4; k++)
            words[4 * i + k] = words[4 * (i - in_key) + k] ^ t[k];
    }
    return (int)rounds;
}

static void add(uint8_t *block, const uint8_t *key)
{
    for (int i = 0; i < 16; i++)
        block[i] ^= key[i];
}

/* SubBytes and ShiftRows: row r goes r columns to the left, or back. */
static void sub_shift(uint8_t block[16], const uint8_t table[256], unsigned direction)
{
    uint8_t old[16];
    memcpy(old, block, 16);
    for (unsigned column = 0; column < 4; column++)
        for (unsigned row = 0; row < 4; row++)
            block[4 * column + row] = table[old[4 * ((column + direction * row) % 4) + row]];
}

static void mix(uint8_t block[16], const uint8_t factors[4])
{
    for (unsigned column = 0; column < 4; column++) {
        uint8_t old[4];
        memcpy(old, block + 4 * column, 4);
        for (unsigned row = 0; row < 4; row++) {
            block[4 * column + row] = 0;
            for (unsigned k = 0; k < 4; k++)
                block[4 * column + row] ^= times(old[(row + k) % 4], factors[k]);
        }
    }
}

void plain_encrypt(uint8_t block[16], uint8_t keys[15][16], int rounds)
{
    static const uint8_t factors[4] = {2, 3, 1, 1};
    add(block, keys[0]);
    for (int round = 1; round <= rounds; round++) {
        sub_shift(block, sbox, 1);
        if (round < rounds)
            mix(block, factors);
        add(block, keys[round]);
    }
}

void plain_decrypt(uint8_t block[16], uint8_t keys[15][16], int rounds)
{
    static const uint8_t factors[4] = {14, 11, 13, 9};
    add(block, keys[rounds]);
    for (int round = rounds - 1; round >= 0; round--) {
        sub_shift(block, inverse_sbox, 3);
        add(block, keys[round]);
        if (round > 0)
            mix(block, factors);
    }
}
