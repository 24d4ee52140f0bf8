/* Known answers.  A line of the file is a word and hexadecimal fields:
 *
 *   ecb KEY PLAINTEXT CIPHERTEXT
 *   cbc KEY IV PLAINTEXT CIPHERTEXT
 *   mct-encrypt | mct-decrypt KEY IV INPUT OUTPUT    the inner loop of NIST's Monte Carlo test
 *   plain64 SECTOR IV */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"

#define FIELDS 4
#define FIELD_MAX 4096 /* bytes */
#define COPIES 37      /* each CBC message also as a run: past the lanes of most kernels, and odd */
#define MCT_BLOCKS 1000

typedef struct {
    uint8_t bytes[FIELD_MAX];
    size_t length;
} field;

static char line[FIELDS * (2 * FIELD_MAX + 1) + 32];
static field fields[FIELDS];

/* Split `line` in its word, which is given, and its fields. */
static const char *parse(int *found)
{
    const char *word = strtok(line, " \n"), *text;
    for (*found = 0; (text = strtok(NULL, " \n")) != NULL; ++*found) {
        const size_t digits = strlen(text);
        CHECK(*found < FIELDS && digits % 2 == 0, "bad line that begins with %s", word);
        fields[*found].length = digits / 2;
        for (size_t i = 0; i < digits / 2; i++) {
            const char pair[3] = {text[2 * i], text[2 * i + 1], 0};
            fields[*found].bytes[i] = (uint8_t)strtoul(pair, NULL, 16);
        }
    }
    return word;
}

static void one(operation *op, const qc_key *key, const uint8_t *iv, const field *src,
                const field *wanted, const char *what)
{
    static uint8_t in[COPIES * FIELD_MAX], out[COPIES * FIELD_MAX], ivs[COPIES * 16];
    const size_t size = src->length;

    CHECK(size == wanted->length, "%s: lengths differ", what);
    for (size_t copies = 1; copies <= COPIES; copies += COPIES - 1) {
        for (size_t i = 0; i < copies; i++) {
            memcpy(in + i * size, src->bytes, size);
            memcpy(ivs + i * 16, iv, 16);
        }
        CHECK(op(key, ivs, copies * 16, in, out, copies * size, size) == QC_OK, "%s", what);
        for (size_t i = 0; i < copies; i++)
            CHECK(!memcmp(out + i * size, wanted->bytes, size), "%s: message %zu of %zu is wrong",
                  what, i, copies);
    }
}

/* AESAVS, 6.4.2: the input of a step is the output two steps before, or the IV. */
static void monte_carlo(const qc_key *key, int encrypt, const char *what)
{
    uint8_t iv[16], input[16], output[16], before[16];
    memcpy(iv, fields[1].bytes, 16);
    memcpy(before, iv, 16);
    memcpy(input, fields[2].bytes, 16);
    for (int step = 0; step < MCT_BLOCKS; step++) {
        CHECK((encrypt ? qc_cbc_encrypt : qc_cbc_decrypt)(key, iv, 16, input, output, 16, 16) ==
                  QC_OK, "%s", what);
        memcpy(iv, encrypt ? output : input, 16);
        memcpy(input, before, 16);
        memcpy(before, output, 16);
    }
    CHECK(!memcmp(output, fields[3].bytes, 16), "%s: the last block is wrong", what);
}

static void plain64(const char *what)
{
    uint8_t iv[16];
    uint64_t sector = 0;
    for (size_t i = 0; i < fields[0].length; i++)
        sector = sector << 8 | fields[0].bytes[i];
    CHECK(qc_plain64(sector, iv, 16) == QC_OK, "%s", what);
    CHECK(!memcmp(iv, fields[1].bytes, 16), "%s: wrong IV", what);
}

static void answer(int kernel, const char *word, int found, const char *what)
{
    static const uint8_t no_iv[16];
    qc_key *key;
    if (!strcmp(word, "plain64") && found == 2) {
        plain64(what);
        return;
    }
    key = new_key(kernel, fields[0].bytes, fields[0].length);
    if (!strcmp(word, "ecb") && found == 3) {
        one(ecb_encrypt, key, no_iv, &fields[1], &fields[2], what);
        one(ecb_decrypt, key, no_iv, &fields[2], &fields[1], what);
    } else if (!strcmp(word, "cbc") && found == 4) {
        one(qc_cbc_encrypt, key, fields[1].bytes, &fields[2], &fields[3], what);
        one(qc_cbc_decrypt, key, fields[1].bytes, &fields[3], &fields[2], what);
    } else if (!strncmp(word, "mct-", 4) && found == 4) {
        monte_carlo(key, !strcmp(word, "mct-encrypt"), what);
    } else {
        fail("%s: unknown, or too few fields", what);
    }
    qc_key_free(key);
}

void test_vectors(const char *path)
{
    for (int kernel = 0; kernel < qc_kernel_count(); kernel++) {
        char what[80];
        int number = 0, found;
        FILE *file = usable(kernel) ? fopen(path, "r") : NULL;
        if (!usable(kernel))
            continue;
        CHECK(file, "cannot open %s", path);
        while (fgets(line, sizeof line, file)) {
            const char *word = parse(&found);
            snprintf(what, sizeof what, "%s, line %d (%s)", qc_kernel_name(kernel), ++number, word);
            answer(kernel, word, found, what);
        }
        fclose(file);
        CHECK(number, "no vectors in %s", path);
        printf("%s %d vectors\n", qc_kernel_name(kernel), number);
    }
}
