/* Time what the plan on standard input asks for, in turns.  sectors.py writes the plan.
 *
 *   group ROUNDS MICROSECONDS        how many samples of each, and about how long one shall take
 *   job ID NAME enc|dec KEY_BITS SECTORS in|out THREADS
 *   go                               measure these jobs in turns, each round one sample of each
 *
 * Answers, one line each; seconds are those of one call:
 *
 *   contender NAME VERSION           first of all, what there is
 *   samples ID CALLS THREAD_SECONDS WALL_SECONDS THREAD_SECONDS WALL_SECONDS ...
 *
 * A sample is CALLS calls after one that is not timed.  Before a job is timed, all that it gives
 * is compared with what the contender `table` gives.  The IVs are ready before the clock runs. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "peers.h"

#define MOST 32
#define THREADS 8
#define SLICE 128                /* sectors that are compared at a time */
#define NO_WARMING (16u << 20)   /* bytes from which on no cache would keep them anyway */

typedef struct {
    uint8_t *ivs, *src, *dst;
} buffers;

typedef struct {
    char id[64];
    contender *who;
    int encrypt, in_place, threads;
    size_t key_length, sectors, calls;
    void *state[THREADS];
    double *cpu, *wall;
} job;

typedef struct {
    const job *job;
    int number;
    const buffers *at;
    atomic_int *ready;
    double cpu, start, end;
} worker;

static contender all[MOST];
static int all_count;
static const uint8_t key[32] = "thirty-two bytes that are no key";

static double now(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void stop(const char *why, const char *what)
{
    fprintf(stderr, "%s: %s\n", why, what);
    exit(1);
}

static void *need(void *p)
{
    if (!p)
        stop("out of memory", "use smaller sizes");
    return p;
}

static contender *named(const char *name)
{
    for (int i = 0; i < all_count; i++)
        if (!strcmp(all[i].name, name))
            return &all[i];
    return NULL;
}

/* Bytes that look random and can be made again from where they stand (xorshift64*). */
static void fill(uint8_t *p, size_t length, uint64_t seed)
{
    uint64_t x = (seed + 1) * 0x9e3779b97f4a7c15u;
    for (size_t at = 0; at + 8 <= length; at += 8) {
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        const uint64_t word = x * 0x2545f4914f6cdd1du;
        memcpy(p + at, &word, 8);
    }
}

static void fill_slices(uint8_t *p, size_t sectors)
{
    for (size_t at = 0; at < sectors; at += SLICE)
        fill(p + SECTOR * at, SECTOR * (sectors - at < SLICE ? sectors - at : SLICE), at);
}

static void run(const job *j, int thread, const buffers *at)
{
    j->who->run(j->state[thread], at->ivs, j->in_place ? at->dst : at->src, at->dst, j->sectors);
}

static void check(const job *j, const buffers *at)
{
    static uint8_t plain[SECTOR * SLICE], right[SECTOR * SLICE];
    contender *table = named("table");
    void *state = need(table->open(table, key, j->key_length, j->encrypt));
    fill_slices(j->in_place ? at->dst : at->src, j->sectors);
    run(j, 0, at);
    for (size_t done = 0; done < j->sectors; done += SLICE) {
        const size_t n = j->sectors - done < SLICE ? j->sectors - done : SLICE;
        fill(plain, SECTOR * n, done);
        table->run(state, at->ivs + BLOCK * done, plain, right, n);
        if (memcmp(right, at->dst + SECTOR * done, SECTOR * n))
            stop("wrong bytes, so nothing is timed", j->id);
    }
    table->close(state);
}

static void timed(worker *w)
{
    const double cpu = now(CLOCK_THREAD_CPUTIME_ID);
    w->start = now(CLOCK_MONOTONIC);
    for (size_t i = 0; i < w->job->calls; i++)
        run(w->job, w->number, w->at);
    w->end = now(CLOCK_MONOTONIC);
    w->cpu = now(CLOCK_THREAD_CPUTIME_ID) - cpu;
}

static void *thread_main(void *worker_)
{
    worker *w = worker_;
    run(w->job, w->number, w->at);
    atomic_fetch_add(w->ready, 1);
    while (atomic_load(w->ready) < w->job->threads)
        ;
    timed(w);
    return NULL;
}

/* Keep each thread on a processor of its own, where there are enough. */
static void pin(pthread_t thread, int number)
{
#ifdef __linux__
    cpu_set_t may, one;
    if (sched_getaffinity(0, sizeof may, &may))
        return;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &may) && number-- == 0) {
            CPU_ZERO(&one);
            CPU_SET(cpu, &one);
            pthread_setaffinity_np(thread, sizeof one, &one);
            return;
        }
#else
    (void)thread, (void)number;
#endif
}

/* One sample, with the time of a single call: that of the slowest thread. */
static void sample(const job *j, const buffers *at, double *cpu, double *wall)
{
    worker workers[THREADS];
    pthread_t threads[THREADS];
    atomic_int ready = 0;
    for (int i = 0; i < j->threads; i++)
        workers[i] = (worker){j, i, at + i, &ready, 0, 0, 0};
    if (j->threads == 1) {
        if (SECTOR * j->sectors < NO_WARMING)
            run(j, 0, at);
        timed(workers);
    } else {
        for (int i = 0; i < j->threads; i++) {
            if (pthread_create(&threads[i], NULL, thread_main, &workers[i]))
                stop("cannot start a thread", j->id);
            pin(threads[i], i);
        }
        for (int i = 0; i < j->threads; i++)
            pthread_join(threads[i], NULL);
    }
    double start = workers[0].start, end = workers[0].end;
    *cpu = 0;
    for (int i = 0; i < j->threads; i++) {
        start = workers[i].start < start ? workers[i].start : start;
        end = workers[i].end > end ? workers[i].end : end;
        *cpu = workers[i].cpu > *cpu ? workers[i].cpu : *cpu;
    }
    *cpu /= (double)j->calls;
    *wall = (end - start) / (double)j->calls;
}

