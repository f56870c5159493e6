/* test_layered.c - the layered kernels without Python: sizes either side of the vector widths,
 * every rule, dense and CSR inputs, 1 and 3 threads, wrong jobs. Build with sanitizers (Makefile).
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

/* Codes as in jobs.h and rules.h. */
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
    N_ACT
};
enum { SGD, MOMENTUM, NESTEROV, ADAM };

typedef struct {
    const char *name;
    int rule, dynamics, schedule, act, out_act, in_act, prime, inside, cost, centered, optimizer,
        back, particles, row_weight, signs;
    double dt, tol;
} config;

typedef struct {
    const precision *p;
    eqp_layered_job *job;
    int32_t *size;
    int64_t rows;
    struct {
        void *a;
        int64_t n;
    } out[8 * EQP_MAX_WEIGHTS]; /* everything that the kernel writes and we compare */
    int n_out;
} problem;

/* An array of the problem that is compared after a run. */
static void *output(problem *q, void *a, int64_t n) {
    q->out[q->n_out].a = a;
    q->out[q->n_out++].n = n;
    return a;
}

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

/* The same numbers for the same arguments, whatever the instruction set; `share` of the inputs are
 * not zero. */
static problem make(const config *c, const precision *p, int L, const int32_t *sizes, int rows,
                    int batch, double fill, int csr) {
    problem q = {.p = p, .rows = rows};
    eqp_layered_job *j = q.job = keep(sizeof *j);
    seed = 12345;
    int32_t *size = q.size = keep((size_t)(L + 1) * sizeof *size);
    memcpy(size, sizes, (size_t)(L + 1) * sizeof *size);
    j->n_weights = L;
    j->size = size;
    j->weight = keep((size_t)L * sizeof(void *));
    j->bias = keep((size_t)L * sizeof(void *));
    if (c->back) j->back = keep((size_t)L * sizeof(void *));
    for (int k = 0; k < L; k++) {
        const double r = 0.7 / sqrt(size[k]);
        const int64_t n = (int64_t)size[k] * size[k + 1];
        j->weight[k] = output(&q, reals(p, n, -r, r), n);
        j->bias[k] = output(&q, reals(p, size[k + 1], -0.1, 0.2), size[k + 1]);
        if (k && c->back) j->back[k] = output(&q, reals(p, n, -r, r), n);
    }
    j->dynamics = c->dynamics, j->schedule = c->schedule;
    j->activation = c->act, j->out_activation = c->out_act, j->input_activation = c->in_act;
    j->prime_hidden = j->prime_output = c->prime;
    j->nudge_inside = c->inside, j->cost = c->cost, j->cost_factor = 1, j->dt = c->dt;

    inputs(p, j, rows, size[0], fill, csr);
    j->y = reals(p, (int64_t)rows * size[L], 0, 1);
    if (c->row_weight) j->row_weight = reals(p, rows, 0.5, 1.5);
    j->n_rows = rows;
    j->over_relaxation = 1;
    j->n_free_steps = 9, j->n_nudged_steps = 5, j->tol_free = j->tol_nudged = c->tol;

    /* relaxation starts from these; training keeps them as particles when asked to */
    j->state = keep((size_t)L * sizeof(void *));
    for (int k = 0; k < L; k++)
        j->state[k] =
            output(&q, reals(p, (int64_t)rows * size[k + 1], 0, 1), (int64_t)rows * size[k + 1]);
    j->steps = keep((size_t)rows * sizeof *j->steps);
    j->residual = output(&q, reals(p, rows, 0, 0), rows);
    j->barrier = keep(sizeof *j->barrier);
    if (!batch) return q;

    if (!c->particles) j->state = NULL;
    int64_t *order = keep((size_t)rows * sizeof *order);
    for (int m = 0; m < rows; m++) order[m] = rows - 1 - m;
    j->order = order;
    j->beta = 0.5, j->rule = c->rule, j->batch_size = batch, j->centered = c->centered,
    j->optimizer = c->optimizer;
    double *rate = keep(2 * (size_t)L * sizeof *rate);
    for (int k = 0; k < 2 * L; k++) rate[k] = c->optimizer == ADAM ? 0.002 : 0.05 / (k % L + 1);
    j->rate = rate, j->bias_rate = rate + L;
    j->momentum = 0.9, j->beta1 = 0.9, j->beta2 = 0.999;
    j->epsilon = 1e-3; /* not small: Adam divides by |gradient| + epsilon, which would magnify
                          differences of rounding */
    if (c->optimizer != SGD) j->velocity = moments(&q, c, L, size), j->weight_decay = 1e-3;
    if (c->optimizer == ADAM) j->second = moments(&q, c, L, size);
    if (c->signs) {
        int8_t *sign = keep((size_t)rows);
        for (int i = 0; i < rows; i++) sign[i] = i % 2 ? -1 : 1;
        j->sign = sign;
    }
    j->loss = keep(2 * sizeof(double));
    j->counts = keep(4 * sizeof(int64_t));
    return q;
}

