/* What the benchmark times: ways to do the same work on a run of 512-byte sectors.
 *
 * A contender knows how to do its work, never how long that takes.  Each `open` gives a state for
 * one key and one direction, or NULL when it cannot be had here; `run` does all sectors. */
#ifndef PEERS_H
#define PEERS_H

#include <stddef.h>
#include <stdint.h>

#define SECTOR 512
#define BLOCK 16

typedef struct contender contender;

/* ivs: 16 bytes for every sector.  dst is src, or does not overlap it. */
typedef void run_function(void *state, const uint8_t *ivs, const uint8_t *src, uint8_t *dst,
                          size_t sectors);

struct contender {
    const char *name;
    void *(*open)(const contender *self, const uint8_t *key, size_t key_length, int encrypt);
    run_function *run;
    void (*close)(void *state);
    int ciphers;         /* gives ciphertext or plaintext, which is compared before it is timed */
    int kernel;          /* ours: its number */
    const char *version; /* of a library, once it has been opened; else NULL */
};

/* Each file adds what it has at `to` and gives how many that is. */
int ours_contenders(contender *to);
int table_contenders(contender *to);
int memory_contenders(contender *to);
int limit_contenders(contender *to);
int openssl_contenders(contender *to);
int nettle_contenders(contender *to);
int ipsecmb_contenders(contender *to);

#endif
