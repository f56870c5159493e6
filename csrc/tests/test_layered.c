/* test_layered.c - the layered kernels without Python: sizes either side of the vector widths,
 * every rule, dense and CSR inputs, 1 and 3 threads, wrong jobs. Build with sanitizers (Makefile).
 *
 * Relaxation is held to a twin that is written out here. Training is held to itself: threads and
 * forms of the input to the bit, instruction sets within their parity; Python's tests hold it to
 * the NumPy twin.
 *
 *     relax_cases    states step by step against the twin, energy falls, samples stop when they may
 *     train_cases    every rule: 1 and 3 threads, dense and CSR, all instruction sets
 *     wrong_jobs     every field that can be wrong, with the status it must give; inputs that are
 *                    no numbers; singular systems
 *     dispatch       names of instruction sets, texts of statuses
 *
 *     act        an activation's code       s        a size under test, or the states of a sample
 *     c          the case                   f        a field
 */
#define JOB eqp_layered_job
#include "harness.h"

static const precision PRECISIONS[] = {
    {"f32", sizeof(float), 2e-5, eqp_layered_relax_scratch_f32, eqp_layered_relax_f32,
     eqp_layered_train_scratch_f32, eqp_layered_train_f32, 1e-5},
    {"f64", sizeof(double), 1e-12, eqp_layered_relax_scratch_f64, eqp_layered_relax_f64,
     eqp_layered_train_scratch_f64, eqp_layered_train_f64, 1e-11},
};

/* --- one job --- */

/* Codes as in core/jobs.h, core/activation.h, core/update.h and layered/rules.h; said again here,
 * for a caller without our headers has nothing but the numbers. */
enum {
    EP,
    CONTINUAL,
    VECTOR_FIELD,
    CONTINUAL_VF,
    CLAMPED_SWEEP,
    CONTRASTIVE,
    COUPLED,
    BPTT,
    RECURRENT_BACKPROP,
    IMPLICIT
};
enum {
    IDENTITY,
    SHIFTED_SIGMOID,
    HARD_SIGMOID,
    TANH,
    SIGMOID,
    RELU,
    HALF_HARD,
    CENTERED_HARD,
    WIDE_HARD,
    RELU6,
    N_ACT
};
enum { SGD, MOMENTUM, NESTEROV, ADAM };

/* What a case varies; named as the job's fields are, `tol` for both phases (-1: all steps). */
typedef struct {
    const char *name;
    int rule;
    int dynamics, schedule, prime, inside; /* prime: of hidden and output units */
    int act, out_act, in_act;
    int cost, centered, optimizer;
    int back;       /* feedback weights of their own */
    int particles;  /* free phases start where each sample's last one ended */
    int row_weight; /* samples count differently */
    int signs;      /* of beta, one a batch */
    int idle;       /* no nudged steps */
    int gains;      /* fields count more or less than once */
    double dt, tol;
} config;

/* One moment of an optimiser, shaped as weights, biases and feedback weights, compared after a
 * run. */
static void **moments(problem *q, const config *c, int L, const int32_t *size) {
    void **m = keep(3 * (size_t)L * sizeof *m);
    for (int k = 0; k < L; k++) {
        const int64_t n = (int64_t)size[k] * size[k + 1];
        m[k] = output(q, reals(q->p, n, 0, 0), n);
        m[L + k] = output(q, reals(q->p, size[k + 1], 0, 0), size[k + 1]);
        if (k && c->back) m[2 * L + k] = output(q, reals(q->p, n, 0, 0), n);
    }
    return m;
}

/* Weights and biases that keep fields of order 1. */
static void make_network(problem *q, const config *c, int L) {
    const precision *p = q->p;
    const int32_t *size = q->size;
    eqp_layered_job *j = q->job;
    j->n_weights = L;
    j->size = size;
    j->weight = keep((size_t)L * sizeof(void *));
    j->bias = keep((size_t)L * sizeof(void *));
    if (c->back) j->back = keep((size_t)L * sizeof(void *));
    for (int k = 0; k < L; k++) {
        const double r = 0.7 / sqrt(size[k]);
        const int64_t n = (int64_t)size[k] * size[k + 1];
        j->weight[k] = output(q, reals(p, n, -r, r), n);
        j->bias[k] = output(q, reals(p, size[k + 1], -0.1, 0.2), size[k + 1]);
        if (k && c->back) j->back[k] = output(q, reals(p, n, -r, r), n);
    }
}

