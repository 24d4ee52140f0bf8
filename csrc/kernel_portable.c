/* Constant-time AES for any machine: 128-bit vectors, as the compiler makes them. */
#include "internal.h"

#define TARGET 
#define NAME(f) f##_portable
#define W_LANES 2
typedef uint64_t W __attribute__((vector_size(8 * W_LANES)));
#define W_ALL(x) ((W){0} + (uint64_t)(x))

#include "kernel_bitslice.h"

const qc_kernel qc_kernel_portable = KERNEL("portable", 0);
