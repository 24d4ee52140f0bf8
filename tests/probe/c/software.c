/* 160 reads of the S-box for each block, as an AES without T-tables does; and no AES at all. */
#include "sbox.h"
#include "work.h"

static volatile unsigned char sink;

__attribute__((noinline)) void by_table(long blocks)
{
    unsigned char state[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};

    for (long block = 0; block < blocks; block++)
        for (int round = 0; round < 10; round++)
            for (int byte = 0; byte < 16; byte++)
                state[byte] = sbox[state[byte] ^ (unsigned char)(block + round + byte)];
    sink = state[0];
}

__attribute__((noinline)) void by_neither(long blocks)
{
    unsigned long mixed = 1;

    for (long step = 0; step < 160 * blocks; step++)
        mixed = mixed * 6364136223846793005UL + 1442695040888963407UL;
    sink = (unsigned char)(mixed >> 56);
}
