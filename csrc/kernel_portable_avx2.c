/* The portable kernel once more, for 256-bit vectors. */
#include "internal.h"

#ifdef QC_X86
#define TARGET __attribute__((target("avx2")))
#define NAME(f) f##_portable_avx2
#define W_LANES 4
typedef uint64_t W __attribute__((vector_size(8 * W_LANES)));
#define W_ALL(x) ((W){0} + (uint64_t)(x))

#include "kernel_bitslice.h"

const qc_kernel qc_kernel_portable_avx2 = KERNEL("portable-avx2", QC_FEATURE_AVX2);

#endif