/* --- running it --- */

/* The status all threads agree on. Asks for scratch, gives exactly that much, and runs the job on
 * n_threads threads. */
static int run(kernel scratch, kernel f, eqp_layered_job *j, int n_threads) {
    int status[MOST_THREADS];
    const int refused = run_threads(scratch, f, j, n_threads, status);
    if (refused) return refused;
    for (int t = 1; t < n_threads; t++)
        check(status[t] == status[0], "threads agree on the status", status[t], status[0]);
    return status[0];
}

static int train(problem *q, int n_threads) {
    return run(q->p->train_scratch, q->p->train, q->job, n_threads);
}
static int relax(problem *q, int n_threads) {
    return run(q->p->relax_scratch, q->p->relax, q->job, n_threads);
}

/* No result may be NaN or infinite. */
static void check_finite(const problem *q) {
    for (int o = 0; o < q->n_out; o++) {
        int64_t i = 0;
        while (i < q->out[o].n && isfinite(get(q->p, q->out[o].a, i))) i++;
        if (!check(i == q->out[o].n, "finite", i < q->out[o].n ? get(q->p, q->out[o].a, i) : 0, 0))
            return;
    }
}

/* Outputs of b against those of a, within tol of the largest entry of each array; tol 0: the same
 * bits. An optimiser's moments are small, but made of differences of states of order 1 and carry
 * their rounding: unit 0.1 at least.
 */
static void check_same(const problem *a, const problem *b, double tol, const char *what) {
    for (int o = 0; o < a->n_out; o++) {
        double top = 0.1, u = 0, v = 0;
        int good = 1;
        for (int64_t i = 0; i < a->out[o].n; i++) top = fmax(top, fabs(get(a->p, a->out[o].a, i)));
        for (int64_t i = 0; good && i < a->out[o].n; i++) {
            u = get(a->p, a->out[o].a, i), v = get(b->p, b->out[o].a, i);
            good = fabs(u - v) <= tol * top;
        }
        if (!check(good, what, v, u)) return;
    }
    if (tol != 0) return;
    for (int i = 0; a->job->loss && i < 2; i++)
        check(a->job->loss[i] == b->job->loss[i], what, b->job->loss[i], a->job->loss[i]);
    for (int i = 0; a->job->counts && i < 4; i++)
        check(a->job->counts[i] == b->job->counts[i], what, (double)b->job->counts[i],
              (double)a->job->counts[i]);
}

/* --- a naive twin, in double --- */

/* The twin, one unit at a time and in double: equations 1 and 2 written out. */
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
    default: return x;
    }
}

static double rho_prime(int act, double x) {
    switch (act) {
    case SHIFTED_SIGMOID: return 4 * rho(act, x) * (1 - rho(act, x));
    case TANH: return 1 - tanh(x) * tanh(x);
    case SIGMOID: return rho(act, x) * (1 - rho(act, x));
    default: return 1; /* the others are not used with prime here */
    }
}

static double shown(const problem *q, int k, const double *s, int i) {
    const eqp_layered_job *j = q->job;
    if (k == 0) return rho(j->input_activation, s[i]);
    return j->dynamics ? rho(k == j->n_weights ? j->out_activation : j->activation, s[i]) : s[i];
}

/* Field of unit i of layer k of one sample. */
static double field(const problem *q, double **s, int k, int i) {
    const eqp_layered_job *j = q->job;
    double f = get(q->p, j->bias[k - 1], i);
    for (int h = 0; h < q->size[k - 1]; h++)
        f +=
            shown(q, k - 1, s[k - 1], h) * get(q->p, j->weight[k - 1], (int64_t)h * q->size[k] + i);
    if (k < j->n_weights)
        for (int h = 0; h < q->size[k + 1]; h++)
            f += shown(q, k + 1, s[k + 1], h) *
                 get(q->p, j->weight[k], (int64_t)i * q->size[k + 1] + h);
    return f;
}

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