/* What only training has: rule, order of rows, rates that differ from layer to layer, optimiser. */
static void make_training(problem *q, const config *c, int L, int rows, int batch) {
    eqp_layered_job *j = q->job;
    if (!c->particles) j->state = NULL;
    /* rows from the last to the first: who forgets the order reads other samples */
    int64_t *order = keep((size_t)rows * sizeof *order);
    for (int m = 0; m < rows; m++) order[m] = rows - 1 - m;
    j->order = order;
    j->beta = 0.5, j->rule = c->rule, j->batch_size = batch, j->centered = c->centered,
    j->optimizer = c->optimizer;
    /* weights and biases of each layer at rates of their own */
    double *rate = keep(2 * (size_t)L * sizeof *rate);
    for (int k = 0; k < 2 * L; k++) rate[k] = c->optimizer == ADAM ? 0.002 : 0.05 / (k % L + 1);
    j->rate = rate, j->bias_rate = rate + L;
    j->momentum = 0.9, j->beta1 = 0.9, j->beta2 = 0.999;
    /* not small: Adam divides by |gradient| + epsilon, which would magnify differences of
     * rounding */
    j->epsilon = 1e-3;
    if (c->optimizer != SGD) j->velocity = moments(q, c, L, q->size), j->weight_decay = 1e-3;
    if (c->optimizer == ADAM) j->second = moments(q, c, L, q->size);
    if (c->signs) {
        int8_t *sign = keep((size_t)rows); /* one a batch, and no more batches than rows */
        for (int i = 0; i < rows; i++) sign[i] = i % 2 ? -1 : 1;
        j->sign = sign;
    }
    j->loss = keep(2 * sizeof(double));
    j->counts = keep(4 * sizeof(int64_t));
}

/* The same numbers for the same arguments, whatever the instruction set; `share` of the inputs are
 * not zero. */
static problem make(const config *c, const precision *p, int L, const int32_t *sizes, int rows,
                    int batch, double fill, int csr) {
    problem q = {.p = p};
    eqp_layered_job *j = q.job = keep(sizeof *j);
    seed = 12345;
    q.size = keep((size_t)(L + 1) * sizeof *q.size);
    memcpy(q.size, sizes, (size_t)(L + 1) * sizeof *q.size);
    make_network(&q, c, L);
    j->dynamics = c->dynamics, j->schedule = c->schedule;
    if (c->gains) {
        double *gain = keep((size_t)L * sizeof *gain);
        for (int k = 0; k < L; k++) gain[k] = 0.5 + k;
        j->gain = gain;
    }
    j->activation = c->act, j->out_activation = c->out_act, j->input_activation = c->in_act;
    j->prime_hidden = j->prime_output = c->prime;
    j->nudge_inside = c->inside, j->cost = c->cost, j->cost_factor = 1, j->dt = c->dt;

    q.dense = inputs(p, j, rows, sizes[0], fill, csr);
    j->y = reals(p, (int64_t)rows * sizes[L], 0, 1);
    if (c->row_weight) j->row_weight = reals(p, rows, 0.5, 1.5);
    j->n_rows = rows;
    j->over_relaxation = 1;
    j->n_free_steps = 9, j->n_nudged_steps = c->idle ? 0 : 5, j->tol_free = j->tol_nudged = c->tol;

    /* relaxation starts from these; training keeps them as particles when asked to */
    j->state = keep((size_t)L * sizeof(void *));
    for (int k = 0; k < L; k++) {
        const int64_t n = (int64_t)rows * sizes[k + 1];
        j->state[k] = output(&q, reals(p, n, 0, 1), n);
    }
    j->steps = keep((size_t)rows * sizeof *j->steps);
    j->residual = output(&q, reals(p, rows, 0, 0), rows);
    j->barrier = keep(sizeof *j->barrier);
    if (batch) make_training(&q, c, L, rows, batch);
    return q;
}

/* --- what must hold of every run --- */

/* No result may be NaN or infinite; one report a problem is enough. */
static void check_finite(const problem *q) {
    for (int o = 0; o < q->n_out; o++) {
        int64_t i = 0; /* the first that is not */
        while (i < q->out[o].n && isfinite(get(q->p, q->out[o].a, i))) i++;
        if (!check(i == q->out[o].n, "finite", i < q->out[o].n ? get(q->p, q->out[o].a, i) : 0, 0))
            return;
    }
}

/* The counters of b against those of a: the same steps taken, the same samples seen. */
static void check_counts(const problem *a, const problem *b, const char *what) {
    for (int i = 0; a->job->counts && i < 4; i++)
        check(a->job->counts[i] == b->job->counts[i], what, (double)b->job->counts[i],
              (double)a->job->counts[i]);
}

/* --- a naive twin, one unit at a time, in double: equations 1 and 2 written out --- */

/* The activation `act` (equations 1.1). */
static double rho(int act, double x) {
    switch (act) {
    case SHIFTED_SIGMOID: return 1 / (1 + exp(-4 * (x - 0.5)));
    case HARD_SIGMOID: return fmin(fmax(x, 0), 1);
    case TANH: return tanh(x);
    case SIGMOID: return 1 / (1 + exp(-x));
    case RELU: return fmax(x, 0);
    case HALF_HARD: return fmin(fmax(x / 2, 0), 1);
    case CENTERED_HARD: return fmin(fmax(x, -0.5), 0.5);
    case WIDE_HARD: return fmin(fmax(x, -1), 2);
    case RELU6: return fmin(fmax(x, 0), 6);
    default: return x;
    }
}

