/* test_crossbar.c - the crossbar kernels without Python: sizes either side of the vector widths,
 * every schedule, dense and CSR inputs, 1 and 3 threads, wrong jobs, against a naive twin. Build
 * with sanitizers (Makefile).
 *
 * The twin works node by node in double, from docs/equations.md 11 alone: no packing, no blocks,
 * no node left out.
 *
 *     cases          every configuration on small networks, relaxing and training
 *     large          networks whose matrices are large enough for live.h and for teams of threads
 *     wrong_jobs     every field that can be wrong, with the status it must give
 *
 *     v[l]       voltages of layer l of one sample, one array a layer
 *     g          a conductance      num, den     currents into a node, its total conductance
 *     turn       which layers move together, within a step
 *     one, three the same problem on 1 and on 3 threads
 */
#define JOB eqp_crossbar_job
#include "harness.h"

static const precision PRECISIONS[] = {
    {"f32", sizeof(float), 1e-4, eqp_crossbar_relax_scratch_f32, eqp_crossbar_relax_f32,
     eqp_crossbar_train_scratch_f32, eqp_crossbar_train_f32, 0},
    {"f64", sizeof(double), 1e-11, eqp_crossbar_relax_scratch_f64, eqp_crossbar_relax_f64,
     eqp_crossbar_train_scratch_f64, eqp_crossbar_train_f64, 0},
};

/* --- one job --- */

/* Codes as in core/jobs.h. */
enum { SYNCHRONOUS, ASYNCHRONOUS, FORWARD, BACKWARD };
enum { CENTERED, POSITIVE, NEGATIVE };
enum { SGD, MOMENTUM, NESTEROV };

/* What a case varies; named as the job's fields are. */
typedef struct {
    const char *name;
    int schedule, nudging;
    int pairs;      /* outputs are differences of two nodes */
    int csr;        /* inputs as CSR */
    int carry;      /* free phases start where the last batch ended */
    int row_weight; /* samples count differently */
    int optimizer;
    double fill; /* share of the inputs that are not zero */
    double tol;  /* of both phases; -1: all steps */
} config;

/* n random numbers that are compared after a run; a share `drop` of them are exactly zero. */
static void *random_output(problem *q, int64_t n, double lo, double hi, double drop) {
    void *a = output(q, keep((size_t)n * q->p->bytes), n);
    for (int64_t i = 0; i < n; i++) {
        const double v = uniform(lo, hi);
        put(q->p, a, i, uniform(0, 1) < drop ? 0 : v);
    }
    return a;
}

/* Nodes that feed layer k + 1: each input drives two of them, +A x and -A x. */
static int fan_in(const int32_t *size, int k) { return k ? size[k] : 2 * size[0]; }

/* Conductances, biases, diodes and states of every layer, `rows` samples of states. */
static void make_network(problem *q, int L, const int32_t *sizes, int rows) {
    const precision *p = q->p;
    eqp_crossbar_job *j = q->job;
    j->n_weights = L, j->size = q->size;
    j->weight = keep((size_t)L * sizeof(void *)), j->bias = keep((size_t)L * sizeof(void *));
    j->lower = keep((size_t)L * sizeof(void *)), j->upper = keep((size_t)L * sizeof(void *));
    j->state = keep((size_t)L * sizeof(void *));
    for (int k = 0; k < L; k++) {
        const int64_t n = sizes[k + 1], in = fan_in(sizes, k);
        /* half of the hidden conductances are at zero; those of the outputs are well above beta, so
         * that a negative nudge has an equilibrium */
        const double top = 1 / sqrt((double)in);
        j->weight[k] = k + 1 < L ? random_output(q, in * n, 0, top, 0.5)
                                 : random_output(q, in * n, 0.3 * top, top, 0);
        j->bias[k] = random_output(q, n, -0.1, 0.1, 0);
        j->lower[k] = keep((size_t)n * p->bytes), j->upper[k] = keep((size_t)n * p->bytes);
        for (int i = 0; i < n; i++) {
            /* diodes at the hidden layers only; outputs are free */
            put(p, j->lower[k], i, k + 1 < L && i < n / 2 ? 0 : -INFINITY);
            put(p, j->upper[k], i, k + 1 < L && i >= n / 2 ? 0 : INFINITY);
        }
        j->state[k] = random_output(q, rows * n, -0.2, 0.2, 0.3);
    }
}