static void twin_step(const problem *q, double **s, double **next, const double *y) {
    const int L = q->job->n_weights;
    const int schedule = q->job->schedule, passes = schedule == 2 ? L : 1 + schedule;
    for (int pass = 0; pass < passes; pass++) {
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
            double f = get(q->p, j->bias[k - 1], i);
            for (int h = 0; h < q->size[k - 1]; h++)
                f += shown(q, k - 1, s[k - 1], h) *
                     get(q->p, j->weight[k - 1], (int64_t)h * q->size[k] + i);
            e += 0.5 * s[k][i] * s[k][i] - shown(q, k, s[k], i) * f;
        }
    return e;
}

static void load_sample(const problem *q, int m, double **s, double *y) {
    const eqp_layered_job *j = q->job;
    const int L = j->n_weights;
    for (int k = 1; k <= L; k++)
        for (int i = 0; i < q->size[k]; i++)
            s[k][i] = get(q->p, j->state[k - 1], (int64_t)m * q->size[k] + i);
    for (int i = 0; i < q->size[L]; i++) y[i] = get(q->p, j->y, (int64_t)m * q->size[L] + i);
    for (int i = 0; i < q->size[0]; i++) s[0][i] = 0;
    if (j->x)
        for (int i = 0; i < q->size[0]; i++) s[0][i] = get(q->p, j->x, (int64_t)m * q->size[0] + i);
    else
        for (int64_t e = j->indptr[m]; e < j->indptr[m + 1]; e++)
            s[0][j->indices[e]] = get(q->p, j->data, e);
}

static double **sample_space(const problem *q) {
    double **s = keep((size_t)(q->job->n_weights + 1) * sizeof *s);
    for (int k = 0; k <= q->job->n_weights; k++) s[k] = keep((size_t)q->size[k] * sizeof(double));
    return s;
}

/* --- relaxation --- */

static const int SIZES[] = {1, 7, 8, 9, 15, 16, 17, 31, 33};
#define N_SIZES ((int)(sizeof SIZES / sizeof SIZES[0]))

static void shape(int s, int32_t *size,
                  int *L) { /* depth and neighbours vary with the size under test */
    const int n = SIZES[s], other = SIZES[(s + 4) % N_SIZES];
    *L = 1 + s % 3;
    size[0] = n, size[1] = *L == 1 ? other : n, size[2] = *L == 2 ? n : other, size[3] = n;
}

/* Relaxation of one case against the twin, and its energy, which may not rise. */
static void relax_case(const precision *p, int s, const config *c, double beta, int csr) {
    int32_t size[4];
    int L;
    shape(s, size, &L);
    const int rows = SIZES[(s + 2) % N_SIZES]; /* TILE_ROWS is 24: below and above it */
    problem one = make(c, p, L, size, rows, 0, 0.5, csr),
            three = make(c, p, L, size, rows, 0, 0.5, csr);
    problem start = make(c, p, L, size, rows, 0, 0.5, csr);
    one.job->beta = three.job->beta = start.job->beta = beta;
    const int status = relax(&one, 1);
    check(status == EQP_OK && relax(&three, 3) == EQP_OK, "relax status", status, EQP_OK);
    check_finite(&one);
    check_same(&one, &three, 0, "relax: 3 threads, bit for bit");
    double **now = sample_space(&one), **next = sample_space(&one), **got = sample_space(&one);
    double *y = keep((size_t)size[L] * sizeof *y);
    for (int m = 0; m < rows; m++) {
        load_sample(&start, m, now, y);
        const double before = energy(&start, now);
        check(one.job->steps[m] >= 1 && one.job->steps[m] <= one.job->n_free_steps, "steps",
              one.job->steps[m], one.job->n_free_steps);
        check(get(p, one.job->residual, m) >= 0, "residual >= 0", get(p, one.job->residual, m), 0);
        check(c->tol < 0 || one.job->steps[m] == one.job->n_free_steps ||
                  get(p, one.job->residual, m) <= c->tol * (1 + 1e-5),
              "a stopped sample is at rest", get(p, one.job->residual, m), c->tol);
        for (int n = 0; n < one.job->steps[m]; n++) twin_step(&start, now, next, y);
        load_sample(&one, m, got, y);
        for (int k = 1; k <= L; k++) {
            int i = 0;
            while (i < size[k] && fabs(got[k][i] - now[k][i]) <= p->near * (1 + fabs(now[k][i])))
                i++;
            check(i == size[k], "state against the twin", got[k][i % size[k]], now[k][i % size[k]]);
        }
        if (c->dynamics && c->prime && beta == 0)
            check(energy(&one, got) <= before + 1e-6, "energy falls", energy(&one, got), before);
    }
    release();
}

