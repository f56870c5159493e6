/* harness.h - what the tests of the kernel families share: reports, memory, random numbers, a job
 * with what is to be compared after it, threads, instruction sets. The including test defines JOB,
 * its job struct, first.
 *
 * Arrays are exact allocations, so that the address sanitizer sees one element too many; scratch
 * starts as NaN, so that a read of what was never written shows in the results as well.
 *
 * Letters, here and in the tests:
 *   p      the precision under test      j      the job, q.job
 *   q      a problem: a job with data    L      weight matrices (core/jobs.h has the others)
 *   k      a layer or weight matrix      i, h   units of a layer and of one beside it
 *   m, r   rows of the job, of the data
 */
#ifndef EQP_TEST_HARNESS_H
#define EQP_TEST_HARNESS_H

#include "core/eqprop.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A public kernel: job, thread, number of threads; returns an eqp_status. */
typedef int (*kernel)(JOB *, int, int);

/* The kernels of one precision, and how far they may lie from others. */
typedef struct {
    const char *name; /* "f32", "f64" */
    size_t bytes;     /* of one real */
    double near;      /* to the test's own twin, relative to the largest entry of an array */
    kernel relax_scratch, relax, train_scratch, train;
    double parity; /* to another instruction set */
} precision;

/* --- reports --- */

static long n_checks, n_failures;
static char where[256]; /* the case under test, as a report names it */

/* Counts a check and reports one that fails (the first 60); returns ok. */
static int check(int ok, const char *what, double got, double wanted) {
    n_checks++;
    if (ok) return 1;
    if (++n_failures <= 60)
        printf("FAIL %s: %s: got %.17g, wanted %.17g\n", where, what, got, wanted);
    return 0;
}

/* --- memory, random numbers --- */

static void *kept[4096]; /* what `release` frees */
static int n_kept;

/* Zeroed memory of exactly that size on a cache line, kept until `release`. */
static void *keep(size_t bytes) {
    void *p = NULL;
    if (n_kept == (int)(sizeof kept / sizeof kept[0]) ||
        posix_memalign(&p, 64, bytes ? bytes : 1)) {
        puts("out of memory");
        exit(2);
    }
    memset(p, 0, bytes);
    return kept[n_kept++] = p;
}

/* Frees all that a case has kept. */
static void release(void) {
    while (n_kept) free(kept[--n_kept]);
}

static uint64_t seed; /* set by whoever makes a problem: the same numbers on every machine */

/* A number from [lo, hi): Knuth's MMIX generator, of which the upper 53 bits are used. */
static double uniform(double lo, double hi) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return lo + (hi - lo) * (double)(seed >> 11) / 9007199254740992.0;
}

/* a[i] = v, in the precision under test. */
static void put(const precision *p, void *a, int64_t i, double v) {
    if (p->bytes == sizeof(double))
        ((double *)a)[i] = v;
    else
        ((float *)a)[i] = (float)v;
}

/* a[i] of the precision under test. */
static double get(const precision *p, const void *a, int64_t i) {
    return p->bytes == sizeof(double) ? ((const double *)a)[i] : (double)((const float *)a)[i];
}

/* n reals from [lo, hi). */
static void *reals(const precision *p, int64_t n, double lo, double hi) {
    void *a = keep((size_t)n * p->bytes);
    for (int64_t i = 0; i < n; i++) put(p, a, i, uniform(lo, hi));
    return a;
}

#ifndef DENSE_ONLY /* defined by tests of kernels that know no CSR */
/* Gives the job rows x columns inputs, `fill` of which are not zero, dense or as CSR; returns the
 * dense ones. */
static void *inputs(const precision *p, JOB *j, int rows, int columns, double fill, int csr) {
    void *x = keep((size_t)rows * (size_t)columns * p->bytes);
    int64_t nnz = 0;
    /* two numbers drawn for every input, whether it is zero or not: others come out the same */
    for (int64_t i = 0; i < (int64_t)rows * columns; i++) {
        const double v = uniform(0.1, 1), u = uniform(0, 1);
        if (u < fill) put(p, x, i, v), nnz++;
    }
    j->x = x;
    if (!csr) return x;

    /* the same as CSR; `e` counts the entries */
    int64_t *indptr = keep((size_t)(rows + 1) * sizeof *indptr), e = 0;
    int32_t *indices = keep((size_t)nnz * sizeof *indices);
    void *data = keep((size_t)nnz * p->bytes);
    for (int m = 0; m < rows; m++) {
        for (int i = 0; i < columns; i++) {
            const double v = get(p, x, (int64_t)m * columns + i);
            if (v != 0) indices[e] = i, put(p, data, e++, v);
        }
        indptr[m + 1] = e;
    }
    j->x = NULL, j->indptr = indptr, j->indices = indices, j->data = data;
    return x;
}
#endif

/* --- a problem: a job, and the arrays that are compared after it --- */

typedef struct {
    const precision *p;
    JOB *job;
    int32_t *size;     /* (L+1) the job's own, to be spoilt by tests of wrong jobs */
    const void *dense; /* (R, N[0]) the inputs, also where the job has them as CSR */
    struct {
        void *a;
        int64_t n;
    } out[8 * EQP_MAX_WEIGHTS]; /* everything that the kernel writes and we compare */
    int n_out;
} problem;

