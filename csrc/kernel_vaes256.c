/* AES on 256-bit vectors: AVX2 and VAES, two blocks in each. */
#include "internal.h"

#ifdef QC_X86
#include <immintrin.h>

#define TARGET __attribute__((target("avx2,aes,vaes")))
#define NAME(f) f##_vaes256
#define OP static inline __attribute__((always_inline)) TARGET
typedef __m256i V;
#define VL 2
#define LANES 10
#define NARROW qc_kernel_aesni

OP V v_load(const uint8_t *p) { return _mm256_loadu_si256((const V *)p); }
OP void v_store(uint8_t *p, V v) { _mm256_storeu_si256((V *)p, v); }
OP V v_xor(V a, V b) { return _mm256_xor_si256(a, b); }
OP V v_splat(const uint8_t *p) { return _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)p)); }
OP V v_enc(V s, V k) { __asm__ volatile("vaesenc %1, %0, %0" : "+x"(s) : "x"(k)); return s; }
OP V v_enclast(V s, V k) { return _mm256_aesenclast_epi128(s, k); }
OP V v_dec(V s, V k) { return _mm256_aesdec_epi128(s, k); }
OP V v_declast(V s, V k) { return _mm256_aesdeclast_epi128(s, k); }
OP V v_previous(V p, V v) { return _mm256_permute2x128_si256(p, v, 0x21); }
OP V v_first(const uint8_t *iv) { return v_splat(iv); }
#define FOLDED 1

OP void v_tile_load(V t[2], const uint8_t *p, const size_t row[2])
{
    const V a = v_load(p + row[0]), b = v_load(p + row[1]);
    t[0] = _mm256_permute2x128_si256(a, b, 0x20);
    t[1] = _mm256_permute2x128_si256(a, b, 0x31);
}

OP void v_tile_store(const V t[2], uint8_t *p, const size_t row[2])
{
    v_store(p + row[0], _mm256_permute2x128_si256(t[0], t[1], 0x20));
    v_store(p + row[1], _mm256_permute2x128_si256(t[0], t[1], 0x31));
}

#include "kernel_lanes.h"

const qc_kernel qc_kernel_vaes256 = KERNEL("vaes256", QC_FEATURE_AES | QC_FEATURE_AVX2 | QC_FEATURE_VAES);

#endif