/* What only training has: rates that differ from layer to layer, and velocities. */
static void make_training(problem *q, const config *c, int L, const int32_t *sizes, int batch) {
    eqp_crossbar_job *j = q->job;
    j->batch_size = batch, j->nudging = c->nudging, j->carry = c->carry;
    j->g_min = 1e-3, j->g_max = 0.6; /* both are reached */
    double *rate = keep(2 * (size_t)L * sizeof *rate);
    for (int k = 0; k < 2 * L; k++) rate[k] = 0.02 / (k % L + 1);
    j->rate = rate, j->bias_rate = rate + L;
    j->loss = keep(2 * sizeof(double));
    if (c->optimizer == SGD) return;
    j->optimizer = c->optimizer, j->momentum = 0.5;
    j->velocity = keep(2 * (size_t)L * sizeof(void *));
    for (int k = 0; k < L; k++) {
        j->velocity[k] = random_output(q, (int64_t)fan_in(sizes, k) * sizes[k + 1], -0.01, 0.01, 0);
        j->velocity[L + k] = random_output(q, sizes[k + 1], -0.01, 0.01, 0);
    }
}

/* The same numbers for the same arguments; half of the conductances before the outputs are zero,
 * half of the nodes of a hidden layer are kept at or above 0 V, the others at or below. batch 0:
 * relaxation. */
static problem make(const config *c, const precision *p, int L, const int32_t *sizes, int rows,
                    int batch) {
    problem q = {.p = p};
    eqp_crossbar_job *j = q.job = keep(sizeof *j);
    seed = 4321;
    q.size = keep((size_t)(L + 1) * sizeof *q.size);
    memcpy(q.size, sizes, (size_t)(L + 1) * sizeof *sizes);
    j->pairs = c->pairs, j->schedule = c->schedule, j->input_gain = 2;
    make_network(&q, L, sizes, batch ? batch : rows);

    q.dense = inputs(p, j, rows, sizes[0], c->fill, c->csr);
    const int outputs = c->pairs ? sizes[L] / 2 : sizes[L];
    j->y = reals(p, (int64_t)rows * outputs, 0, 1);
    void *weight = reals(p, rows, 0.5, 1.5); /* drawn in every case: the numbers after it stay */
    if (c->row_weight) j->row_weight = weight;
    /* rows from the last to the first: who forgets the order reads other samples */
    int64_t *order = keep((size_t)rows * sizeof *order);
    for (int m = 0; m < rows; m++) order[m] = rows - 1 - m;
    j->order = order;

    j->n_rows = rows;
    /* an odd and an even number: rows are walked in turns, from either end */
    j->n_free_steps = 4, j->n_nudged_steps = 3, j->tol_free = j->tol_nudged = c->tol,
    j->beta = 0.05;
    j->barrier = keep(sizeof *j->barrier);
    j->steps = keep((size_t)rows * sizeof *j->steps);
    j->residual = keep((size_t)rows * p->bytes);
    if (batch) make_training(&q, c, L, sizes, batch);
    return q;
}

/* --- a naive twin, one node after another, in double (equations 11) --- */

/* Voltage of source i of sample r: A x, and -A x for the second half. */
static double input(const problem *q, int64_t r, int i) {
    const int D = q->size[0];
    const double v = q->job->input_gain * get(q->p, q->dense, r * D + i % D);
    return i < D ? v : -v;
}

/* The currents that node i of layer k (1-based) would draw at 0 V, sum of g v + b; *total: the sum
 * of its conductances. Their ratio is the voltage at which it rests. v[l] is layer l of one sample.
 */
