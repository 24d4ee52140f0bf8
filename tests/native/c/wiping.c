/* A key is zeros when its memory is given back.  The driver is linked with --wrap=calloc and
 * --wrap=free, so the calls of csrc come here first. */
#include <stdio.h>
#include <stdlib.h>

#include "check.h"

void *__real_calloc(size_t count, size_t size);
void __real_free(void *p);
void *__wrap_calloc(size_t count, size_t size);
void __wrap_free(void *p);

static uint8_t *last;
static size_t last_size, seen_filled, seen_free;

void *__wrap_calloc(size_t count, size_t size)
{
    last = __real_calloc(count, size);
    last_size = count * size;
    return last;
}

static size_t not_zero(void)
{
    size_t found = 0;
    for (size_t i = 0; i < last_size; i++)
        found += last[i] != 0;
    return found;
}

void __wrap_free(void *p)
{
    if (p && p == last) {
        seen_free++;
        /* The test's own allocations come by here too; only test_wiping() looks. */
        seen_filled = not_zero();
        last = NULL;
    }
    __real_free(p);
}

void test_wiping(void)
{
    uint8_t bytes[32];
    fill(bytes, sizeof bytes, 3);
    for (int kernel = 0; kernel < qc_kernel_count(); kernel++) {
        if (!usable(kernel))
            continue;
        for (size_t length = 16; length <= 32; length += 8) {
            qc_key *key = new_key(kernel, bytes, length);
            CHECK((void *)key == (void *)last, "the wrapped calloc was not called");
            CHECK(not_zero() > 10 * 16, "an expanded key is not this empty");
            seen_free = 0;
            qc_key_free(key);
            CHECK(seen_free == 1, "the wrapped free was not called");
            CHECK(!seen_filled, "%s: %zu bytes of a key of %zu were not wiped",
                  qc_kernel_name(kernel), seen_filled, length);
        }
        printf("%s wiping\n", qc_kernel_name(kernel));
    }
}
