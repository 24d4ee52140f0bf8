/* AES with the cryptography extension of ARMv8: one block in each 128-bit vector. */
#include "internal.h"

#ifdef QC_ARM64
#include <arm_neon.h>

#ifdef __clang__
#define TARGET __attribute__((target("aes")))
#else
#define TARGET __attribute__((target("+aes")))
#endif
#define NAME(f) f##_armv8
#define OP static inline __attribute__((always_inline)) TARGET
typedef uint8x16_t V;
#define VL 1
#define LANES 8

/* AESE adds its key first, where kernel_lanes.h adds one last: it gets zeros, and the key is
 * added behind.  A pair of AESE and AESMC is one statement, since many processors run the two as
 * one when they stand together.  Written out, not as intrinsics: the arm_neon.h of clang before
 * 16 hides those from functions that ask for the feature by themselves. */
#define PAIR(first, second, s)                                             \
    __asm__(first " %0.16b, %1.16b\n\t" second " %0.16b, %0.16b" : "+w"(s) : "w"(vdupq_n_u8(0)))
#define ALONE(name, s) __asm__(name " %0.16b, %1.16b" : "+w"(s) : "w"(vdupq_n_u8(0)))

OP V v_load(const uint8_t *p) { return vld1q_u8(p); }
OP void v_store(uint8_t *p, V v) { vst1q_u8(p, v); }
OP V v_xor(V a, V b) { return veorq_u8(a, b); }
OP V v_splat(const uint8_t *p) { return v_load(p); }
OP V v_enc(V s, V k) { PAIR("aese", "aesmc", s); return v_xor(s, k); }
OP V v_enclast(V s, V k) { ALONE("aese", s); return v_xor(s, k); }
OP V v_dec(V s, V k) { PAIR("aesd", "aesimc", s); return v_xor(s, k); }
OP V v_declast(V s, V k) { ALONE("aesd", s); return v_xor(s, k); }
OP V v_previous(V p, V v) { (void)v; return p; }
OP V v_first(const uint8_t *iv) { return v_load(iv); }
#define FOLDED 1
OP void v_tile_load(V t[1], const uint8_t *p, const size_t row[1]) { t[0] = v_load(p + row[0]); }
OP void v_tile_store(const V t[1], uint8_t *p, const size_t row[1]) { v_store(p + row[0], t[0]); }

#include "kernel_lanes.h"

const qc_kernel qc_kernel_armv8 = KERNEL("armv8", QC_FEATURE_NEON_AES);

#endif