static double currents(const problem *q, int64_t r, double **v, int k, int i, double *total) {
    const eqp_crossbar_job *j = q->job;
    const int N = q->size[k], in = fan_in(q->size, k - 1);
    double num = get(q->p, j->bias[k - 1], i);
    *total = 0;
    /* from below: sources in pairs, or a layer */
    for (int h = 0; h < in; h++) {
        const double g = get(q->p, j->weight[k - 1], (int64_t)h * N + i);
        num += g * (k == 1 ? input(q, r, h) : v[k - 1][h]), *total += g;
    }
    /* from above: the same matrix the other way, for a conductance has no direction */
    for (int h = 0; k < j->n_weights && h < q->size[k + 1]; h++) {
        const double g = get(q->p, j->weight[k], (int64_t)i * q->size[k + 1] + h);
        num += g * v[k + 1][h], *total += g;
    }
    return num;
}

/* out = layer k of sample r at rest given its neighbours: nudged at the outputs, then held by its
 * diodes. beta 0: not nudged. */
static void settle(const problem *q, int64_t r, double **v, double *out, int k, double beta) {
    const eqp_crossbar_job *j = q->job;
    const int N = q->size[k], last = k == j->n_weights, half = N / 2;
    double *total = keep((size_t)N * sizeof *total);
    const int outputs = j->pairs ? half : N;
    for (int i = 0; i < N; i++) {
        const double num = currents(q, r, v, k, i, &total[i]), nudge = last && !j->pairs ? beta : 0;
        const double den = total[i] + nudge;
        out[i] =
            den > 0 ? (num + (nudge != 0 ? nudge * get(q->p, j->y, r * outputs + i) : 0)) / den : 0;
    }
    /* a current into one output of a pair and out of the other, solved exactly: it lowers the
     * prediction's distance by 1 + beta (1/G+ + 1/G-) */
    for (int i = 0; last && j->pairs && beta != 0 && i < half; i++) {
        const double up = total[i] > 0 ? 1 / total[i] : 0,
                     down = total[half + i] > 0 ? 1 / total[half + i] : 0;
        const double amps = beta * (get(q->p, j->y, r * outputs + i) - (out[i] - out[half + i])) /
                            (1 + beta * (up + down));
        out[i] += amps * up, out[half + i] -= amps * down;
    }
    /* diodes clip last: the minimum of a convex function of one variable within bounds */
    for (int i = 0; i < N; i++)
        out[i] = fmin(fmax(out[i], get(q->p, j->lower[k - 1], i)), get(q->p, j->upper[k - 1], i));
}

/* The turn of a step at which layer k moves. */
static int turn_of(const problem *q, int k) {
    switch (q->job->schedule) {
    case ASYNCHRONOUS: return (k + 1) % 2;
    case FORWARD: return k - 1;
    case BACKWARD: return q->job->n_weights - k;
    default: return 0;
    }
}

/* n_steps of sample r from v, in place, nudged by beta; the job's schedule says which layers see
 * the new voltages of which. */
static void phase(const problem *q, int64_t r, double **v, int n_steps, double beta) {
    const int L = q->job->n_weights;
    for (int s = 0; s < n_steps; s++) {
        const int before = n_kept; /* what a step allocates is freed with it */
        double *next[EQP_MAX_WEIGHTS + 1];
        for (int k = 1; k <= L; k++) next[k] = keep((size_t)q->size[k] * sizeof(double));
        for (int turn = 0; turn < L; turn++)
            for (int k = 1; k <= L; k++) {
                if (turn_of(q, k) != turn) continue;
                /* synchronous: from the old voltages, which stay until all have moved */
                settle(q, r, v, next[k], k, beta);
                if (q->job->schedule != SYNCHRONOUS)
                    memcpy(v[k], next[k], (size_t)q->size[k] * sizeof(double));
            }
        for (int k = 1; q->job->schedule == SYNCHRONOUS && k <= L; k++)
            memcpy(v[k], next[k], (size_t)q->size[k] * sizeof(double));
        while (n_kept > before) free(kept[--n_kept]);
    }
}

