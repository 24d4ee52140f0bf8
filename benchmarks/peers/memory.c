/* What memory allows: a copy, and a pass that reads and writes every byte where it stands. */
#include "peers.h"

#include <string.h>

typedef uint64_t words __attribute__((vector_size(64), aligned(1), may_alias));

static void *no_state(const contender *self, const uint8_t *key, size_t key_length, int encrypt)
{
    static char none;
    (void)self, (void)key, (void)key_length, (void)encrypt;
    return &none;
}

static void nothing(void *state)
{
    (void)state;
}

static void copy_run(void *state, const uint8_t *ivs, const uint8_t *src, uint8_t *dst,
                     size_t sectors)
{
    (void)state, (void)ivs;
    memcpy(dst, src, SECTOR * sectors);
    __asm__ volatile("" : : "r"(dst) : "memory");
}

static void modify_run(void *state, const uint8_t *ivs, const uint8_t *src, uint8_t *dst,
                       size_t sectors)
{
    (void)state, (void)ivs, (void)src;
    for (size_t at = 0; at < SECTOR * sectors; at += sizeof(words))
        *(words *)(dst + at) ^= (words){0} + 0x5bd1e9955bd1e995u;
    __asm__ volatile("" : : "r"(dst) : "memory");
}

int memory_contenders(contender *to)
{
    to[0] = (contender){"memcpy", no_state, copy_run, nothing, 0, 0, NULL};
    to[1] = (contender){"read-modify-write", no_state, modify_run, nothing, 0, 0, NULL};
    return 2;
}
