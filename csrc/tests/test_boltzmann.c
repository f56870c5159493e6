/* test_boltzmann.c - the kernels of Boltzmann machines (csrc/boltzmann, equations 14) without
 * Python: sizes either side of the vector widths, sweeps and learning, 1 and 3 threads bit for bit,
 * wrong jobs for their status. Build with sanitizers (Makefile): arrays are exact allocations, so
 * that one element too many is seen, and scratch starts as NaN, so that a read of what was never
 * written is. That the numbers are right is tested in tests/test_boltzmann_kernels.py.
 *
 * Letters:
 *     L          weight matrices, of layers k = 0 ... L of size[k] units
 *     ROWS       rows of a call of sweeps        CHAINS   persistent chains
 *     DATA       rows of data to learn           THREADS  beside one alone
 *     a, b       a job of sweeps on 1 and on 3 threads;  c, d: of learning; else a is the arrays
 *     s, t       a job of sweeps, a job of learning
 *     draw       1: units are drawn, 0: mean field
 *
 * float alone: the two precisions are one source. */
#include "core/eqprop.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* On one thread ROWS are two blocks (BM_BLOCK), the second a short one; CHAINS are fewer than a
 * tile's rows in some instruction sets and more in others; DATA end in a short batch. */
enum { L = 3, ROWS = 53, CHAINS = 7, DATA = 40, THREADS = 3 };

/* --- reports, memory, random numbers, threads --- */

static long n_checks, n_failures;
static void *kept[512]; /* what `release` frees */
static int n_kept;
static uint64_t seed; /* of `reals` */

/* Counts a check and reports one that fails (the first 39). */
static void check(int ok, const char *what, long got, long wanted) {
    n_checks++;
    if (!ok && ++n_failures < 40) printf("FAIL %s: got %ld, wanted %ld\n", what, got, wanted);
}

/* Memory of exactly that size on a cache line, every byte `fill`, kept until `release`. */
static void *keep(size_t bytes, int fill) {
    void *p = NULL;
    if (n_kept == 512 || posix_memalign(&p, 64, bytes ? bytes : 1)) exit(2);
    memset(p, fill, bytes);
    return kept[n_kept++] = p;
}
/* Frees all that `keep` gave. */
static void release(void) {
    while (n_kept) free(kept[--n_kept]);
}

/* n numbers between lo and hi, or (bits) of 0 and 1; the same after the same `seed`. */
static float *reals(int64_t n, double lo, double hi, int bits) {
    float *a = keep((size_t)n * sizeof *a, 0);
    for (int64_t i = 0; i < n; i++) {
        /* Knuth's linear congruential generator (MMIX), of whose bits the upper 53 are taken */
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        const double u = (double)(seed >> 11) / 9007199254740992.0;
        a[i] = bits ? u < 0.5 : (float)(lo + (hi - lo) * u);
    }
    return a;
}

/* One thread of a job of either kind, and what it returned. */
typedef struct {
    eqp_boltzmann_job *sweep;
    eqp_boltzmann_train_job *train;
    int thread, n_threads, status;
} worker;

/* The kernel, as a thread's function. */
static void *work(void *arg) {
    worker *w = arg;
    w->status = w->sweep ? eqp_boltzmann_sweep_f32(w->sweep, w->thread, w->n_threads)
                         : eqp_boltzmann_train_f32(w->train, w->thread, w->n_threads);
    return NULL;
}

/* Runs a job with scratch of exactly the size asked for, on n_threads <= THREADS threads; returns
 * the status, on which all threads must agree, or that of the call that asks for the size. One of s
 * and t is NULL. */
static int run(eqp_boltzmann_job *s, eqp_boltzmann_train_job *t, int n_threads) {
    const int refused = s ? eqp_boltzmann_sweep_scratch_f32(s, 0, n_threads)
                          : eqp_boltzmann_train_scratch_f32(t, 0, n_threads);
    if (refused) return refused;
    void *barrier = keep(sizeof(eqp_barrier), 0);
    /* 0xff in every byte is a NaN */
    if (s)
        s->scratch = keep((size_t)s->scratch_size, 0xff), s->barrier = barrier;
    else
        t->scratch = keep((size_t)t->scratch_size, 0xff), t->barrier = barrier;
    worker w[THREADS];
    pthread_t id[THREADS];
    for (int i = 0; i < n_threads; i++) w[i] = (worker){s, t, i, n_threads, -1};
    for (int i = 1; i < n_threads; i++)
        if (pthread_create(&id[i], NULL, work, &w[i])) exit(2);
    work(&w[0]);
    for (int i = 1; i < n_threads; i++) pthread_join(id[i], NULL);
    for (int i = 1; i < n_threads; i++)
        check(w[i].status == w[0].status, "threads agree", w[i].status, w[0].status);
    return w[0].status;
}

/* --- jobs --- */

/* Arrays of a machine and of `rows` states: the shapes of core/jobs.h. `mean` is used by sweeps
 * alone, `velocity` by learning; nothing is clamped. */
