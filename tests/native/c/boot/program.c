/* qc_self_test of every kernel on a bare machine: no operating system, no C library.
 *
 * Says on port 0xe9, which Bochs prints, what `driver self-test` says, then asks Bochs to stop. */
#include <stddef.h>
#include <stdint.h>

#include "qcow2crypt.h"

void *memcpy(void *to, const void *from, size_t length);
void *memmove(void *to, const void *from, size_t length);
void *memset(void *p, int byte, size_t length);
int memcmp(const void *a, const void *b, size_t length);
void *malloc(size_t size);
void *calloc(size_t count, size_t size);
void free(void *p);
void entry(void) __attribute__((section(".first"), noreturn));

void *memcpy(void *to, const void *from, size_t length)
{
    for (size_t i = 0; i < length; i++)
        ((uint8_t *)to)[i] = ((const uint8_t *)from)[i];
    return to;
}

void *memmove(void *to, const void *from, size_t length)
{
    if ((uintptr_t)to <= (uintptr_t)from)
        return memcpy(to, from, length);
    while (length--)
        ((uint8_t *)to)[length] = ((const uint8_t *)from)[length];
    return to;
}

void *memset(void *p, int byte, size_t length)
{
    for (size_t i = 0; i < length; i++)
        ((uint8_t *)p)[i] = (uint8_t)byte;
    return p;
}

int memcmp(const void *a, const void *b, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (((const uint8_t *)a)[i] != ((const uint8_t *)b)[i])
            return 1;
    return 0;
}

/* Memory is taken from 16 MiB on and never given back. */
static uintptr_t free_memory = 0x1000000;

void *malloc(size_t size)
{
    const uintptr_t taken = free_memory;
    free_memory += (size + 63) / 64 * 64;
    return (void *)taken;
}

void *calloc(size_t count, size_t size)
{
    return memset(malloc(count * size), 0, count * size);
}

void free(void *p)
{
    (void)p;
}

static void say(const char *text, uint16_t port)
{
    for (; *text; text++)
        __asm__ volatile("outb %0, %1" : : "a"(*text), "d"(port));
}

static void self_test(void)
{
    for (int kernel = 0; kernel < qc_kernel_count(); kernel++) {
        const qc_status status = qc_self_test(kernel);
        say(qc_kernel_name(kernel), 0xe9);
        say(status == QC_OK           ? " ok\n"
            : status == QC_NO_FEATURE ? " refused\n"
            : status == QC_SELF_TEST  ? " wrong\n"
                                      : " no answer\n",
            0xe9);
    }
    say("end\n", 0xe9);
}

void entry(void)
{
    self_test();
    say("Shutdown", 0x8900);
    for (;;)
        __asm__ volatile("hlt");
}
