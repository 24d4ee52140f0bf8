/* Does this processor compute VAESENC and VAESDEC on 256 bits as two AESENC and AESDEC?
 *
 * Not every emulator does: QEMU 7.2 looks up the upper half of the result in the lower half of the
 * state.  Status 0 and "right", or status 0 and "wrong".  Knows nothing of csrc. */
#include <immintrin.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define TARGET __attribute__((target("avx2,aes,vaes")))

TARGET int main(void)
{
    uint8_t state[32], key[32], wide[64], narrow[64];
    for (int i = 0; i < 32; i++) {
        state[i] = (uint8_t)(i * 37 + 11);
        key[i] = (uint8_t)(i * 91 + 5);
    }
    const __m256i s = _mm256_loadu_si256((const __m256i *)state);
    const __m256i k = _mm256_loadu_si256((const __m256i *)key);
    _mm256_storeu_si256((__m256i *)wide, _mm256_aesenc_epi128(s, k));
    _mm256_storeu_si256((__m256i *)(wide + 32), _mm256_aesdec_epi128(s, k));
    for (int half = 0; half < 32; half += 16) {
        const __m128i a = _mm_loadu_si128((const __m128i *)(state + half));
        const __m128i b = _mm_loadu_si128((const __m128i *)(key + half));
        _mm_storeu_si128((__m128i *)(narrow + half), _mm_aesenc_si128(a, b));
        _mm_storeu_si128((__m128i *)(narrow + 32 + half), _mm_aesdec_si128(a, b));
    }
    puts(memcmp(wide, narrow, sizeof wide) ? "wrong" : "right");
    return 0;
}