/* What crossbar_relax must do: one phase for each row of the job. */
static void twin_relax(problem *q) {
    for (int m = 0; m < q->job->n_rows; m++) {
        double *v[EQP_MAX_WEIGHTS + 1];
        /* from the state given, into the state given */
        for (int k = 1; k <= q->job->n_weights; k++) {
            v[k] = keep((size_t)q->size[k] * sizeof(double));
            for (int i = 0; i < q->size[k]; i++)
                v[k][i] = get(q->p, q->job->state[k - 1], (int64_t)m * q->size[k] + i);
        }
        phase(q, q->job->order[m], v, q->job->n_free_steps, q->job->beta);
        for (int k = 1; k <= q->job->n_weights; k++)
            for (int i = 0; i < q->size[k]; i++)
                put(q->p, q->job->state[k - 1], (int64_t)m * q->size[k] + i, v[k][i]);
    }
}

/* Parameter i after a step along its gradient, before any clamp; moves its velocity. */
static double stepped(problem *q, int slot, void *parameter, int64_t i, double rate,
                      double gradient) {
    const eqp_crossbar_job *j = q->job;
    double along = gradient; /* plain SGD */
    if (j->optimizer) {
        const double v = j->momentum * get(q->p, j->velocity[slot], i) + gradient;
        put(q->p, j->velocity[slot], i, v);
        along = j->optimizer == NESTEROV ? gradient + j->momentum * v : v;
    }
    return get(q->p, parameter, i) - rate * along;
}

/* Sums over a batch: dg[k] (fan_in, N[k+1]) and db[k] (N[k+1]) of the contrast between the second
 * phase and what it is held against, and the weight of the samples. */
typedef struct {
    double *dg[EQP_MAX_WEIGHTS], *db[EQP_MAX_WEIGHTS], weight;
} contrast;

/* Adds sample r's share: half the difference of squared voltage drops; v at +beta, z at -beta or
 * free. */
static void add_contrast(const problem *q, contrast *sums, int64_t r, double **v, double **z) {
    const double weight = q->job->row_weight ? get(q->p, q->job->row_weight, r) : 1;
    sums->weight += weight;
    for (int k = 0; k < q->job->n_weights; k++)
        for (int i = 0; i < q->size[k + 1]; i++) {
            sums->db[k][i] += weight * (v[k + 1][i] - z[k + 1][i]);
            for (int h = 0; h < fan_in(q->size, k); h++) {
                const double drop = (k ? v[k][h] : input(q, r, h)) - v[k + 1][i];
                const double other = (k ? z[k][h] : input(q, r, h)) - z[k + 1][i];
                sums->dg[k][(int64_t)h * q->size[k + 1] + i] +=
                    weight * 0.5 * (drop * drop - other * other);
            }
        }
}

/* One step of conductances, clamped, and biases; `spread` is the distance of the two betas. */
static void twin_update(problem *q, const contrast *sums, double spread) {
    eqp_crossbar_job *j = q->job;
    const double per = 1 / (spread * sums->weight);
    for (int k = 0; k < j->n_weights; k++) {
        const int64_t cells = (int64_t)fan_in(q->size, k) * q->size[k + 1];
        for (int64_t i = 0; i < cells; i++) {
            const double g = stepped(q, k, j->weight[k], i, j->rate[k], per * sums->dg[k][i]);
            put(q->p, j->weight[k], i, fmin(fmax(g, j->g_min), j->g_max));
        }
        for (int i = 0; i < q->size[k + 1]; i++) /* energy falls with b v: the sign turns */
            put(q->p, j->bias[k], i,
                stepped(q, j->n_weights + k, j->bias[k], i, j->bias_rate[k],
                        -per * sums->db[k][i]));
    }
}

/* One batch from the state's rows, in place on conductances, biases and state: the rule as the
 * paper writes it. */
