/* Memory between two guards.  Every map is anonymous, so sanitizers leave it alone: it is the
 * processor that finds a touch of a guard. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "check.h"

static size_t guard(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

region new_region(size_t at_least)
{
    const size_t inner = (at_least + guard() - 1) / guard() * guard();
    uint8_t *all = mmap(NULL, inner + 2 * guard(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    region r;
    CHECK(all != MAP_FAILED, "no memory for %zu bytes", at_least);
    r.begin = all + guard();
    r.end = r.begin + inner;
    read_only(r, 0);
    return r;
}

void free_region(region r)
{
    munmap(r.begin - guard(), (size_t)(r.end - r.begin) + 2 * guard());
}

void read_only(region r, int yes)
{
    const int access = yes ? PROT_READ : PROT_READ | PROT_WRITE;
    CHECK(!mprotect(r.begin, (size_t)(r.end - r.begin), access), "mprotect failed");
}