/* Its slope. */
static double rho_prime(int act, double x) {
    switch (act) {
    case SHIFTED_SIGMOID: return 4 * rho(act, x) * (1 - rho(act, x));
    case TANH: return 1 - tanh(x) * tanh(x);
    case SIGMOID: return rho(act, x) * (1 - rho(act, x));
    default: return 1; /* the others are not used with prime here */
    }
}

/* What unit i of layer k shows to its neighbours; s is that layer's state. */
static double shown(const problem *q, int k, const double *s, int i) {
    const eqp_layered_job *j = q->job;
    if (k == 0) return rho(j->input_activation, s[i]);
    return j->dynamics ? rho(k == j->n_weights ? j->out_activation : j->activation, s[i]) : s[i];
}

/* Field of unit i of layer k of one sample: from below, bias, from above. s[l] is layer l. */
static double field(const problem *q, double **s, int k, int i) {
    const eqp_layered_job *j = q->job;
    double f = get(q->p, j->bias[k - 1], i);
    /* from below */
    for (int h = 0; h < q->size[k - 1]; h++)
        f +=
            shown(q, k - 1, s[k - 1], h) * get(q->p, j->weight[k - 1], (int64_t)h * q->size[k] + i);
    /* from above, by the same weights */
    if (k < j->n_weights)
        for (int h = 0; h < q->size[k + 1]; h++)
            f += shown(q, k + 1, s[k + 1], h) *
                 get(q->p, j->weight[k], (int64_t)i * q->size[k + 1] + h);
    return j->gain ? j->gain[k - 1] * f : f;
}

/* Unit i of layer k after one step: the map (equations 1.2) or an Euler step (1.3), nudged at the
 * output (2). */
static double stepped(const problem *q, double **s, const double *y, int k, int i) {
    const eqp_layered_job *j = q->job;
    const int out = k == j->n_weights, act = out ? j->out_activation : j->activation;
    const double nudge = out ? j->cost_factor * j->beta * (y[i] - s[k][i]) : 0,
                 f = field(q, s, k, i);
    if (j->dynamics) {
        const int prime = out ? j->prime_output : j->prime_hidden;
        return s[k][i] + j->dt * ((prime ? rho_prime(act, s[k][i]) : 1) * f + nudge - s[k][i]);
    }
    const double target = j->nudge_inside ? rho(act, f + nudge) : rho(act, f) + nudge;
    return s[k][i] + j->dt * (target - s[k][i]);
}

/* One step of all layers of one sample, in place; `next` is room for it. schedule 2 visits layer
 * after layer. */
static void twin_step(const problem *q, double **s, double **next, const double *y) {
    const int L = q->job->n_weights;
    const int schedule = q->job->schedule, passes = schedule == 2 ? L : 1 + schedule;
    for (int pass = 0; pass < passes; pass++) {
        /* those that move do so from the old states, and the next pass sees the new ones */
        for (int k = 1; k <= L; k++) {
            const int moves = schedule == 0 || (schedule == 1 ? k % 2 != pass : k == pass + 1);
            for (int i = 0; i < q->size[k]; i++)
                next[k][i] = moves ? stepped(q, s, y, k, i) : s[k][i];
        }
        for (int k = 1; k <= L; k++) memcpy(s[k], next[k], (size_t)q->size[k] * sizeof(double));
    }
}

/* Hopfield energy (1602.05179 eq. 1) of one sample, continuous dynamics. */
static double energy(const problem *q, double **s) {
    const eqp_layered_job *j = q->job;
    double e = 0;
    for (int k = 1; k <= j->n_weights; k++)
        for (int i = 0; i < q->size[k]; i++) {
            /* each connection once: from below */
            double f = get(q->p, j->bias[k - 1], i);
            for (int h = 0; h < q->size[k - 1]; h++)
                f += shown(q, k - 1, s[k - 1], h) *
                     get(q->p, j->weight[k - 1], (int64_t)h * q->size[k] + i);
            e += 0.5 * s[k][i] * s[k][i] - shown(q, k, s[k], i) * f;
        }
    return e;
}

/* Row m of the job: s[0] is its input, dense again where the job has it as CSR. */
static void load_sample(const problem *q, int m, double **s, double *y) {
    const eqp_layered_job *j = q->job;
    const int L = j->n_weights;
    for (int k = 1; k <= L; k++)
        for (int i = 0; i < q->size[k]; i++)
            s[k][i] = get(q->p, j->state[k - 1], (int64_t)m * q->size[k] + i);
    for (int i = 0; i < q->size[L]; i++) y[i] = get(q->p, j->y, (int64_t)m * q->size[L] + i);
    for (int i = 0; i < q->size[0]; i++) s[0][i] = get(q->p, q->dense, (int64_t)m * q->size[0] + i);
}

