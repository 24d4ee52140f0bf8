/* AES on 512-bit vectors: AVX-512 and VAES, four blocks in each. */
#include "internal.h"

#ifdef QC_X86
#include <immintrin.h>

#define TARGET __attribute__((target("avx2,aes,vaes,avx512f")))
#define NAME(f) f##_vaes512
#define OP static inline __attribute__((always_inline)) TARGET
typedef __m512i V;
#define VL 4
#define LANES 16
#define LONG_LANES 8
#define NARROW qc_kernel_aesni

OP V v_load(const uint8_t *p) { return _mm512_loadu_si512(p); }
OP void v_store(uint8_t *p, V v) { _mm512_storeu_si512(p, v); }
OP V v_xor(V a, V b) { return _mm512_xor_si512(a, b); }
OP V v_splat(const uint8_t *p) { return _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)p)); }
OP V v_enc(V s, V k) { __asm__ volatile("vaesenc %1, %0, %0" : "+v"(s) : "v"(k)); return s; }
OP V v_enclast(V s, V k) { return _mm512_aesenclast_epi128(s, k); }
OP V v_dec(V s, V k) { return _mm512_aesdec_epi128(s, k); }
OP V v_declast(V s, V k) { return _mm512_aesdeclast_epi128(s, k); }
OP V v_previous(V p, V v) { return _mm512_alignr_epi64(v, p, 6); }
OP V v_first(const uint8_t *iv) { return v_splat(iv); }
OP V v_xor3(V a, V b, V c) { return _mm512_ternarylogic_epi64(a, b, c, 0x96); }
#define FOLDED 0

/* Loads join 32 bytes of two rows, because shuffles are dear: they share a unit with AES. */
OP V two_rows(const uint8_t *low, const uint8_t *high)
{
    return _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_loadu_si256((const __m256i *)low)),
                              _mm256_loadu_si256((const __m256i *)high), 1);
}

OP void v_tile_load(V t[4], const uint8_t *p, const size_t row[4])
{
    const V a = two_rows(p + row[0], p + row[1]), b = two_rows(p + row[2], p + row[3]);
    const V c = two_rows(p + row[0] + 32, p + row[1] + 32);
    const V d = two_rows(p + row[2] + 32, p + row[3] + 32);
    t[0] = _mm512_shuffle_i32x4(a, b, 0x88);
    t[1] = _mm512_shuffle_i32x4(a, b, 0xdd);
    t[2] = _mm512_shuffle_i32x4(c, d, 0x88);
    t[3] = _mm512_shuffle_i32x4(c, d, 0xdd);
}

/* Whole lines: half as many stores as of halves, for as many shuffles. */
OP void tile_to_rows(const V t[4], V rows[4])
{
    const V a = _mm512_shuffle_i32x4(t[0], t[1], 0x44), b = _mm512_shuffle_i32x4(t[2], t[3], 0x44);
    const V c = _mm512_shuffle_i32x4(t[0], t[1], 0xee), d = _mm512_shuffle_i32x4(t[2], t[3], 0xee);
    rows[0] = _mm512_shuffle_i32x4(a, b, 0x88);
    rows[1] = _mm512_shuffle_i32x4(a, b, 0xdd);
    rows[2] = _mm512_shuffle_i32x4(c, d, 0x88);
    rows[3] = _mm512_shuffle_i32x4(c, d, 0xdd);
}

OP void v_tile_store(const V t[4], uint8_t *p, const size_t row[4])
{
    V v[4];
    tile_to_rows(t, v);
    v_store(p + row[0], v[0]);
    v_store(p + row[1], v[1]);
    v_store(p + row[2], v[2]);
    v_store(p + row[3], v[3]);
}

OP void v_stream(uint8_t *p, V v) { _mm512_stream_si512((V *)p, v); }
OP void v_stream_end(void) { _mm_sfence(); }

OP void v_tile_stream(const V t[4], uint8_t *p, const size_t row[4])
{
    V v[4];
    tile_to_rows(t, v);
    v_stream(p + row[0], v[0]);
    v_stream(p + row[1], v[1]);
    v_stream(p + row[2], v[2]);
    v_stream(p + row[3], v[3]);
}

#include "kernel_lanes.h"

const qc_kernel qc_kernel_vaes512 = KERNEL("vaes512", QC_FEATURE_AES | QC_FEATURE_AVX2 | QC_FEATURE_VAES | QC_FEATURE_AVX512F);

#endif
