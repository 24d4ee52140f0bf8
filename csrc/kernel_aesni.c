/* AES on 128-bit vectors: the AES-NI of 2010, one block in each; no AVX. */
#include "internal.h"

#ifdef QC_X86
#include <immintrin.h>

#define TARGET __attribute__((target("sse2,aes")))
#define NAME(f) f##_aesni
#define OP static inline __attribute__((always_inline)) TARGET
typedef __m128i V;
#define VL 1
#define LANES 12

OP V v_load(const uint8_t *p) { return _mm_loadu_si128((const V *)p); }
OP void v_store(uint8_t *p, V v) { _mm_storeu_si128((V *)p, v); }
OP V v_xor(V a, V b) { return _mm_xor_si128(a, b); }
OP V v_splat(const uint8_t *p) { return v_load(p); }
OP V v_enc(V s, V k) { __asm__ volatile("aesenc %1, %0" : "+x"(s) : "x"(k)); return s; }
OP V v_enclast(V s, V k) { return _mm_aesenclast_si128(s, k); }
OP V v_dec(V s, V k) { return _mm_aesdec_si128(s, k); }
OP V v_declast(V s, V k) { return _mm_aesdeclast_si128(s, k); }
OP V v_previous(V p, V v) { (void)v; return p; }
OP V v_first(const uint8_t *iv) { return v_load(iv); }
#define FOLDED 1
OP void v_tile_load(V t[1], const uint8_t *p, const size_t row[1]) { t[0] = v_load(p + row[0]); }
OP void v_tile_store(const V t[1], uint8_t *p, const size_t row[1]) { v_store(p + row[0], t[0]); }

#include "kernel_lanes.h"

const qc_kernel qc_kernel_aesni = KERNEL("aesni", QC_FEATURE_AES);

#endif