/* Room for the states of one sample, layer by layer. */
static double **sample_space(const problem *q) {
    double **s = keep((size_t)(q->job->n_weights + 1) * sizeof *s);
    for (int k = 0; k <= q->job->n_weights; k++) s[k] = keep((size_t)q->size[k] * sizeof(double));
    return s;
}

/* --- relaxation --- */

/* Layers and batches: either side of 8 and 16 lanes, and more than two vectors. */
static const int SIZES[] = {1, 7, 8, 9, 15, 16, 17, 31, 33};
#define N_SIZES ((int)(sizeof SIZES / sizeof SIZES[0]))

/* A network in which a layer of SIZES[s] units meets others: depth and neighbours vary with s. */
static void shape(int s, int32_t *size, int *L) {
    const int n = SIZES[s], other = SIZES[(s + 4) % N_SIZES];
    *L = 1 + s % 3;
    size[0] = n, size[1] = *L == 1 ? other : n, size[2] = *L == 2 ? n : other, size[3] = n;
}

/* A sample stops in time, and no earlier than its tolerance says. */
static void check_ending(const problem *q, const config *c, int m) {
    const double residual = get(q->p, q->job->residual, m);
    check(q->job->steps[m] >= 1 && q->job->steps[m] <= q->job->n_free_steps, "steps",
          q->job->steps[m], q->job->n_free_steps);
    check(residual >= 0, "residual >= 0", residual, 0);
    check(c->tol < 0 || q->job->steps[m] == q->job->n_free_steps || residual <= c->tol * (1 + 1e-5),
          "a stopped sample is at rest", residual, c->tol);
}

/* Relaxation of one case against the twin, and its energy, which may not rise.
 *     s          which size, network and number of samples
 *     beta       of the one phase: 0 free, else nudged towards y */
static void relax_case(const precision *p, int s, const config *c, double beta, int csr) {
    int32_t size[4];
    int L;
    shape(s, size, &L);
    const int rows = SIZES[(s + 2) % N_SIZES]; /* TILE_ROWS is 24: below and above it */
    problem one = make(c, p, L, size, rows, 0, 0.5, csr),
            three = make(c, p, L, size, rows, 0, 0.5, csr);
    problem start = make(c, p, L, size, rows, 0, 0.5, csr); /* the twin's, untouched by kernels */
    one.job->beta = three.job->beta = start.job->beta = beta;
    /* a sample may not depend on the samples beside it, nor on threads */
    const int status = relax(&one, 1);
    check(status == EQP_OK && relax(&three, 3) == EQP_OK, "relax status", status, EQP_OK);
    check_finite(&one);
    check_same(&one, &three, 0, "relax: 3 threads, bit for bit");

    double **now = sample_space(&one), **next = sample_space(&one), **got = sample_space(&one);
    double *y = keep((size_t)size[L] * sizeof *y);
    for (int m = 0; m < rows; m++) {
        load_sample(&start, m, now, y);
        const double before = energy(&start, now);
        check_ending(&one, c, m);
        /* as many steps as the kernel took: when to stop is not the twin's to say */
        for (int n = 0; n < one.job->steps[m]; n++) twin_step(&start, now, next, y);
        load_sample(&one, m, got, y);
        for (int k = 1; k <= L; k++) {
            int i = 0;
            while (i < size[k] && fabs(got[k][i] - now[k][i]) <= p->near * (1 + fabs(now[k][i])))
                i++;
            check(i == size[k], "state against the twin", got[k][i % size[k]], now[k][i % size[k]]);
        }
        /* the field with rho' is an energy's gradient, which small steps descend (equations 1.4) */
        if (c->dynamics && c->prime && beta == 0)
            check(energy(&one, got) <= before + 1e-6, "energy falls", energy(&one, got), before);
    }
    release();
}

/* Case i at size s: seven of the discrete map, three of Euler steps with rho'. */
static config relax_config(int s, int i) {
    if (i >= 7)
        return (config){.dynamics = 1,
                        .act = (int[]){TANH, SIGMOID, SHIFTED_SIGMOID}[i - 7],
                        .out_act = TANH,
                        .prime = 1,
                        .schedule = i % 3,
                        .dt = 0.2,
                        .tol = -1};
    /* all activations, at hidden and output layers in other combinations, in all orders */
    return (config){.act = i % N_ACT,
                    .out_act = (i + s) % N_ACT,
                    .schedule = (i + s) % 3,
                    .inside = i >> 1 & 1,
                    .dt = i % 3 ? 1 : 0.5,
                    .in_act = i == 5 ? SHIFTED_SIGMOID : IDENTITY,
                    .gains = i % 4 == 1,
                    .tol = i & 2 ? 1e-3 : -1};
}

/* All sizes and cases, dense and CSR, free and nudged. */
static void relax_cases(const precision *p) {
    for (int s = 0; s < N_SIZES; s++)
        for (int i = 0; i < 10; i++) {
            const config c = relax_config(s, i);
            for (int form = 0; form < 4; form++) {
                snprintf(where, sizeof where, "%s %s relax size %d case %d%s%s", eqp_isa(), p->name,
                         SIZES[s], i, form & 1 ? " csr" : "", form & 2 ? " nudged" : "");
                relax_case(p, s, &c, form & 2 ? 0.3 : 0, form & 1);
            }
        }
}