static void relax_cases(const precision *p) {
    for (int s = 0; s < N_SIZES; s++)
        for (int i = 0; i < 10; i++) {
            config c = {.act = i % N_ACT,
                        .out_act = (i + s) % N_ACT,
                        .schedule = (i + s) % 3,
                        .inside = i >> 1 & 1,
                        .dt = i % 3 ? 1 : 0.5,
                        .in_act = i == 5 ? SHIFTED_SIGMOID : IDENTITY,
                        .tol = i & 2 ? 1e-3 : -1};
            if (i >= 7)
                c = (config){.dynamics = 1,
                             .act = (int[]){TANH, SIGMOID, SHIFTED_SIGMOID}[i - 7],
                             .out_act = TANH,
                             .prime = 1,
                             .schedule = i % 3,
                             .dt = 0.2,
                             .tol = -1};
            for (int form = 0; form < 4; form++) {
                snprintf(where, sizeof where, "%s %s relax size %d case %d%s%s", eqp_isa(), p->name,
                         SIZES[s], i, form & 1 ? " csr" : "", form & 2 ? " nudged" : "");
                relax_case(p, s, &c, form & 2 ? 0.3 : 0, form & 1);
            }
        }
}

/* --- training --- */

#define DISCRETE .act = SHIFTED_SIGMOID, .out_act = SHIFTED_SIGMOID, .dt = 1
#define EULER    .dynamics = 1, .act = TANH, .out_act = TANH, .dt = 0.3
static const config RULES[] = {
    {.name = "ep", .rule = EP, DISCRETE, .tol = -1},
    {.name = "ep, centered, adam, weights",
     .rule = EP,
     DISCRETE,
     .centered = 1,
     .optimizer = ADAM,
     .row_weight = 1,
     .schedule = 1,
     .tol = -1},
    {.name = "ep, euler, momentum, signs, particles",
     .rule = EP,
     EULER,
     .prime = 1,
     .optimizer = MOMENTUM,
     .signs = 1,
     .particles = 1,
     .tol = -1},
    {.name = "ep, nesterov, input activation, tol",
     .rule = EP,
     DISCRETE,
     .optimizer = NESTEROV,
     .in_act = SHIFTED_SIGMOID,
     .tol = 1e-3},
    {.name = "ep, cross-entropy",
     .rule = EP,
     .act = TANH,
     .out_act = IDENTITY,
     .dt = 0.5,
     .cost = 1,
     .centered = 1,
     .tol = -1},
    {.name = "continual", .rule = CONTINUAL, DISCRETE, .tol = -1},
    {.name = "continual, euler, input activation",
     .rule = CONTINUAL,
     EULER,
     .in_act = SHIFTED_SIGMOID,
     .row_weight = 1,
     .tol = -1},
    {.name = "vector field",
     .rule = VECTOR_FIELD,
     DISCRETE,
     .back = 1,
     .optimizer = ADAM,
     .tol = -1},
    {.name = "vector field, euler, centered",
     .rule = VECTOR_FIELD,
     EULER,
     .back = 1,
     .centered = 1,
     .tol = -1},
    {.name = "continual vector field", .rule = CONTINUAL_VF, DISCRETE, .back = 1, .tol = -1},
    {.name = "clamped sweep", .rule = CLAMPED_SWEEP, DISCRETE, .schedule = 1, .tol = -1},
    {.name = "contrastive", .rule = CONTRASTIVE, DISCRETE, .tol = -1},
    {.name = "coupled", .rule = COUPLED, EULER, .prime = 1, .tol = -1},
    {.name = "bptt", .rule = BPTT, DISCRETE, .tol = -1},
    {.name = "bptt, euler, adam, weights",
     .rule = BPTT,
     EULER,
     .prime = 1,
     .schedule = 1,
     .optimizer = ADAM,
     .row_weight = 1,
     .tol = -1},
    {.name = "bptt, own feedback, momentum",
     .rule = BPTT,
     .act = SIGMOID,
     .out_act = TANH,
     .dt = 0.5,
     .back = 1,
     .schedule = 1,
     .optimizer = MOMENTUM,
     .cost = 1,
     .tol = -1},
    {.name = "recurrent backprop, particles",
     .rule = RECURRENT_BACKPROP,
     DISCRETE,
     .schedule = 1,
     .particles = 1,
     .tol = -1},
    {.name = "recurrent backprop, euler, own feedback, tol",
     .rule = RECURRENT_BACKPROP,
     EULER,
     .prime = 1,
     .back = 1,
     .tol = 1e-2},
    {.name = "implicit", .rule = IMPLICIT, DISCRETE, .particles = 1, .tol = -1},
    {.name = "implicit, euler, own feedback, adam",
     .rule = IMPLICIT,
     EULER,
     .prime = 1,
     .back = 1,
     .optimizer = ADAM,
     .row_weight = 1,
     .tol = -1},
};
#define N_RULES   ((int)(sizeof RULES / sizeof RULES[0]))
#define BPTT_CASE 13 /* where the exact gradients begin */

