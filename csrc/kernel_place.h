/* Which way a run goes through memory: part of kernel_lanes.h.
 *
 * What counts is how much is touched, src and dst together.  The sizes are those of processors with
 * AES on wide vectors: 1 MiB of second cache or more, and some MiB of a third cache that others
 * use, too.
 */

#define CACHE_LINE 64
#define WIDE_RUN ((size_t)1 << 20) /* bytes touched: they fill a second cache */
#define LONG_RUN ((size_t)4 << 20) /* and more than this is better not left to a third one */

/* In the first and second cache; in the third; beyond them, in place or from src to dst; from src,
 * its result stored past the caches. */
enum { NEAR, WIDE, FAR, APART, STREAMED };

/* Stores past the caches are for long runs, between buffers, of whole lines. */
INLINE int place_of(const uint8_t *src, const uint8_t *dst, size_t length)
{
    const size_t touched = src == dst ? length : 2 * length;
    if (touched < WIDE_RUN)
        return NEAR;
    if (touched <= LONG_RUN)
        return WIDE;
    if (src == dst)
        return FAR;
    return (uintptr_t)dst % CACHE_LINE == 0 ? STREAMED : APART;
}