/* --- training --- */

/* The plain map, and Euler steps of a smooth network. */
#define DISCRETE .act = SHIFTED_SIGMOID, .out_act = SHIFTED_SIGMOID, .dt = 1
#define EULER    .dynamics = 1, .act = TANH, .out_act = TANH, .dt = 0.3
/* Every rule, with dynamics, optimisers and starts spread over them. */
static const config RULES[] = {
    /* second phases whose samples do not meet */
    {"ep", EP, DISCRETE, .tol = -1},
    {"ep, centered, adam, weights", EP, DISCRETE, .centered = 1, .optimizer = ADAM, .row_weight = 1,
     .schedule = 1, .tol = -1},
    {"ep, euler, momentum, signs, particles", EP, EULER, .prime = 1, .optimizer = MOMENTUM,
     .signs = 1, .particles = 1, .tol = -1},
    {"ep, nesterov, input activation, tol", EP, DISCRETE, .optimizer = NESTEROV,
     .in_act = SHIFTED_SIGMOID, .tol = 1e-3},
    {"ep, cross-entropy", EP, .act = TANH, .out_act = IDENTITY, .dt = 0.5, .cost = 1, .centered = 1,
     .tol = -1},
    /* step by step */
    {"continual", CONTINUAL, DISCRETE, .tol = -1},
    {"continual, euler, input activation", CONTINUAL, EULER, .in_act = SHIFTED_SIGMOID,
     .row_weight = 1, .tol = -1},
    {"vector field", VECTOR_FIELD, DISCRETE, .back = 1, .optimizer = ADAM, .tol = -1},
    {"vector field, euler, centered", VECTOR_FIELD, EULER, .back = 1, .centered = 1, .tol = -1},
    {"continual vector field", CONTINUAL_VF, DISCRETE, .back = 1, .tol = -1},
    /* held outputs */
    {"clamped sweep", CLAMPED_SWEEP, DISCRETE, .schedule = 1, .tol = -1},
    {"contrastive", CONTRASTIVE, DISCRETE, .tol = -1},
    {"coupled", COUPLED, EULER, .prime = 1, .tol = -1},
    /* no nudged steps: the ends are copies of what other threads have relaxed */
    {"ep, no nudged steps", EP, DISCRETE, .idle = 1, .tol = -1},
    {"continual, no nudged steps", CONTINUAL, DISCRETE, .idle = 1, .tol = -1},
    {"continual vector field, no nudged steps", CONTINUAL_VF, DISCRETE, .back = 1, .idle = 1,
     .tol = -1},
    /* exact gradients, from BPTT_CASE on */
    {"bptt", BPTT, DISCRETE, .tol = -1},
    {"bptt, euler, adam, weights", BPTT, EULER, .prime = 1, .schedule = 1, .optimizer = ADAM,
     .row_weight = 1, .tol = -1},
    {"bptt, own feedback, momentum", BPTT, .act = SIGMOID, .out_act = TANH, .dt = 0.5, .back = 1,
     .schedule = 1, .optimizer = MOMENTUM, .cost = 1, .tol = -1},
    {"recurrent backprop, particles", RECURRENT_BACKPROP, DISCRETE, .schedule = 1, .particles = 1,
     .tol = -1},
    {"recurrent backprop, euler, own feedback, tol", RECURRENT_BACKPROP, EULER, .prime = 1,
     .back = 1, .tol = 1e-2},
    {"implicit", IMPLICIT, DISCRETE, .particles = 1, .tol = -1},
    {"implicit, euler, own feedback, adam", IMPLICIT, EULER, .prime = 1, .back = 1,
     .optimizer = ADAM, .row_weight = 1, .tol = -1},
};
#define N_RULES   ((int)(sizeof RULES / sizeof RULES[0]))
#define BPTT_CASE 16 /* where the exact gradients begin */

/* The same job trained by the scalar kernels. */
static problem baseline(const config *c, const precision *p, int L, const int32_t *size, int rows,
                        int batch, double fill) {
    const char *chosen = eqp_isa(); /* put back at the end */
    eqp_select_isa("scalar");
    problem q = make(c, p, L, size, rows, batch, fill, 0);
    check(train(&q, 1) == EQP_OK, "train status of scalar", 1, 0);
    eqp_select_isa(chosen);
    return q;
}

/* Training of one case: instruction sets, numbers of threads and forms of the input against each
 * other.
 *     one, three    the job on 1 and on 3 threads      csr    the same inputs as CSR
 *     scalar        the plain C kernels: one lane, no fused products */