/* The same job trained by the scalar kernels. */
static problem baseline(const config *c, const precision *p, int L, const int32_t *size, int rows,
                        int batch, double fill) {
    const char *chosen = eqp_isa();
    eqp_select_isa("scalar");
    problem q = make(c, p, L, size, rows, batch, fill, 0);
    check(train(&q, 1) == EQP_OK, "train status of scalar", 1, 0);
    eqp_select_isa(chosen);
    return q;
}

/* Training of one case: instruction sets and numbers of threads against each other. */
static void train_case(const config *c, const precision *p, int L, const int32_t *size, int rows,
                       int batch) {
    for (int dense = 0; dense < 2; dense++) {
        const double fill = dense ? 0.9 : 0.2; /* above and below DENSE_SHARE */
        problem one = make(c, p, L, size, rows, batch, fill, 0),
                three = make(c, p, L, size, rows, batch, fill, 0);
        problem csr = make(c, p, L, size, rows, batch, fill, 1);
        const int status = train(&one, 1);
        check(status == EQP_OK && train(&three, 3) == EQP_OK && train(&csr, 1) == EQP_OK,
              "train status", status, EQP_OK);
        check_finite(&one);
        check(isfinite(one.job->loss[0]) && one.job->loss[0] >= 0, "loss", one.job->loss[0], 0);
        check(one.job->loss[1] >= 0 && one.job->loss[1] <= rows, "right answers", one.job->loss[1],
              rows);
        check(one.job->counts[2] == rows && one.job->counts[3] == (rows + batch - 1) / batch,
              "counts", (double)one.job->counts[2], rows);
        check_same(&one, &three, 0, "train: 3 threads, bit for bit");
        check_same(&one, &csr, 0, "train: CSR, bit for bit");
        const problem scalar = baseline(c, p, L, size, rows, batch, fill);
        if (c->tol < 0) check_same(&scalar, &one, p->parity, "train: instruction sets agree");
        release();
    }
}

static void train_cases(const precision *p) {
    for (int r = 0; r < N_RULES; r++) {
        for (int s = 0; s < N_SIZES; s++) {
            int32_t size[4];
            int L;
            shape(s, size, &L);
            snprintf(where, sizeof where, "%s %s train %s, size %d", eqp_isa(), p->name,
                     RULES[r].name, SIZES[s]);
            train_case(&RULES[r], p, L, size, 13, s % 2 ? 5 : 1 + s);
        }
        /* more than 32 samples a batch; inner weights too large for the split by samples */
        snprintf(where, sizeof where, "%s %s train %s, batch 33", eqp_isa(), p->name,
                 RULES[r].name);
        train_case(&RULES[r], p, 2, (int32_t[]){9, 7, 3}, 40, 33);
        snprintf(where, sizeof where, "%s %s train %s, wide", eqp_isa(), p->name, RULES[r].name);
        if (r < 6 || RULES[r].rule >= BPTT)
            train_case(&RULES[r], p, 3, (int32_t[]){17, 257, 200, 3}, 5, 3);
    }
}

/* --- wrong jobs --- */

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

