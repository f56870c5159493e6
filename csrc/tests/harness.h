/* harness.h - what the tests of the kernel families share: reports, memory, numbers, threads. The
 * including test defines JOB, its job struct, first. Arrays are exact allocations, so that one
 * element too many is seen; scratch starts as NaN, so that a read of what was never written is seen
 * as well.
 */
#ifndef EQP_TEST_HARNESS_H
#define EQP_TEST_HARNESS_H

#include "core/eqprop.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int (*kernel)(JOB *, int, int);
typedef struct {
    const char *name;
    size_t bytes;
    double near; /* to the test's own twin, relative to the largest entry of an array */
    kernel relax_scratch, relax, train_scratch, train;
    double parity; /* to another instruction set */
} precision;

/* --- reports --- */

static long n_checks, n_failures;
static char where[256];

static int check(int ok, const char *what, double got, double wanted) {
    n_checks++;
    if (ok) return 1;
    if (++n_failures <= 60)
        printf("FAIL %s: %s: got %.17g, wanted %.17g\n", where, what, got, wanted);
    return 0;
}

/* --- memory, random numbers --- */

static void *kept[4096];
static int n_kept;

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

static void release(void) {
    while (n_kept) free(kept[--n_kept]);
}

static uint64_t seed;
static double uniform(double lo, double hi) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return lo + (hi - lo) * (double)(seed >> 11) / 9007199254740992.0;
}

static void put(const precision *p, void *a, int64_t i, double v) {
    if (p->bytes == sizeof(double))
        ((double *)a)[i] = v;
    else
        ((float *)a)[i] = (float)v;
}
static double get(const precision *p, const void *a, int64_t i) {
    return p->bytes == sizeof(double) ? ((const double *)a)[i] : (double)((const float *)a)[i];
}

static void *reals(const precision *p, int64_t n, double lo, double hi) {
    void *a = keep((size_t)n * p->bytes);
    for (int64_t i = 0; i < n; i++) put(p, a, i, uniform(lo, hi));
    return a;
}

/* Gives the job rows x columns inputs, `fill` of which are not zero, dense or as CSR; returns the
 * dense ones. */
static void *inputs(const precision *p, JOB *j, int rows, int columns, double fill, int csr) {
    void *x = keep((size_t)rows * (size_t)columns * p->bytes);
    int64_t nnz = 0;
    for (int64_t i = 0; i < (int64_t)rows * columns; i++) {
        const double v = uniform(0.1, 1), u = uniform(0, 1);
        if (u < fill) put(p, x, i, v), nnz++;
    }
    j->x = x;
    if (!csr) return x;
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

/* --- running a job --- */

#define MOST_THREADS 8

typedef struct {
    kernel f;
    JOB *job;
    int thread, n_threads, status;
} worker;

static void *work(void *arg) {
    worker *w = arg;
    w->status = w->f(w->job, w->thread, w->n_threads);
    return NULL;
}

/* Scratch of exactly the size asked for, full of NaN; fills the status of every thread. Returns
 * that of `scratch`. */
static int run_threads(kernel scratch, kernel f, JOB *j, int n_threads, int *status) {
    const int refused = scratch(j, 0, n_threads);
    if (refused) return refused;
    j->scratch = keep((size_t)j->scratch_size);
    memset(j->scratch, 0xff, (size_t)j->scratch_size);
    if (j->barrier) memset(j->barrier, 0, sizeof *j->barrier);
    worker w[MOST_THREADS];
    pthread_t id[MOST_THREADS];
    for (int t = 0; t < n_threads; t++) w[t] = (worker){f, j, t, n_threads, -1};
    for (int t = 1; t < n_threads; t++)
        if (pthread_create(&id[t], NULL, work, &w[t])) {
            puts("no threads");
            exit(2);
        }
    work(&w[0]);
    for (int t = 1; t < n_threads; t++) pthread_join(id[t], NULL);
    for (int t = 0; t < n_threads; t++) status[t] = w[t].status;
    return EQP_OK;
}

#endif