static void train_case(const config *c, const precision *p, int L, const int32_t *size, int rows,
                       int batch) {
    for (int dense = 0; dense < 2; dense++) {
        /* above and below DENSE_SHARE of input.c: register tiles, and lists of nonzeros */
        const double fill = dense ? 0.9 : 0.2;
        problem one = make(c, p, L, size, rows, batch, fill, 0),
                three = make(c, p, L, size, rows, batch, fill, 0);
        problem csr = make(c, p, L, size, rows, batch, fill, 1);
        const int status = train(&one, 1);
        check(status == EQP_OK && train(&three, 3) == EQP_OK && train(&csr, 1) == EQP_OK,
              "train status", status, EQP_OK);
        check_finite(&one);
        /* of the free phase: a cost, and how many samples are right */
        check(isfinite(one.job->loss[0]) && one.job->loss[0] >= 0, "loss", one.job->loss[0], 0);
        check(one.job->loss[1] >= 0 && one.job->loss[1] <= rows, "right answers", one.job->loss[1],
              rows);
        /* samples and batches, whatever the rule */
        check(one.job->counts[2] == rows && one.job->counts[3] == (rows + batch - 1) / batch,
              "counts", (double)one.job->counts[2], rows);
        check_same(&one, &three, 0, "train: 3 threads, bit for bit");
        check_counts(&one, &three, "train: counts of 3 threads");
        check_same(&one, &csr, 0, "train: CSR, bit for bit");
        check_counts(&one, &csr, "train: counts of CSR");
        const problem scalar = baseline(c, p, L, size, rows, batch, fill);
        /* with a tolerance, a rounding may cost a sample a step */
        if (c->tol < 0) check_same(&scalar, &one, p->parity, "train: instruction sets agree");
        release();
    }
}

/* Every rule at every size; large batches; inner weights that do not fit a core's cache. */
static void train_cases(const precision *p) {
    for (int r = 0; r < N_RULES; r++) {
        for (int s = 0; s < N_SIZES; s++) {
            int32_t size[4];
            int L;
            shape(s, size, &L);
            snprintf(where, sizeof where, "%s %s train %s, size %d", eqp_isa(), p->name,
                     RULES[r].name, SIZES[s]);
            /* batches that divide the samples, and that leave a shorter last one */
            train_case(&RULES[r], p, L, size, 13, s % 2 ? 5 : 1 + s);
        }
        /* more than 32 samples a batch: a second group of bits in the masks of input.c */
        snprintf(where, sizeof where, "%s %s train %s, batch 33", eqp_isa(), p->name,
                 RULES[r].name);
        train_case(&RULES[r], p, 2, (int32_t[]){9, 7, 3}, 40, 33);
        /* inner weights too large for the split by samples */
        snprintf(where, sizeof where, "%s %s train %s, wide", eqp_isa(), p->name, RULES[r].name);
        /* where columns are split at all: EP, its continual form, and what walks in reverse */
        if (r < 6 || RULES[r].rule >= BPTT)
            train_case(&RULES[r], p, 3, (int32_t[]){17, 257, 200, 3}, 5, 3);
    }
}

/* --- wrong jobs --- */

/* Units of the network whose jobs are spoilt. */
static const int32_t SMALL[] = {5, 4, 3};