/* How many calls fill a sample: doubled until the time can be read, then in proportion. */
static void calibrate(job *j, const buffers *at, double seconds)
{
    worker w = {j, 0, at, NULL, 0, 0, 0};
    for (j->calls = 1;; j->calls *= 2) {
        timed(&w);
        if (w.cpu > seconds / 8 || j->calls > 1u << 24)
            break;
    }
    j->calls = (size_t)((double)j->calls * seconds / w.cpu);
    j->calls += !j->calls;
}

static void measure(job *jobs, int count, int rounds, double seconds)
{
    buffers at[THREADS];
    size_t most = 0;
    int threads = 1;
    for (int i = 0; i < count; i++) {
        most = jobs[i].sectors > most ? jobs[i].sectors : most;
        threads = jobs[i].threads > threads ? jobs[i].threads : threads;
    }
    for (int i = 0; i < threads; i++) {
        at[i].src = need(aligned_alloc(4096, (SECTOR * most + 4095) / 4096 * 4096));
        at[i].dst = need(aligned_alloc(4096, (SECTOR * most + 4095) / 4096 * 4096));
        at[i].ivs = need(aligned_alloc(4096, (BLOCK * most + 4095) / 4096 * 4096));
        fill_slices(at[i].src, most); /* and so touched, before the clock runs */
        fill_slices(at[i].dst, most);
        memset(at[i].ivs, 0, BLOCK * most);
        for (size_t sector = 0; sector < most; sector++) /* plain64 */
            for (int byte = 0; byte < 8; byte++)
                at[i].ivs[BLOCK * sector + (size_t)byte] = (uint8_t)(sector >> 8 * byte);
    }
    for (int i = 0; i < count; i++) {
        if (jobs[i].who->ciphers)
            check(&jobs[i], at);
        calibrate(&jobs[i], at, seconds);
        jobs[i].cpu = need(calloc((size_t)rounds, sizeof(double)));
        jobs[i].wall = need(calloc((size_t)rounds, sizeof(double)));
    }
    for (int round = 0; round < rounds; round++)
        for (int i = 0; i < count; i++)
            sample(&jobs[i], at, &jobs[i].cpu[round], &jobs[i].wall[round]);
    for (int i = 0; i < count; i++) {
        printf("samples %s %zu", jobs[i].id, jobs[i].calls);
        for (int round = 0; round < rounds; round++)
            printf(" %.6g %.6g", jobs[i].cpu[round], jobs[i].wall[round]);
        printf("\n");
        for (int t = 0; t < jobs[i].threads; t++)
            jobs[i].who->close(jobs[i].state[t]);
        free(jobs[i].cpu);
        free(jobs[i].wall);
    }
    fflush(stdout);
    for (int i = 0; i < threads; i++) {
        free(at[i].src);
        free(at[i].dst);
        free(at[i].ivs);
    }
}

static job parse(const char *line)
{
    char name[64], direction[8], place[8];
    job j = {0};
    if (sscanf(line, "job %63s %63s %7s %zu %zu %7s %d", j.id, name, direction, &j.key_length,
               &j.sectors, place, &j.threads) != 7)
        stop("not a job", line);
    j.key_length /= 8;
    j.encrypt = !strcmp(direction, "enc");
    j.in_place = !strcmp(place, "in");
    if (!(j.who = named(name)) || !j.sectors || j.threads < 1 || j.threads > THREADS ||
        (j.key_length != 16 && j.key_length != 32))
        stop("not a job that can be done", line);
    for (int i = 0; i < j.threads; i++)
        j.state[i] = need(j.who->open(j.who, key, j.key_length, j.encrypt));
    return j;
}

int main(void)
{
    static job jobs[256];
    char line[256];
    int count = 0, rounds = 0;
    double seconds = 0;
    all_count += ours_contenders(all + all_count);
    all_count += table_contenders(all + all_count);
    all_count += memory_contenders(all + all_count);
    all_count += limit_contenders(all + all_count);
#ifdef WITH_OPENSSL
    all_count += openssl_contenders(all + all_count);
#endif
#ifdef WITH_NETTLE
    all_count += nettle_contenders(all + all_count);
#endif
#ifdef WITH_IPSECMB
    all_count += ipsecmb_contenders(all + all_count);
#endif
    for (int i = 0; i < all_count; i++)
        printf("contender %s %s\n", all[i].name, all[i].version ? all[i].version : "-");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
        if (sscanf(line, "group %d %lf", &rounds, &seconds) == 2) {
            count = 0;
        } else if (!strcmp(line, "go\n")) {
            if (count && rounds > 0)
                measure(jobs, count, rounds, seconds * 1e-6);
        } else if (count < (int)(sizeof jobs / sizeof *jobs)) {
            jobs[count++] = parse(line);
        }
    }
    return 0;
}
