/* The C test driver: what the pytest files of tests/native build and run.
 *
 *   driver kernels         each kernel: its name, 1 if it can be used here, what it needs
 *   driver self-test       qc_self_test of each; one that this CPU lacks must say so
 *   driver vectors FILE    known answers, on each kernel
 *   driver runs LONGEST    runs of 1 to LONGEST sectors between guards, on each kernel
 *   driver wide-runs LONGEST    from 1023 sectors on, CBC alone
 *   driver arguments       what must be refused, and that nothing is written then
 *   driver wiping          keys are zeros when their memory is given back
 *   driver --without KERNEL ...    leave this kernel out
 *
 * Exit status 0 and a line for each kernel when all is right; else 1 and what was wrong. */
#include "check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void list_kernels(void)
{
    for (int kernel = 0; kernel < qc_kernel_count(); kernel++)
        printf("%s %d %u\n", qc_kernel_name(kernel), usable(kernel), qc_kernel_needs(kernel));
}

static void test_self_test(void)
{
    int wrong = 0;
    for (int kernel = 0; kernel < qc_kernel_count(); kernel++) {
        const qc_status status = qc_self_test(kernel);
        const char *said = status == QC_OK          ? "ok"
                           : status == QC_SELF_TEST ? "wrong"
                           : status == QC_NO_FEATURE ? "refused"
                                                     : "no answer";
        printf("%s %s\n", qc_kernel_name(kernel), said);
        wrong += status != (qc_kernel_needs(kernel) & ~qc_cpu_features() ? QC_NO_FEATURE : QC_OK);
    }
    fflush(stdout);
    CHECK(!wrong, "%d kernels failed their self-test", wrong);
}

int main(int count, char **words)
{
    const char *command;
    if (count > 2 && !strcmp(words[1], "--without")) {
        left_out = words[2];
        count -= 2;
        words += 2;
    }
    command = count > 1 ? words[1] : "";
    if (count == 2 && !strcmp(command, "kernels"))
        list_kernels();
    else if (count == 2 && !strcmp(command, "self-test"))
        test_self_test();
    else if (count == 3 && !strcmp(command, "vectors"))
        test_vectors(words[2]);
    else if (count == 3 && !strcmp(command, "runs"))
        test_runs(strtoul(words[2], NULL, 10));
    else if (count == 3 && !strcmp(command, "wide-runs"))
        test_wide_runs(strtoul(words[2], NULL, 10));
    else if (count == 2 && !strcmp(command, "arguments"))
        test_arguments();
    else if (count == 2 && !strcmp(command, "wiping"))
        test_wiping();
    else
        fail("no such command: '%s'", command);
    return 0;
}