static void twin_batch(problem *q, int64_t first, int n, int from_zero) {
    eqp_crossbar_job *j = q->job;
    const int L = j->n_weights;
    double *v[3][EQP_MAX_WEIGHTS + 1]; /* free, and the two that are held against each other */
    const double beta[2] = {j->nudging == NEGATIVE ? -j->beta : j->beta,
                            j->nudging == CENTERED ? -j->beta : 0};
    contrast sums = {.weight = 0};
    for (int k = 0; k < L; k++) {
        sums.dg[k] = keep((size_t)fan_in(q->size, k) * (size_t)q->size[k + 1] * sizeof(double));
        sums.db[k] = keep((size_t)q->size[k + 1] * sizeof(double));
    }
    for (int b = 0; b < n; b++) {
        const int64_t r = j->order[first + b];
        for (int s = 0; s < 3; s++)
            for (int k = 1; k <= L; k++) v[s][k] = keep((size_t)q->size[k] * sizeof(double));
        for (int k = 1; k <= L; k++)
            for (int i = 0; i < q->size[k]; i++)
                v[0][k][i] =
                    from_zero ? 0 : get(q->p, j->state[k - 1], (int64_t)b * q->size[k] + i);
        /* free; then each nudged phase from there, or the free state itself as the other end */
        phase(q, r, v[0], j->n_free_steps, 0);
        for (int s = 0; s < 2; s++) {
            for (int k = 1; k <= L; k++)
                memcpy(v[1 + s][k], v[0][k], (size_t)q->size[k] * sizeof(double));
            if (beta[s] != 0) phase(q, r, v[1 + s], j->n_nudged_steps, beta[s]);
        }
        add_contrast(q, &sums, r, v[1], v[2]);
        /* where the first nudged phase ended, the next batch begins */
        for (int k = 1; k <= L; k++)
            for (int i = 0; i < q->size[k]; i++)
                put(q->p, j->state[k - 1], (int64_t)b * q->size[k] + i, v[1][k][i]);
    }
    twin_update(q, &sums, beta[0] - beta[1]);
}

/* What crossbar_train must do: batch after batch. A short batch, and the one after it, start from
 * zero: rows of the state belong to places in a batch. */
static void twin_train(problem *q) {
    const int B = q->job->batch_size;
    int from_zero = 0;
    for (int64_t first = 0; first < q->job->n_rows; first += B) {
        const int n = (int)(q->job->n_rows - first < B ? q->job->n_rows - first : B);
        twin_batch(q, first, n, from_zero || n < B || !q->job->carry);
        from_zero = n < B;
    }
    /* a short last batch leaves nothing to carry */
    for (int k = 1; from_zero && k <= q->job->n_weights; k++)
        memset(q->job->state[k - 1], 0, (size_t)B * (size_t)q->size[k] * q->p->bytes);
}

/* --- cases --- */

/* Every schedule and nudging, with both kinds of outputs, every optimiser and start. */
static const config CONFIGS[] = {
    {"asynchronous", ASYNCHRONOUS, CENTERED, .carry = 1, .fill = 0.5, .tol = -1},
    {"pairs", ASYNCHRONOUS, CENTERED, .pairs = 1, .carry = 1, .row_weight = 1,
     .optimizer = NESTEROV, .fill = 0.5, .tol = -1},
    {"synchronous", SYNCHRONOUS, POSITIVE, .csr = 1, .carry = 1, .row_weight = 1,
     .optimizer = MOMENTUM, .fill = 0.3, .tol = -1},
    {"forward", FORWARD, NEGATIVE, .pairs = 1, .csr = 1, .fill = 0.3, .tol = -1},
    {"backward", BACKWARD, CENTERED, .fill = 1, .tol = -1},
    {"with a tolerance", ASYNCHRONOUS, CENTERED, .carry = 1, .fill = 0.5, .tol = 1e-2},
};
enum { N_CONFIGS = sizeof CONFIGS / sizeof CONFIGS[0] };