typedef struct {
    int32_t size[L + 1];
    void *weight[L], *bias[L + 1], *state[L + 1], *mean[L + 1], *base[L + 1], *offset[L + 1];
    void *velocity[2 * L + 1];
    int8_t clamped[L + 1];
} arrays;

/* Arrays from the random numbers that follow `start`: two calls give the same. Velocities are 0. */
static arrays make(const int32_t *size, int rows, uint64_t start) {
    arrays a = {.size = {0}};
    seed = start;
    memcpy(a.size, size, sizeof a.size);
    for (int k = 0; k <= L; k++) {
        a.bias[k] = reals(size[k], -0.3, 0.3, 0), a.base[k] = reals(size[k], -0.3, 0.3, 0);
        a.state[k] = reals((int64_t)rows * size[k], 0, 1, 1);
        a.mean[k] = reals((int64_t)rows * size[k], 0, 1, 0);
        a.offset[k] = reals(size[k], 0, 1, 0), a.velocity[L + k] = reals(size[k], 0, 0, 0);
        if (k == L) break;
        a.weight[k] = reals((int64_t)size[k] * size[k + 1], -0.5, 0.5, 0);
        a.velocity[k] = reals((int64_t)size[k] * size[k + 1], 0, 0, 0);
    }
    return a;
}

/* Checks that what two runs have left in the machine's parameters, offsets, states and means is
 * equal to the bit, and that states and means are finite. Velocities, log weights, steps and
 * residuals are not looked at. */
static void same(const arrays *a, const arrays *b, int rows, const char *what) {
    int equal = 1;
    for (int k = 0; k <= L; k++) {
        const size_t n = (size_t)a->size[k] * sizeof(float);
        /* bytes, not numbers: -0 is not 0 here, and a NaN equals itself */
        equal &= !memcmp(a->bias[k], b->bias[k], n) && !memcmp(a->offset[k], b->offset[k], n);
        equal &= !memcmp(a->state[k], b->state[k], n * (size_t)rows);
        equal &= !memcmp(a->mean[k], b->mean[k], n * (size_t)rows);
        for (int i = 0; i < a->size[k] * rows; i++)
            equal &= isfinite(((float *)a->state[k])[i]) && isfinite(((float *)a->mean[k])[i]);
        if (k < L) equal &= !memcmp(a->weight[k], b->weight[k], n * (size_t)a->size[k + 1]);
    }
    check(equal, what, equal, 1);
}

/* A job of 6 sweeps over ROWS rows, with labels on top. Mean field begins with the pass upwards and
 * lets settled rows go; `cold`: annealing, from the biases `base`, with log weights. */
static eqp_boltzmann_job sweep_job(arrays *a, int draw, int cold) {
    /* one more than there are sweeps */
    static double betas[7] = {0.1, 0.2, 0.3, 0.5, 0.6, 0.8, 1};
    return (eqp_boltzmann_job){.n_weights = L,
                               .size = a->size,
                               .weight = a->weight,
                               .bias = a->bias,
                               .categorical_top = 1,
                               .state = a->state,
                               .mean = a->mean,
                               .clamped = a->clamped,
                               .n_rows = ROWS,
                               .n_sweeps = 6,
                               .draw = draw,
                               .even_first = cold, /* either order of parities */
                               .upward = !draw,
                               .tol = draw ? -1 : 1e-2,
                               .seed = 1,
                               .steps = keep(ROWS * 4, 0),
                               .residual = keep(ROWS * 4, 0),
                               .betas = cold ? betas : NULL,
                               .base = cold ? a->base : NULL,
                               .log_weight = cold ? keep(ROWS * 8, 0) : NULL};
}

/* A job of learning from DATA rows in batches of 9; `more`: with labels (of random bits: any number
 * of a row may be on), momentum and centering. */
static eqp_boltzmann_train_job train_job(arrays *a, int draw, int more) {
    int64_t *order = keep(DATA * sizeof *order, 0);
    /* a permutation: 7 and DATA have no divisor in common */
    for (int i = 0; i < DATA; i++) order[i] = (7 * i) % DATA;
    return (eqp_boltzmann_train_job){.n_weights = L,
                                     .size = a->size,
                                     .weight = a->weight,
                                     .bias = a->bias,
                                     .categorical_top = 1,
                                     .velocity = more ? a->velocity : NULL,
                                     .offset = more ? a->offset : NULL,
                                     .particle = a->state,
                                     .x = reals((int64_t)DATA * a->size[0], 0, 1, 0),
                                     .y = more ? reals((int64_t)DATA * a->size[L], 0, 1, 1) : NULL,
                                     .order = order,
                                     .n_rows = DATA,
                                     .batch_size = 9,
                                     .n_chains = CHAINS,
                                     .n_mean_field = 3,
                                     .n_sweeps = 2,
                                     .draw = draw,
                                     .tol = 1e-3,
                                     .rate = 0.1,
                                     .momentum = 0.5,
                                     .offset_rate = 0.1,
                                     .seed = 5,
                                     .counts = keep(16, 0)};
}

/* --- tests --- */

/* Sweeps and learning of a machine of these sizes, in each combination of options: 1 thread and 3
 * must agree, and all batches be counted. */
