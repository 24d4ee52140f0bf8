/* Which instructions may this process use?  The processor must have them, and the operating
 * system must save the registers they need: CPUID alone tells half of it.
 *
 * Source: Intel SDM volume 1, 13.3 and 14.3; AMD APM volume 3, CPUID; on ARM the HWCAP bits. */
#include "internal.h"

#if defined(QC_X86)
#include <cpuid.h>

#define XCR0_YMM 0x06u /* XMM and the upper half of YMM */
#define XCR0_ZMM 0xe6u /* and the mask registers and both parts of ZMM */

static uint64_t xcr0(void)
{
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

static unsigned detect(void)
{
    unsigned eax, ebx, ecx, edx, features = 0;
    if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx))
        return 0;
    if (ecx & 1u << 25)
        features |= QC_FEATURE_AES;
    /* OSXSAVE: XGETBV exists.  AVX itself is a condition of all that is encoded with VEX. */
    if (!(ecx & 1u << 27) || !(ecx & 1u << 28))
        return features;
    const uint64_t saved = xcr0();
    if ((saved & XCR0_YMM) != XCR0_YMM || !__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx))
        return features;
    if (ebx & 1u << 5)
        features |= QC_FEATURE_AVX2;
    if (ecx & 1u << 9)
        features |= QC_FEATURE_VAES;
    if (ebx & 1u << 16 && (saved & XCR0_ZMM) == XCR0_ZMM)
        features |= QC_FEATURE_AVX512F;
    return features;
}

#elif defined(QC_ARM64) && defined(__linux__)
#include <sys/auxv.h>

#define HWCAP_AES_BIT (1ul << 3)

static unsigned detect(void)
{
    return getauxval(AT_HWCAP) & HWCAP_AES_BIT ? QC_FEATURE_NEON_AES : 0;
}

#elif defined(QC_ARM64) && defined(__APPLE__)

static unsigned detect(void)
{
    return QC_FEATURE_NEON_AES; /* every 64-bit Mac has it */
}

#else

static unsigned detect(void)
{
    return 0;
}

#endif

#define KNOWN 0x80000000u

/* Asked once: in a virtual machine every CPUID is a trap of microseconds.  Threads that ask for
 * the first time together all find the same. */
unsigned qc_cpu_features(void)
{
    static unsigned found;
    unsigned features = __atomic_load_n(&found, __ATOMIC_RELAXED);
    if (!features) {
        features = detect() | KNOWN;
        __atomic_store_n(&found, features, __ATOMIC_RELAXED);
    }
    return features & ~KNOWN;
}