/* Notes that a (n reals) is to be compared after a run; returns a. */
static void *output(problem *q, void *a, int64_t n) {
    q->out[q->n_out].a = a;
    q->out[q->n_out++].n = n;
    return a;
}

/* Outputs of b against those of a, within tol of the largest entry of each array; tol 0: the same
 * bits, of the losses as well. The unit is 0.1 at least: an optimiser's moments are small, but made
 * of differences of states of order 1, and carry their rounding. */
static void check_same(const problem *a, const problem *b, double tol, const char *what) {
    for (int o = 0; o < a->n_out; o++) {
        double top = 0.1, u = 0, v = 0;
        int good = 1;
        for (int64_t i = 0; i < a->out[o].n; i++) top = fmax(top, fabs(get(a->p, a->out[o].a, i)));
        for (int64_t i = 0; good && i < a->out[o].n; i++) {
            u = get(a->p, a->out[o].a, i), v = get(b->p, b->out[o].a, i);
            good = fabs(u - v) <= tol * top;
        }
        if (!check(good, what, v, u)) return; /* the arrays after it would only repeat it */
    }
    for (int i = 0; tol == 0 && a->job->loss && i < 2; i++)
        check(a->job->loss[i] == b->job->loss[i], what, b->job->loss[i], a->job->loss[i]);
}

/* --- running a job --- */

#define MOST_THREADS 8

/* One thread of a job, and what its kernel returned. */
typedef struct {
    kernel f;
    JOB *job;
    int thread, n_threads, status;
} worker;

/* The body of a thread. */
static void *work(void *arg) {
    worker *w = arg;
    w->status = w->f(w->job, w->thread, w->n_threads);
    return NULL;
}

/* Runs f on n_threads threads with scratch of exactly the size asked for, full of NaN; fills the
 * status of every thread. Returns that of `scratch`. */
static int run_threads(kernel scratch, kernel f, JOB *j, int n_threads, int *status) {
    const int refused = scratch(j, 0, n_threads);
    if (refused) return refused;
    j->scratch = keep((size_t)j->scratch_size);
    memset(j->scratch, 0xff, (size_t)j->scratch_size); /* NaN in both precisions */
    if (j->barrier) memset(j->barrier, 0, sizeof *j->barrier);
    worker w[MOST_THREADS];
    pthread_t id[MOST_THREADS];
    for (int t = 0; t < n_threads; t++) w[t] = (worker){f, j, t, n_threads, -1};
    for (int t = 1; t < n_threads; t++)
        if (pthread_create(&id[t], NULL, work, &w[t])) {
            puts("no threads");
            exit(2);
        }
    work(&w[0]); /* the caller is a thread of the job, as it is under Python */
    for (int t = 1; t < n_threads; t++) pthread_join(id[t], NULL);
    for (int t = 0; t < n_threads; t++) status[t] = w[t].status;
    return EQP_OK;
}

/* The status that all threads agree on. */
static int run(kernel scratch, kernel f, JOB *j, int n_threads) {
    int status[MOST_THREADS];
    const int refused = run_threads(scratch, f, j, n_threads, status);
    if (refused) return refused;
    for (int t = 1; t < n_threads; t++)
        check(status[t] == status[0], "threads agree on the status", status[t], status[0]);
    return status[0];
}

/* The problem's job through the train kernel; its status. */
static int train(problem *q, int n_threads) {
    return run(q->p->train_scratch, q->p->train, q->job, n_threads);
}

/* The problem's job through the relax kernel; its status. */
static int relax(problem *q, int n_threads) {
    return run(q->p->relax_scratch, q->p->relax, q->job, n_threads);
}

/* A good job must be refused with scratch one byte too small, or with none. */
static void wrong_scratch(problem *q, int trains, int none) {
    const precision *p = q->p;
    check((trains ? p->train_scratch : p->relax_scratch)(q->job, 0, 2) == EQP_OK, "scratch size", 1,
          0);
    q->job->scratch = none ? NULL : keep((size_t)--q->job->scratch_size);
    const int got = (trains ? p->train : p->relax)(q->job, 0, 2);
    const int wanted = none ? EQP_E_NULL : EQP_E_SCRATCH;
    check(got == wanted, none ? "no scratch" : "scratch too small", got, wanted);
}

/* --- instruction sets --- */

/* Runs `test` for both precisions on every instruction set that this processor has; returns how
 * many those are. */
static int every_isa(const precision precisions[2], void (*test)(const precision *)) {
    int tested = 0;
    for (int i = 0; i < eqp_isa_count(); i++) {
        if (!eqp_isa_usable(i)) {
            printf("%s: built, not run: this processor lacks it\n", eqp_isa_name(i));
            continue;
        }
        check(eqp_select_isa(eqp_isa_name(i)) == EQP_OK, "select", i, 0);
        for (int r = 0; r < 2; r++) {
            const long before = n_checks;
            test(&precisions[r]);
            printf("%-7s %s: %ld checks\n", eqp_isa(), precisions[r].name, n_checks - before);
            fflush(stdout); /* a sanitizer's abort must not swallow it */
        }
        tested++;
    }
    return tested;
}

/* The last line of a test program, and its exit status: nothing tested is a failure, too. */
static int verdict(const char *name, int tested) {
    printf("%s: %ld checks on %d instruction sets, %ld failures\n", name, n_checks, tested,
           n_failures);
    return n_failures || !tested ? 1 : 0;
}

#endif