/* One to four weight matrices, layers either side of the vector widths. */
static const struct {
    int L;
    int32_t size[5];
} NETS[] = {
    {1, {3, 2}},         {2, {1, 1, 2}},     {2, {5, 7, 4}},         {2, {9, 33, 8}},
    {3, {4, 15, 17, 2}}, {3, {2, 16, 8, 6}}, {4, {3, 9, 31, 7, 10}},
};
enum { N_NETS = sizeof NETS / sizeof NETS[0] };

/* Every configuration on every network: 1 thread against 3 and dense against CSR to the bit, and
 * against the twin, which knows no tolerance. */
static void cases(const precision *p, int trains) {
    for (int c = 0; c < N_CONFIGS; c++)
        for (int s = 0; s < N_NETS; s++) {
            const int batch = trains ? 1 + s % 5 : 0, rows = 11;
            /* a batch size that leaves a shorter last batch, or none */
            snprintf(where, sizeof where, "%s %s %s %s net %d", eqp_isa(), p->name,
                     trains ? "train" : "relax", CONFIGS[c].name, s);
            problem one = make(&CONFIGS[c], p, NETS[s].L, NETS[s].size, rows, batch);
            problem three = make(&CONFIGS[c], p, NETS[s].L, NETS[s].size, rows, batch);
            int got = (trains ? train : relax)(&one, 1);
            check(got == EQP_OK, "status", got, EQP_OK);
            got = (trains ? train : relax)(&three, 3);
            check(got == EQP_OK, "status of 3 threads", got, EQP_OK);
            check_same(&one, &three, 0, "3 threads");
            config dense = CONFIGS[c]; /* dense where the case is CSR, and the other way round */
            dense.csr = !dense.csr;
            problem other = make(&dense, p, NETS[s].L, NETS[s].size, rows, batch);
            (trains ? train : relax)(&other, 1);
            check_same(&one, &other, 0, "dense and CSR");
            if (CONFIGS[c].tol < 0) {
                problem twin = make(&CONFIGS[c], p, NETS[s].L, NETS[s].size, rows, batch);
                (trains ? twin_train : twin_relax)(&twin);
                check_same(&twin, &one, p->near, "twin");
            }
            release();
        }
}

/* Inner matrices large enough that samples are relaxed without the nodes held at 0 V, and that
 * threads share the rows of the others; strong inputs, or only some samples have enough of such
 * nodes. */
static void large(const precision *p) {
    /* two hidden layers, large ones, and three with a narrow one between */
    static const int32_t sizes[][5] = {{6, 300, 257, 4}, {6, 500, 480, 4}, {6, 260, 33, 270, 2}};
    for (int s = 0; s < 3; s++)
        for (int c = 0; c < N_CONFIGS; c += s == 1 ? 5 : 1)
            for (int gain = 2; gain <= 50; gain += 48) {
                snprintf(where, sizeof where, "%s %s large %s net %d gain %d", eqp_isa(), p->name,
                         CONFIGS[c].name, s, gain);
                problem one = make(&CONFIGS[c], p, 3 + s / 2, sizes[s], 5, 2);
                problem three = make(&CONFIGS[c], p, 3 + s / 2, sizes[s], 5, 2);
                /* a strong input holds more nodes at 0 V, by wider margins */
                one.job->input_gain = three.job->input_gain = gain;
                int got = train(&one, 1);
                check(got == EQP_OK, "status", got, EQP_OK);
                got = train(&three, 3);
                check(got == EQP_OK, "status", got, EQP_OK);
                check_same(&one, &three, 0, "3 threads");
                /* float: a twin in double strays */
                if (p->bytes == sizeof(double) && CONFIGS[c].tol < 0) {
                    problem twin = make(&CONFIGS[c], p, 3 + s / 2, sizes[s], 5, 2);
                    twin.job->input_gain = gain;
                    twin_train(&twin);
                    check_same(&twin, &one, 1e-9, "twin");
                }
                release();
            }
}

