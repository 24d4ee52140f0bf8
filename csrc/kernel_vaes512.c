/* AES on 512-bit vectors: AVX-512 and VAES, four blocks in each. */
#include "internal.h"

#ifdef QC_X86
#include <immintrin.h>

#define TARGET __attribute__((target("avx2,aes,vaes,avx512f")))
#define NAME(f) f##_vaes512
#define OP static inline __attribute__((always_inline)) TARGET
typedef __m512i V;
#define VL 4
#define LANES 8
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
OP void v_tile(V t[4]) {
  V a=_mm512_shuffle_i32x4(t[0],t[1],0x44), b=_mm512_shuffle_i32x4(t[0],t[1],0xee);
  V c=_mm512_shuffle_i32x4(t[2],t[3],0x44), d=_mm512_shuffle_i32x4(t[2],t[3],0xee);
  t[0]=_mm512_shuffle_i32x4(a,c,0x88); t[1]=_mm512_shuffle_i32x4(a,c,0xdd);
  t[2]=_mm512_shuffle_i32x4(b,d,0x88); t[3]=_mm512_shuffle_i32x4(b,d,0xdd);
}

#include "kernel_lanes.h"

const qc_kernel qc_kernel_vaes512 = KERNEL("vaes512", QC_FEATURE_AES | QC_FEATURE_AVX2 | QC_FEATURE_VAES | QC_FEATURE_AVX512F);

#endif
