/* AES with tables, the common way to write it without AES instructions: what the portable kernel
 * is held against.  It is not constant time: which part of a table is read depends on the key.
 *
 * Written from FIPS-197: the S-box is computed (section 5.1.1), and each table is what SubBytes
 * and MixColumns together make of one byte.  Columns are 32-bit words, first byte lowest. */
#include "peers.h"

#include <stdlib.h>
#include <string.h>

static uint8_t sbox[256], inverse_sbox[256];
static uint32_t forward[4][256], backward[4][256];

typedef struct {
    uint32_t keys[60];
    int rounds, encrypt;
} state;

static uint32_t times(uint32_t a, uint32_t b)
{
    uint32_t product = 0;
    for (; b; b >>= 1) {
        if (b & 1)
            product ^= a;
        a = a << 1 ^ (a >> 7) * 0x11b;
    }
    return product;
}

static void make_tables(void)
{
    for (uint32_t x = 0; x < 256; x++) {
        uint32_t inverse = 1; /* x to the power of 254 */
        for (int i = 0; i < 254; i++)
            inverse = times(inverse, x);
        const uint32_t twice = inverse | inverse << 8;
        const uint32_t s =
            (inverse ^ twice >> 7 ^ twice >> 6 ^ twice >> 5 ^ twice >> 4 ^ 0x63) & 0xff;
        sbox[x] = (uint8_t)s;
        inverse_sbox[s] = (uint8_t)x;
    }
    for (int x = 0; x < 256; x++) {
        const uint32_t s = sbox[x], i = inverse_sbox[x];
        uint32_t f = times(s, 2) | s << 8 | s << 16 | times(s, 3) << 24;
        uint32_t b = times(i, 14) | times(i, 9) << 8 | times(i, 13) << 16 | times(i, 11) << 24;
        for (int row = 0; row < 4; row++) {
            forward[row][x] = f;
            backward[row][x] = b;
            f = f << 8 | f >> 24;
            b = b << 8 | b >> 24;
        }
    }
}

static uint32_t load(const uint8_t *p)
{
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static void store(uint8_t *p, uint32_t x)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(x >> 8 * i);
}

static uint32_t substitute(const uint8_t *box, uint32_t a, uint32_t b, uint32_t c, uint32_t d)
{
    return box[a & 0xff] | (uint32_t)box[b >> 8 & 0xff] << 8 |
           (uint32_t)box[c >> 16 & 0xff] << 16 | (uint32_t)box[d >> 24] << 24;
}

/* Section 5.2, and for decryption the keys of the equivalent inverse cipher, section 5.3.5. */
static void expand(state *s, const uint8_t *key, int words)
{
    const int total = 4 * (words + 7);
    uint32_t rcon = 1, w[60];
    for (int i = 0; i < total; i++) {
        uint32_t x = i ? w[i - 1] : 0;
        if (i < words) {
            w[i] = load(key + 4 * i);
            continue;
        }
        if (i % words == 0) {
            x = x >> 8 | x << 24;
            x = substitute(sbox, x, x, x, x) ^ rcon;
            rcon = times(rcon, 2);
        } else if (words > 6 && i % words == 4) {
            x = substitute(sbox, x, x, x, x);
        }
        w[i] = w[i - words] ^ x;
    }
    for (int i = 0; i < total; i++) {
        uint32_t x = w[i];
        if (s->encrypt) {
            s->keys[i] = x;
            continue;
        }
        if (i >= 4 && i < total - 4)
            x = backward[0][sbox[x & 0xff]] ^ backward[1][sbox[x >> 8 & 0xff]] ^
                backward[2][sbox[x >> 16 & 0xff]] ^ backward[3][sbox[x >> 24]];
        s->keys[total - 4 - i / 4 * 4 + i % 4] = x;
    }
    s->rounds = words + 6;
}

#define LOOKUP(t, a, b, c, d) \
    (t[0][(a) & 0xff] ^ t[1][(b) >> 8 & 0xff] ^ t[2][(c) >> 16 & 0xff] ^ t[3][(d) >> 24])

static inline void encrypt_block(const state *s, uint32_t c[4])
{
    const uint32_t *k = s->keys;
    uint32_t p = c[0] ^ k[0], q = c[1] ^ k[1], r = c[2] ^ k[2], t = c[3] ^ k[3];
    for (int round = 1; round < s->rounds; round++) {
        k += 4;
        const uint32_t x = LOOKUP(forward, p, q, r, t) ^ k[0];
        const uint32_t y = LOOKUP(forward, q, r, t, p) ^ k[1];
        const uint32_t z = LOOKUP(forward, r, t, p, q) ^ k[2];
        t = LOOKUP(forward, t, p, q, r) ^ k[3];
        p = x, q = y, r = z;
    }
    k += 4;
    c[0] = substitute(sbox, p, q, r, t) ^ k[0];
    c[1] = substitute(sbox, q, r, t, p) ^ k[1];
    c[2] = substitute(sbox, r, t, p, q) ^ k[2];
    c[3] = substitute(sbox, t, p, q, r) ^ k[3];
}

static inline void decrypt_block(const state *s, uint32_t c[4])
{
    const uint32_t *k = s->keys;
    uint32_t p = c[0] ^ k[0], q = c[1] ^ k[1], r = c[2] ^ k[2], t = c[3] ^ k[3];
    for (int round = 1; round < s->rounds; round++) {
        k += 4;
        const uint32_t x = LOOKUP(backward, p, t, r, q) ^ k[0];
        const uint32_t y = LOOKUP(backward, q, p, t, r) ^ k[1];
        const uint32_t z = LOOKUP(backward, r, q, p, t) ^ k[2];
        t = LOOKUP(backward, t, r, q, p) ^ k[3];
        p = x, q = y, r = z;
    }
    k += 4;
    c[0] = substitute(inverse_sbox, p, t, r, q) ^ k[0];
    c[1] = substitute(inverse_sbox, q, p, t, r) ^ k[1];
    c[2] = substitute(inverse_sbox, r, q, p, t) ^ k[2];
    c[3] = substitute(inverse_sbox, t, r, q, p) ^ k[3];
}

static void table_run(void *state_, const uint8_t *ivs, const uint8_t *src, uint8_t *dst,
                      size_t sectors)
{
    const state *s = state_;
    for (; sectors; sectors--, ivs += BLOCK) {
        uint32_t chain[4], in[4], out[4];
        for (int i = 0; i < 4; i++)
            chain[i] = load(ivs + 4 * i);
        for (int block = 0; block < SECTOR / BLOCK; block++, src += BLOCK, dst += BLOCK) {
            for (int i = 0; i < 4; i++)
                in[i] = out[i] = load(src + 4 * i);
            if (s->encrypt) {
                for (int i = 0; i < 4; i++)
                    out[i] ^= chain[i];
                encrypt_block(s, out);
                memcpy(chain, out, sizeof chain);
            } else {
                decrypt_block(s, out);
                for (int i = 0; i < 4; i++)
                    out[i] ^= chain[i];
                memcpy(chain, in, sizeof chain);
            }
            for (int i = 0; i < 4; i++)
                store(dst + 4 * i, out[i]);
        }
    }
}

static void *table_open(const contender *self, const uint8_t *key, size_t key_length, int encrypt)
{
    state *s = malloc(sizeof *s);
    (void)self;
    if (!s)
        abort();
    if (!sbox[0])
        make_tables();
    s->encrypt = encrypt;
    expand(s, key, (int)(key_length / 4));
    return s;
}

int table_contenders(contender *to)
{
    *to = (contender){"table", table_open, table_run, free, 1, 0, NULL};
    return 1;
}
