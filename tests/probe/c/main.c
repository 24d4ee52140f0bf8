/* WAY AMOUNT [LIBRARY]: some blocks of work, done in some way.
 *
 * AMOUNT is a number of blocks, or a file whose size in blocks of 16 bytes is that number. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "work.h"

enum { THREADS = 4 };

static long amount(const char *word)
{
    struct stat status;

    return stat(word, &status) == 0 ? status.st_size / 16 : atol(word);
}

static void *thread(void *blocks)
{
    by_instructions(*(long *)blocks);
    return NULL;
}

static void in_threads(long blocks)
{
    pthread_t all[THREADS];
    long each = blocks / THREADS;

    for (int number = 0; number < THREADS; number++)
        pthread_create(&all[number], NULL, thread, &each);
    for (int number = 0; number < THREADS; number++)
        pthread_join(all[number], NULL);
}

static void after_fork(long blocks)
{
    pid_t child = fork();

    by_instructions(blocks / 2);
    if (child == 0)
        _exit(0);
    waitpid(child, NULL, 0);
}

#ifndef STATIC
static void *wait_for_it(void *go)
{
    while (!*(void *volatile *)go)
        usleep(100);
    ((void (*)(long))*(void *volatile *)go)(100);
    return NULL;
}

/* A thread that runs before the library is there uses it, too. */
static void in_library(const char *path, long blocks)
{
    static void *volatile go;
    pthread_t other;

    pthread_create(&other, NULL, wait_for_it, (void *)&go);
    void *library = dlopen(path, RTLD_NOW);
    void *function = library ? dlsym(library, "by_instructions") : NULL;
    if (!function)
        exit(9);
    go = function;
    ((void (*)(long))function)(blocks - 100);
    pthread_join(other, NULL);
}

/* It is loaded, not used, and unloaded; most often it comes to the same place again. */
static void in_library_again(const char *path, long blocks)
{
    void *library = dlopen(path, RTLD_NOW);

    if (!library || dlclose(library) || !(library = dlopen(path, RTLD_NOW)))
        exit(9);
    void *function = dlsym(library, "by_instructions");
    if (!function)
        exit(9);
    ((void (*)(long))function)(blocks);
}
#endif

static void with_daemon(long blocks)
{
    if (fork() == 0) {
        setsid();
        for (;;)
            pause();
    }
    by_instructions(blocks);
}

int main(int count, char **words)
{
    const char *way = count > 2 ? words[1] : "";
    long blocks = count > 2 ? amount(words[2]) : 0;

    if (!strcmp(way, "one"))
        by_instructions(blocks);
    else if (!strcmp(way, "threads"))
        in_threads(blocks);
    else if (!strcmp(way, "fork"))
        after_fork(blocks);
    else if (!strcmp(way, "exec"))
        execl("/proc/self/exe", words[0], "one", words[2], (char *)NULL);
    else if (!strcmp(way, "table"))
        by_table(blocks);
    else if (!strcmp(way, "none"))
        by_neither(blocks);
    else if (!strcmp(way, "self-test")) {
        by_instructions(64);
        by_table(blocks);
    } else if (!strcmp(way, "self-test-unseen")) {
        by_instructions(64);
        by_neither(blocks);
    } else if (!strcmp(way, "both")) {
        by_instructions(blocks / 2);
        by_table(blocks / 2);
    } else if (!strcmp(way, "half"))
        by_instructions(blocks / 2);
    else if (!strcmp(way, "crash")) {
        by_instructions(blocks);
        raise(SIGSEGV);
    } else if (!strcmp(way, "fail")) {
        fputs("this went wrong\n", stderr);
        return 3;
    } else if (!strcmp(way, "daemon"))
        with_daemon(blocks);
    else if (!strcmp(way, "hang"))
        for (;;)
            pause();
#ifndef STATIC
    else if (!strcmp(way, "library") && count > 3)
        in_library(words[3], blocks);
    else if (!strcmp(way, "library-again") && count > 3)
        in_library_again(words[3], blocks);
#endif
    else
        return 2;
    return 0;
}