static void cases(const int32_t *size) {
    for (int draw = 0; draw < 2; draw++)
        for (int more = 0; more < 2; more++) {
            arrays one = make(size, ROWS, 3), three = make(size, ROWS, 3);
            eqp_boltzmann_job a = sweep_job(&one, draw, more), b = sweep_job(&three, draw, more);
            check(run(&a, NULL, 1) == EQP_OK && run(&b, NULL, THREADS) == EQP_OK, "sweep", 1, 0);
            same(&one, &three, ROWS, "sweeps on 1 and 3 threads");
            arrays two = make(size, CHAINS, 4);
            eqp_boltzmann_train_job c = train_job(&two, draw, more);
            arrays four = make(size, CHAINS, 4);
            eqp_boltzmann_train_job d = train_job(&four, draw, more);
            check(run(NULL, &c, 1) == EQP_OK && run(NULL, &d, THREADS) == EQP_OK, "train", 1, 0);
            same(&two, &four, CHAINS, "learning on 1 and 3 threads");
            /* whole batches of 9, and the rest */
            check(c.counts[0] == (DATA + 8) / 9, "batches", (long)c.counts[0], (DATA + 8) / 9);
            release();
        }
}

/* Checks that a job of sweeps (kind 0) or of learning (1), right but for `change`, ends with the
 * status `wanted`. Both draw, with annealing, labels, momentum and centering. */
#define REFUSED(change, kind, wanted)                                    \
    do {                                                                 \
        arrays a = make(size, ROWS, 3);                                  \
        eqp_boltzmann_job s = sweep_job(&a, 1, 1);                       \
        eqp_boltzmann_train_job t = train_job(&a, 1, 1);                 \
        (void)s, (void)t; /* one of them is not run */                   \
        change;                                                          \
        const int got = kind == 0 ? run(&s, NULL, 1) : run(NULL, &t, 1); \
        check(got == (wanted), #change, got, wanted);                    \
        release();                                                       \
    } while (0)

/* Jobs with one fault each: a missing array, a size or number out of range, options that exclude
 * each other. Scratch and barrier are right. */
static void wrong_jobs(const int32_t *size) {
    REFUSED(s.size = NULL, 0, EQP_E_NULL);
    REFUSED(s.n_weights = 0, 0, EQP_E_SIZE);
    REFUSED(s.n_weights = EQP_MAX_WEIGHTS + 1, 0, EQP_E_SIZE);
    REFUSED(a.size[1] = 0, 0, EQP_E_SIZE);
    REFUSED(s.weight = NULL, 0, EQP_E_NULL);
    REFUSED(a.bias[2] = NULL, 0, EQP_E_NULL);
    REFUSED(s.clamped = NULL, 0, EQP_E_NULL);
    REFUSED(s.base = NULL, 0, EQP_E_NULL);
    REFUSED(s.betas = NULL, 0, EQP_E_NULL);
    REFUSED(s.n_rows = -1, 0, EQP_E_SIZE);
    REFUSED(s.n_sweeps = -1, 0, EQP_E_SIZE);
    REFUSED(s.seed = -1, 0, EQP_E_SIZE);
    REFUSED(s.upward = 1, 0, EQP_E_OPTION);
    REFUSED(t.size = NULL, 1, EQP_E_NULL);
    REFUSED(t.particle = NULL, 1, EQP_E_NULL);
    REFUSED(t.x = NULL, 1, EQP_E_NULL);
    REFUSED(t.order = NULL, 1, EQP_E_NULL);
    REFUSED(t.counts = NULL, 1, EQP_E_NULL);
    REFUSED(a.weight[1] = NULL, 1, EQP_E_NULL);
    REFUSED(t.batch_size = 0, 1, EQP_E_SIZE);
    REFUSED(t.n_chains = 0, 1, EQP_E_SIZE);
    REFUSED(t.n_sweeps = 0, 1, EQP_E_SIZE);
    REFUSED(t.n_mean_field = -1, 1, EQP_E_SIZE);
    /* not refused, but not finite after a step */
    REFUSED(t.rate = INFINITY, 1, EQP_E_DIVERGED);
}

/* All of it on every instruction set that this processor runs; fails if there is none. */
int main(void) {
    /* one unit; around vectors of 8 and 16; around 32; past a group of draws (64) */
    static const int32_t sizes[][L + 1] = {
        {1, 1, 1, 1}, {7, 8, 9, 2}, {15, 16, 17, 3}, {33, 31, 65, 10}, {70, 64, 7, 4}};
    int tested = 0;
    for (int i = 0; i < eqp_isa_count(); i++) {
        if (!eqp_isa_usable(i)) continue;
        check(eqp_select_isa(eqp_isa_name(i)) == EQP_OK, "select", i, 0);
        for (int s = 0; s < 5; s++) cases(sizes[s]);
        wrong_jobs(sizes[1]);
        tested++;
    }
    printf("boltzmann: %ld checks on %d instruction sets, %ld failures\n", n_checks, tested,
           n_failures);
    return n_failures || !tested;
}