/* One wrong field in an otherwise good job. */
#define WRONG(train_it, rule_index, change, wanted)                                            \
    do {                                                                                       \
        problem q = make(&RULES[rule_index], p, 2, SMALL, 6, train_it ? 4 : 0, 0.5, 0);        \
        eqp_layered_job *j = q.job;                                                            \
        (void)j;                                                                               \
        change;                                                                                \
        const int got = train_it ? train(&q, 1) : relax(&q, 1);                                \
        check(got == (wanted), train_it ? "train: " #change : "relax: " #change, got, wanted); \
        release();                                                                             \
    } while (0)

/* What relaxation (t 0) and training (t 1) refuse alike. */
static void both_wrong(const precision *p, int t) {
    WRONG(t, 0, (void)j, EQP_OK); /* as it was made, it runs */
    /* arrays that are missing */
    WRONG(t, 0, j->size = NULL, EQP_E_NULL);
    WRONG(t, 0, j->weight = NULL, EQP_E_NULL);
    WRONG(t, 0, j->bias = NULL, EQP_E_NULL);
    WRONG(t, 0, j->weight[1] = NULL, EQP_E_NULL);
    WRONG(t, 0, j->bias[0] = NULL, EQP_E_NULL);
    WRONG(t, 0, j->x = NULL, EQP_E_NULL);
    /* CSR that is only begun: neither indices nor data */
    WRONG(t, 0, j->indptr = (int64_t *)keep(7 * 8), EQP_E_NULL);
    WRONG(t, 0, j->barrier = NULL, EQP_E_NULL);
    /* sizes and counts; none of a thing is fine */
    WRONG(t, 0, j->n_weights = 0, EQP_E_SIZE);
    WRONG(t, 0, j->n_weights = -1, EQP_E_SIZE);
    WRONG(t, 0, j->n_weights = EQP_MAX_WEIGHTS + 1, EQP_E_SIZE);
    WRONG(t, 0, j->n_rows = -1, EQP_E_SIZE);
    WRONG(t, 0, j->n_rows = 0, EQP_OK);
    WRONG(t, 0, q.size[1] = 0, EQP_E_SIZE);
    WRONG(t, 0, q.size[2] = -3, EQP_E_SIZE);
    WRONG(t, 0, j->n_free_steps = -1, EQP_E_SIZE);
    WRONG(t, 0, j->n_free_steps = 0, EQP_OK);
    WRONG(t, 0, j->n_nudged_steps = -1, EQP_E_SIZE);
    /* codes below and above those there are */
    for (int bad = 0; bad < 2; bad++) {
        const int code = bad ? -1 : 99;
        WRONG(t, 0, j->dynamics = code, EQP_E_OPTION);
        WRONG(t, 0, j->schedule = code, EQP_E_OPTION);
        WRONG(t, 0, j->activation = code, EQP_E_OPTION);
        WRONG(t, 0, j->out_activation = code, EQP_E_OPTION);
        WRONG(t, 0, j->input_activation = code, EQP_E_OPTION);
        WRONG(t, 0, j->cost = code, EQP_E_OPTION);
    }
}

/* No job, and threads that cannot be. */
static void wrong_calls(const precision *p) {
    const kernel all[] = {p->relax_scratch, p->relax, p->train_scratch, p->train};
    for (int i = 0; i < 4; i++)
        check(all[i](NULL, 0, 1) == EQP_E_NULL, "no job", all[i](NULL, 0, 1), EQP_E_NULL);
    for (int i = 0; i < 4; i++) {
        /* none, fewer than none, a thread below and one beyond those there are */
        static const int calls[][2] = {{0, 0}, {0, -1}, {-1, 2}, {2, 2}}; /* thread, n_threads */
        problem q = make(&RULES[0], p, 2, SMALL, 6, 4, 0.5, 0);
        /* dispatch refuses before a kernel looks into its job */
        for (int f = 0; f < 4; f++) {
            const int got = all[f](q.job, calls[i][0], calls[i][1]);
            check(got == EQP_E_SIZE, "thread or n_threads out of range", got, EQP_E_SIZE);
        }
        release();
    }
}

/* What only relaxation needs. */
static void wrong_relaxations(const precision *p) {
    WRONG(0, 0, j->schedule = 3, EQP_E_OPTION);
    WRONG(0, 0, j->schedule = 2, EQP_OK); /* layer after layer: relaxation only */
    WRONG(0, 0, j->state = NULL, EQP_E_NULL);
    WRONG(0, 0, j->steps = NULL, EQP_E_NULL);
    WRONG(0, 0, j->residual = NULL, EQP_E_NULL);
    WRONG(0, 0, (j->beta = 1, j->y = NULL), EQP_E_NULL); /* a nudge towards nothing */
}

/* What only training needs, and what each rule cannot run. */
static void wrong_trainings(const precision *p) {
    WRONG(1, 0, j->schedule = 3, EQP_E_OPTION);
    WRONG(1, 0, j->schedule = 2, EQP_E_OPTION);
    WRONG(1, 0, j->gain = keep(2 * sizeof(double)), EQP_E_OPTION);
    WRONG(1, 0, j->y = NULL, EQP_E_NULL);
    WRONG(1, 0, j->rate = NULL, EQP_E_NULL);
    WRONG(1, 0, j->bias_rate = NULL, EQP_E_NULL);
    WRONG(1, 0, j->loss = NULL, EQP_E_NULL);
    WRONG(1, 0, j->counts = NULL, EQP_E_NULL);
    WRONG(1, 0, j->order = NULL, EQP_E_NULL);
    WRONG(1, 0, j->batch_size = 0, EQP_E_SIZE);
    WRONG(1, 0, j->batch_size = -4, EQP_E_SIZE);
    WRONG(1, 0, j->beta = 0, EQP_E_OPTION);
    /* rules and optimisers that are not, and their memory */
    WRONG(1, 0, j->rule = 10, EQP_E_OPTION);
    WRONG(1, 0, j->rule = -1, EQP_E_OPTION);
    WRONG(1, 0, j->optimizer = 4, EQP_E_OPTION);
    WRONG(1, 0, j->optimizer = -1, EQP_E_OPTION);
    WRONG(1, 0, j->optimizer = MOMENTUM, EQP_E_NULL);
    WRONG(1, 1, j->second = NULL, EQP_E_NULL);
    /* continual rules: one phase, plain steps; the vector field: weights of its own */
    WRONG(1, 5, j->centered = 1, EQP_E_OPTION);
    WRONG(1, 5, j->weight_decay = 0.1, EQP_E_OPTION);
    /* independent feedback that is not there, or not all of it */
    WRONG(1, 7, j->back = NULL, EQP_E_NULL);
    WRONG(1, 7, j->back[1] = NULL, EQP_E_NULL);
    WRONG(1, BPTT_CASE, j->beta = 0, EQP_OK); /* nothing is nudged */
    /* exact gradients: no second phase, and for bptt a record within the free one */
    WRONG(1, BPTT_CASE, j->centered = 1, EQP_E_OPTION);
    WRONG(1, BPTT_CASE, j->state = j->weight, EQP_E_OPTION);
    /* K: at least a step, and no more than the free phase has; the implicit rule needs none */
    WRONG(1, BPTT_CASE, j->n_nudged_steps = 0, EQP_E_SIZE);
    WRONG(1, BPTT_CASE, j->n_nudged_steps = j->n_free_steps, EQP_OK);
    WRONG(1, BPTT_CASE, j->n_nudged_steps = j->n_free_steps + 1, EQP_E_SIZE);
    WRONG(1, BPTT_CASE + 3, j->n_nudged_steps = 0, EQP_E_SIZE);
    WRONG(1, BPTT_CASE + 5, j->n_nudged_steps = 0, EQP_OK);
}

/* Identity units with unit weights: I - J is singular, exactly; no weight may have moved. */
static void singular_systems(const precision *p) {
    for (int threads = 1; threads <= 3; threads += 2) {
        problem q = make(&RULES[BPTT_CASE + 5], p, 2, (int32_t[]){2, 1, 1}, 6, 4, 0.5, 0);
        /* J has the eigenvalue 1: out = hidden, hidden = out */
        q.job->activation = q.job->out_activation = IDENTITY;
        put(p, q.job->weight[1], 0, 1);
        const int got = train(&q, threads);
        check(got == EQP_E_SINGULAR && get(p, q.job->weight[1], 0) == 1, "singular", got,
              EQP_E_SINGULAR);
        release();
    }
}

/* Rule r with one input that is no number: it must say so, and leave the weights finite. */
static void bad_input(const precision *p, int r, double bad, int n_threads) {
    snprintf(where, sizeof where, "%s %s %s with input %g", eqp_isa(), p->name, RULES[r].name, bad);
    problem q = make(&RULES[r], p, 2, SMALL, 6, 4, 0.5, 0);
    put(p, (void *)(uintptr_t)q.job->x, 2 * SMALL[0] + 1, bad);
    const int got = train(&q, n_threads);
    if (isinf(bad)) {
        /* An infinite input can leave saturated, hence finite, states; the update then spoils the
         * weights (inf * 0). Refusing such inputs is the caller's part; here only memory and
         * agreement are checked. */
        check(got == EQP_OK || got == EQP_E_DIVERGED, "status", got, EQP_E_DIVERGED);
    } else {
        check(got == EQP_E_DIVERGED, "status", got, EQP_E_DIVERGED);
        if (RULES[r].rule != CONTINUAL_VF) { /* C-VF moves its weights before it knows */
            q.n_out = 0; /* compare parameters only: states and losses may be anything */
            for (int k = 0; k < 2; k++) {
                output(&q, q.job->weight[k], (int64_t)SMALL[k] * SMALL[k + 1]);
                output(&q, q.job->bias[k], SMALL[k + 1]);
            }
            check_finite(&q);
        }
    }
    release();
}

/* Every job that must be refused, with its status. */
static void wrong_jobs(const precision *p) {
    snprintf(where, sizeof where, "%s %s wrong job", eqp_isa(), p->name);
    wrong_calls(p);
    both_wrong(p, 0);
    both_wrong(p, 1);
    wrong_relaxations(p);
    wrong_trainings(p);
    singular_systems(p);
    for (int t = 0; t < 2; t++)
        for (int none = 0; none < 2; none++) {
            problem q = make(&RULES[0], p, 2, SMALL, 6, t ? 4 : 0, 0.5, 0);
            wrong_scratch(&q, t, none);
            release();
        }
    const double bad[] = {NAN, INFINITY, -INFINITY};
    for (int i = 0; i < 3; i++)
        for (int r = 0; r < N_RULES; r++) bad_input(p, r, bad[i], 1 + 2 * (i % 2));
}

/* All of the above in one precision. */
static void test(const precision *p) {
    relax_cases(p);
    train_cases(p);
    wrong_jobs(p);
}

/* Names of instruction sets and texts of statuses. */
static void dispatch(void) {
    strcpy(where, "dispatch");
    /* an unknown name changes nothing, and says so */
    check(eqp_select_isa("abacus") == EQP_E_OPTION, "unknown instruction set",
          eqp_select_isa("abacus"), EQP_E_OPTION);
    check(strcmp(eqp_status_text(-1), "unknown status") == 0 &&
              strcmp(eqp_status_text(EQP_N_STATUS), "unknown status") == 0,
          "text of an unknown status", 0, 1);
    /* no code without a text */
    for (int s = 0; s < EQP_N_STATUS; s++)
        check(strlen(eqp_status_text(s)) > 0, "text of a status", s, 0);
}

int main(void) {
    const int tested = every_isa(PRECISIONS, test);
    dispatch();
    return verdict("layered", tested);
}
