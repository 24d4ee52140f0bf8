/* One aesenclast for each block, at one place in the program. */
#include <wmmintrin.h>

#include "work.h"

static volatile char sink[16];

__attribute__((noinline)) void by_instructions(long blocks)
{
    __m128i state = _mm_set1_epi8(1), key = _mm_set1_epi8(2);

    for (long block = 0; block < blocks; block++) {
        for (int round = 0; round < 9; round++)
            state = _mm_aesenc_si128(state, key);
        state = _mm_aesenclast_si128(state, key);
    }
    for (int byte = 0; byte < 16; byte++)
        sink[byte] = ((char *)&state)[byte];
}
