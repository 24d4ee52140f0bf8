/* What the files of the C test driver share. */
#ifndef QC_CHECK_H
#define QC_CHECK_H

#include <stddef.h>
#include <stdint.h>

#include "qcow2crypt.h"

/* Say what is wrong and leave with status 1. */
void fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

#define CHECK(condition, ...)  \
    do {                       \
        if (!(condition))      \
            fail(__VA_ARGS__); \
    } while (0)

/* Has this processor all that the kernel needs, and is it not left out by the command line? */
int usable(int kernel);
extern const char *left_out;

/* A key that must come into being; its bytes are read from memory that ends before a guard. */
qc_key *new_key(int kernel, const uint8_t *key, size_t length);

/* Bytes that look random and are the same in every run. */
void fill(uint8_t *bytes, size_t length, uint32_t seed);

/* One of the four operations, in one form; ECB looks at neither IVs nor sectors. */
typedef qc_status operation(const qc_key *key, const uint8_t *ivs, size_t ivs_length,
                            const uint8_t *src, uint8_t *dst, size_t length, size_t sector_size);
operation ecb_encrypt, ecb_decrypt;

/* Memory between two guards: a touch before begin or behind end ends the program. */
typedef struct {
    uint8_t *begin, *end;
} region;
region new_region(size_t at_least);
void free_region(region r);
void read_only(region r, int yes);

/* The commands of the driver. */
void test_vectors(const char *path);
void test_runs(size_t longest);
void test_wide_runs(size_t longest);
void test_arguments(void);
void test_wiping(void);

#endif