static void both_wrong(const precision *p, int t) {
    WRONG(t, 0, (void)j, EQP_OK);
    WRONG(t, 0, j->size = NULL, EQP_E_NULL);
    WRONG(t, 0, j->weight = NULL, EQP_E_NULL);
    WRONG(t, 0, j->bias = NULL, EQP_E_NULL);
    WRONG(t, 0, j->weight[1] = NULL, EQP_E_NULL);
    WRONG(t, 0, j->bias[0] = NULL, EQP_E_NULL);
    WRONG(t, 0, j->x = NULL, EQP_E_NULL);
    WRONG(t, 0, j->indptr = (int64_t *)keep(7 * 8), EQP_E_NULL);
    WRONG(t, 0, j->barrier = NULL, EQP_E_NULL);
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

/* Every job that must be refused, with its status. */
static void wrong_jobs(const precision *p) {
    snprintf(where, sizeof where, "%s %s wrong job", eqp_isa(), p->name);
    const kernel all[] = {p->relax_scratch, p->relax, p->train_scratch, p->train};
    for (int i = 0; i < 4; i++)
        check(all[i](NULL, 0, 1) == EQP_E_NULL, "no job", all[i](NULL, 0, 1), EQP_E_NULL);
    both_wrong(p, 0);
    both_wrong(p, 1);
    for (int i = 0; i < 4; i++) {
        static const int calls[][2] = {{0, 0}, {0, -1}, {-1, 2}, {2, 2}}; /* thread, n_threads */
        problem q = make(&RULES[0], p, 2, SMALL, 6, 4, 0.5, 0);
        for (int f = 0; f < 4; f++) {
            const int got = all[f](q.job, calls[i][0], calls[i][1]);
            check(got == EQP_E_SIZE, "thread or n_threads out of range", got, EQP_E_SIZE);
        }
        release();
    }
    for (int t = 0; t < 2; t++) WRONG(t, 0, j->schedule = 3, EQP_E_OPTION);
    WRONG(0, 0, j->schedule = 2, EQP_OK); /* layer after layer: relaxation only */
    WRONG(1, 0, j->schedule = 2, EQP_E_OPTION);
    WRONG(0, 0, j->state = NULL, EQP_E_NULL);
    WRONG(0, 0, j->steps = NULL, EQP_E_NULL);
    WRONG(0, 0, j->residual = NULL, EQP_E_NULL);
    WRONG(0, 0, (j->beta = 1, j->y = NULL), EQP_E_NULL);
    WRONG(1, 0, j->y = NULL, EQP_E_NULL);
    WRONG(1, 0, j->rate = NULL, EQP_E_NULL);
    WRONG(1, 0, j->bias_rate = NULL, EQP_E_NULL);
    WRONG(1, 0, j->loss = NULL, EQP_E_NULL);
    WRONG(1, 0, j->counts = NULL, EQP_E_NULL);
    WRONG(1, 0, j->order = NULL, EQP_E_NULL);
    WRONG(1, 0, j->batch_size = 0, EQP_E_SIZE);
    WRONG(1, 0, j->batch_size = -4, EQP_E_SIZE);
    WRONG(1, 0, j->beta = 0, EQP_E_OPTION);
    WRONG(1, 0, j->rule = 10, EQP_E_OPTION);
    WRONG(1, 0, j->rule = -1, EQP_E_OPTION);
    WRONG(1, 0, j->optimizer = 4, EQP_E_OPTION);
    WRONG(1, 0, j->optimizer = -1, EQP_E_OPTION);
    WRONG(1, 0, j->optimizer = MOMENTUM, EQP_E_NULL);
    WRONG(1, 1, j->second = NULL, EQP_E_NULL);
    WRONG(1, 5, j->centered = 1, EQP_E_OPTION);
    WRONG(1, 5, j->weight_decay = 0.1, EQP_E_OPTION);
    WRONG(1, 7, j->back = NULL, EQP_E_NULL);
    WRONG(1, 7, j->back[1] = NULL, EQP_E_NULL);
    WRONG(1, BPTT_CASE, j->beta = 0, EQP_OK); /* nothing is nudged */
    WRONG(1, BPTT_CASE, j->centered = 1, EQP_E_OPTION);
    WRONG(1, BPTT_CASE, j->state = j->weight, EQP_E_OPTION);
    WRONG(1, BPTT_CASE, j->n_nudged_steps = 0, EQP_E_SIZE);
    WRONG(1, BPTT_CASE, j->n_nudged_steps = j->n_free_steps, EQP_OK);
    WRONG(1, BPTT_CASE, j->n_nudged_steps = j->n_free_steps + 1, EQP_E_SIZE);
    WRONG(1, BPTT_CASE + 3, j->n_nudged_steps = 0, EQP_E_SIZE);
    WRONG(1, BPTT_CASE + 5, j->n_nudged_steps = 0, EQP_OK);
    for (int threads = 1; threads <= 3;
         threads += 2) { /* identity units with unit weights: I - J is singular, exactly */
        problem q = make(&RULES[BPTT_CASE + 5], p, 2, (int32_t[]){2, 1, 1}, 6, 4, 0.5, 0);
        q.job->activation = q.job->out_activation = IDENTITY;
        put(p, q.job->weight[1], 0, 1);
        const int got = train(&q, threads);
        check(got == EQP_E_SINGULAR && get(p, q.job->weight[1], 0) == 1, "singular", got,
              EQP_E_SINGULAR);
        release();
    }

    /* scratch one byte too small, or none; inputs that are not numbers */
    for (int t = 0; t < 2; t++)
        for (int none = 0; none < 2; none++) {
            problem q = make(&RULES[0], p, 2, SMALL, 6, t ? 4 : 0, 0.5, 0);
            check((t ? p->train_scratch : p->relax_scratch)(q.job, 0, 2) == EQP_OK, "scratch size",
                  1, 0);
            q.job->scratch = none ? NULL : keep((size_t)--q.job->scratch_size);
            const int got = (t ? p->train : p->relax)(q.job, 0, 2),
                      wanted = none ? EQP_E_NULL : EQP_E_SCRATCH;
            check(got == wanted, none ? "no scratch" : "scratch too small", got, wanted);
            release();
        }
    const double bad[] = {NAN, INFINITY, -INFINITY};
    for (int i = 0; i < 3; i++)
        for (int r = 0; r < N_RULES; r++) {
            snprintf(where, sizeof where, "%s %s %s with input %g", eqp_isa(), p->name,
                     RULES[r].name, bad[i]);
            problem q = make(&RULES[r], p, 2, SMALL, 6, 4, 0.5, 0);
            put(p, (void *)(uintptr_t)q.job->x, 2 * SMALL[0] + 1, bad[i]);
            const int got = train(&q, 1 + 2 * (i % 2));
            if (i > 0) {
                /* An infinite input can leave saturated, hence finite, states; the update then
                 * spoils the weights (inf * 0). Refusing such inputs is the caller's part; here
                 * only memory and agreement are checked. */
                check(got == EQP_OK || got == EQP_E_DIVERGED, "status", got, EQP_E_DIVERGED);
                release();
                continue;
            }
            check(got == EQP_E_DIVERGED, "status", got, EQP_E_DIVERGED);
            if (RULES[r].rule != CONTINUAL_VF) { /* C-VF moves its weights before it knows */
                q.n_out = 0;
                for (int k = 0; k < 2; k++) {
                    output(&q, q.job->weight[k], (int64_t)SMALL[k] * SMALL[k + 1]);
                    output(&q, q.job->bias[k], SMALL[k + 1]);
                }
                check_finite(&q);
            }
            release();
        }
}

int main(void) {
    int tested = 0;
    for (int i = 0; i < eqp_isa_count(); i++) {
        if (!eqp_isa_usable(i)) {
            printf("%s: built, not run: this processor lacks it\n", eqp_isa_name(i));
            continue;
        }
        check(eqp_select_isa(eqp_isa_name(i)) == EQP_OK, "select", i, 0);
        for (int r = 0; r < 2; r++) {
            const precision *p = &PRECISIONS[r];
            const long before = n_checks;
            relax_cases(p);
            train_cases(p);
            wrong_jobs(p);
            printf("%-7s %s: %ld checks\n", eqp_isa(), p->name, n_checks - before);
            fflush(stdout);
        }
        tested++;
    }
    strcpy(where, "dispatch");
    check(eqp_select_isa("abacus") == EQP_E_OPTION, "unknown instruction set",
          eqp_select_isa("abacus"), EQP_E_OPTION);
    check(strcmp(eqp_status_text(-1), "unknown status") == 0 &&
              strcmp(eqp_status_text(EQP_N_STATUS), "unknown status") == 0,
          "text of an unknown status", 0, 1);
    for (int s = 0; s < EQP_N_STATUS; s++)
        check(strlen(eqp_status_text(s)) > 0, "text of a status", s, 0);
    printf("%ld checks on %d instruction sets, %ld failures\n", n_checks, tested, n_failures);
    return n_failures || !tested ? 1 : 0;
}
