/* A library for LD_PRELOAD: getauxval() as if this processor had no instructions beyond the base.
 *
 * No emulated ARM processor lacks the cryptography extension, so a test hides it this way; the
 * library that is tested is the one that is shipped. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>
#include <string.h>
#include <sys/auxv.h>

#define HWCAP_FP_AND_NEON 3ul

unsigned long getauxval(unsigned long type)
{
    unsigned long (*real)(unsigned long);
    void *found = dlsym(RTLD_NEXT, "getauxval");
    memcpy(&real, &found, sizeof real); /* ISO C knows no cast from void * to a function */
    const unsigned long value = real(type);
    return type == AT_HWCAP ? value & HWCAP_FP_AND_NEON : value;
}
