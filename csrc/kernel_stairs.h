/* CBC encryption as stairs: for a run that the second cache does not hold, from src to dst.
 *
 * encrypt_groups (kernel_lanes.h) has a tile of every row in hand at a time: it touches one cache
 * line in each of 32 or 64 sectors, which costs little while the second cache answers and much
 * beyond it.  Here memory is read and written in its own order, and lanes are not in step: each
 * works one tile behind the lane before it.  With S for VL sectors, and t for a tile of them:
 *
 *     turn         1      2      3     ...    8      9
 *     lane 0     S0 t0  S1 t0  S2 t0        S7 t0  S8 t0      in each turn: load VL sectors,
 *     lane 1            S0 t1  S1 t1        S6 t1  S7 t1      store VL sectors that are done,
 *     lane 2                   S0 t2        S5 t2  S6 t2      encrypt one tile in every lane
 *      ...
 *     lane 7                                S0 t7  S1 t7
 *
 * So there are as many lanes as a sector has tiles.  Tiles wait for their turn, and then for their
 * store, in a ring on the stack that stays in the first cache: 18 KiB if VL is 4.  Row r of it has
 * what the lanes need in turn r, so tile t of the sectors that are loaded in a turn goes t rows
 * ahead.  It is encrypted where it lies, and lies there until the same turn of the next round
 * through the ring, in which it is stored and the place is loaded anew.
 *
 * In the first turns some lanes have no sector yet, and in the last no more: they encrypt what
 * happens to be in the ring, and nobody stores it.
 */

#define TILE_WIDTH (VL * QC_BLOCK)
#define STAIRS (WHOLE_SECTOR / TILE_WIDTH) /* lanes, and tiles of a sector */
#define RING_ROWS (STAIRS + 1) /* a tile leaves in the turn behind that of the last lane */
#define LOAD_AHEAD 4096 /* bytes that are asked for before they are loaded */
#define STORE_AHEAD 2048 /* and before they are stored */

/* Encrypt groups of VL sectors of WHOLE_SECTOR bytes; src and dst do not overlap. */
INLINE void encrypt_stairs(const V *keys, int rounds, const uint8_t *ivs, const uint8_t *src,
                           uint8_t *dst, size_t groups)
{
    V ring[RING_ROWS][STAIRS * VL], state[STAIRS];
    const size_t group = VL * WHOLE_SECTOR, lines = group / CACHE_LINE;
    const V first = keys[0], final = END(keys[rounds]);
    size_t row = RING_ROWS - 1, at[VL];
    V begun = first;

    UNROLL
    for (int i = 0; i < VL; i++)
        at[i] = (size_t)i * WHOLE_SECTOR;
    memset(ring, 0, sizeof ring);
    UNROLL
    for (int lane = 0; lane < STAIRS; lane++)
        state[lane] = first;
    for (size_t turn = 0; turn < groups + RING_ROWS; turn++) {
        V *const tiles = ring[row];
        const int load = turn < groups, store = turn >= RING_ROWS;
        row = row + 1 == RING_ROWS ? 0 : row + 1;
        UNROLL
        for (int step = 0; step < VL; step++) {
            /* Sectors go down the stairs: in a turn's first step every lane takes over. */
            UNROLL
            for (int lane = STAIRS - 1; lane >= 0; lane--)
                state[lane] = BEGIN(step ? state[lane] : lane ? state[lane - 1] : begun,
                                    tiles[lane * VL + step]);
            UNROLL
            for (int round = 1; round <= FULL_ROUNDS; round++) {
                const V key = keys[round];
                const size_t line = (size_t)(step * FULL_ROUNDS + round - 1);
                UNROLL
                for (int lane = 0; lane < STAIRS; lane++)
                    state[lane] = v_enc(state[lane], key);
                if (line < lines) {
                    __builtin_prefetch(src + LOAD_AHEAD + line * CACHE_LINE);
                    __builtin_prefetch(dst + STORE_AHEAD + line * CACHE_LINE, 1);
                }
                /* STAIRS / VL tiles in each step, their work spread over its rounds. */
                UNROLL
                for (int i = 0; i < STAIRS / VL; i++) {
                    const size_t tile = (size_t)(step * (STAIRS / VL) + i), place = row + tile;
                    V *const t = &ring[place < RING_ROWS ? place : place - RING_ROWS][tile * VL];
                    if (round == 1 + 4 * i && store)
                        v_tile_store(t, dst + tile * TILE_WIDTH, at);
                    if (round == 3 + 4 * i && load)
                        v_tile_load(t, src + tile * TILE_WIDTH, at);
                }
            }
            for (int round = FULL_ROUNDS + 1; round < rounds; round++) {
                const V key = keys[round];
                UNROLL
                for (int lane = 0; lane < STAIRS; lane++)
                    state[lane] = v_enc(state[lane], key);
            }
            UNROLL
            for (int lane = 0; lane < STAIRS; lane++) {
                state[lane] = v_enclast(state[lane], final);
                tiles[lane * VL + step] = END(state[lane]);
            }
        }
        if (load) {
            begun = END(v_load(ivs));
            ivs += TILE_WIDTH;
            src += group;
        }
        if (store)
            dst += group;
    }
    qc_wipe(ring, sizeof ring);
}