/* One wrong field in an otherwise good job. */
#define WRONG(trains, change, wanted)                                         \
    do {                                                                      \
        problem q = make(&CONFIGS[0], p, 2, NETS[2].size, 6, trains ? 4 : 0); \
        eqp_crossbar_job *j = q.job;                                          \
        snprintf(where, sizeof where, "%s %s: " #change, eqp_isa(), p->name); \
        (void)j;                                                              \
        change;                                                               \
        const int got_ = (trains ? train : relax)(&q, 1);                     \
        check(got_ == wanted, "status", got_, wanted);                        \
        release();                                                            \
    } while (0)

/* Every job that must be refused, with its status. */
static void wrong_jobs(const precision *p) {
    /* relaxation: arrays that are missing */
    WRONG(0, j->size = NULL, EQP_E_NULL);
    WRONG(0, j->weight = NULL, EQP_E_NULL);
    WRONG(0, j->bias = NULL, EQP_E_NULL);
    WRONG(0, j->lower = NULL, EQP_E_NULL);
    WRONG(0, j->upper = NULL, EQP_E_NULL);
    WRONG(0, j->state = NULL, EQP_E_NULL);
    WRONG(0, j->x = NULL, EQP_E_NULL);
    WRONG(0, j->y = NULL, EQP_E_NULL);
    WRONG(0, j->steps = NULL, EQP_E_NULL);
    WRONG(0, j->residual = NULL, EQP_E_NULL);
    /* sizes, among them outputs that make no pairs */
    WRONG(0, j->n_weights = 0, EQP_E_SIZE);
    WRONG(0, j->n_weights = EQP_MAX_WEIGHTS + 1, EQP_E_SIZE);
    WRONG(0, q.size[1] = 0, EQP_E_SIZE);
    WRONG(0, (q.size[2] = 3, j->pairs = 1), EQP_E_SIZE);
    WRONG(0, j->n_rows = -1, EQP_E_SIZE);
    WRONG(0, j->n_free_steps = -1, EQP_E_SIZE);
    WRONG(0, j->schedule = 4, EQP_E_OPTION);
    WRONG(0, j->beta = -1e3, EQP_E_SINGULAR); /* more than all conductances at an output */
    /* training */
    WRONG(1, j->y = NULL, EQP_E_NULL); /* needed also where nothing is nudged: the cost */
    WRONG(1, j->rate = NULL, EQP_E_NULL);
    WRONG(1, j->bias_rate = NULL, EQP_E_NULL);
    WRONG(1, j->loss = NULL, EQP_E_NULL);
    WRONG(1, j->batch_size = 0, EQP_E_SIZE);
    WRONG(1, j->n_nudged_steps = -1, EQP_E_SIZE);
    WRONG(1, j->nudging = 3, EQP_E_OPTION);
    WRONG(1, j->beta = 0, EQP_E_OPTION);
    WRONG(1, j->optimizer = 3, EQP_E_OPTION);
    WRONG(1, j->optimizer = 1, EQP_E_NULL); /* momentum without velocities */
    WRONG(1, j->beta = NAN, EQP_E_OPTION);
    WRONG(1, j->beta = 1e3, EQP_E_SINGULAR); /* centered: there is a phase at -beta */
    /* one input that is not a number spoils every voltage of its sample */
    WRONG(1, put(p, (void *)(uintptr_t)j->x, 3, NAN), EQP_E_DIVERGED);
    for (int t = 0; t < 2; t++)
        for (int none = 0; none < 2; none++) {
            problem q = make(&CONFIGS[0], p, 2, NETS[2].size, 6, t ? 4 : 0);
            wrong_scratch(&q, t, none);
            release();
        }
}

/* All of the above in one precision. */
static void test(const precision *p) {
    cases(p, 0);
    cases(p, 1);
    large(p);
    wrong_jobs(p);
}

int main(void) { return verdict("crossbar", every_isa(PRECISIONS, test)); }
