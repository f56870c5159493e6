/* test_graph.c - the graph kernels without Python: every instruction set against the first, any
 * number of threads to the bit, scratch full of NaN, wrong jobs. Their numbers are held to the
 * NumPy twin in tests/test_graph_kernels.py.
 *
 * Letters: harness.h, but K layers and C connections as in core/jobs.h, c a connection, and
 *
 *     how     0: relaxation, else the place in RULES of the rule that trains
 *     f       a row of CONNECTION */
#include "core/eqprop.h"
#define JOB eqp_graph_job
#define DENSE_ONLY
#include "harness.h"

/* Both precisions, with what their results may differ by between instruction sets. */
static const precision PRECISIONS[] = {
    {"f32", sizeof(float), 1e-5, eqp_graph_relax_scratch_f32, eqp_graph_relax_f32,
     eqp_graph_train_scratch_f32, eqp_graph_train_f32, 1e-5},
    {"f64", sizeof(double), 1e-11, eqp_graph_relax_scratch_f64, eqp_graph_relax_f64,
     eqp_graph_train_scratch_f64, eqp_graph_train_f64, 1e-11},
};

/* The network: stride and padding; max and average pooling; a skip, a lateral connection, dense
 * ones from maps, one with a way back of its own; channels on either side of a vector. 7 samples in
 * batches of 3: the last has one, so that two of three threads have none. */
enum { K = 5, C = 8, ROWS = 7, BATCH = 3 };
/* channels, height, width of each layer */
static const int32_t SHAPE[K * 3] = {2, 9, 6, 17, 5, 3, 3, 3, 2, 19, 1, 1, 3, 1, 1};
/* below, above, kernel, stride, padding, pool, window, own way back */
static const int32_t CONNECTION[C * 8] = {
    0, 1, 3, 2, 1, 0, 1, 0, /* 9 x 6 -> 5 x 3 */
    1, 2, 2, 1, 1, 1, 2, 0, /* 5 x 3 -> 6 x 4, pooled 3 x 2 */
    2, 3, 0, 1, 0, 0, 1, 1, /* a map flat, and a way back of its own */
    1, 2, 2, 1, 1, 2, 2, 0, /* beside the second one: means */
    3, 3, 0, 1, 0, 0, 1, 0, /* lateral */
    0, 3, 0, 1, 0, 0, 1, 0, /* a skip from the input */
    3, 4, 0, 1, 0, 0, 1, 0, /* to the output */
    2, 4, 0, 1, 0, 0, 1, 0, /* a skip to it */
};

/* Units of layer k. */
static int64_t units(const int32_t *shape, int k) {
    return (int64_t)shape[3 * k] * shape[3 * k + 1] * shape[3 * k + 2];
}

/* A copy, which a test may spoil. */
static void *copied(const void *from, size_t bytes) { return memcpy(keep(bytes), from, bytes); }

/* The rules with a second phase that graphs serve, by their codes in layered/rules.h; the first
 * place is the relaxation's. */
enum { HOWS = 7 };
static const int RULES[HOWS] = {0, 0, 1, 2, 3, 5, 6};

/* The same job whenever it is called with the same `how`: one synchronous pass, the plain map with
 * a nudge inside, weights, biases and states noted for comparison. Particles while it trains. */
static problem make(const precision *p, int how) {
    problem q = {.p = p, .job = keep(sizeof(eqp_graph_job))};
    eqp_graph_job *j = q.job;
    int64_t size[K];
    seed = 7;
    int32_t *shape = copied(SHAPE, sizeof SHAPE), *activation = keep(K * sizeof *activation),
            *pass = keep(K * sizeof *pass);
    /* x acts as it is; a shifted sigmoid above */
    for (int k = 0; k < K; k++) activation[k] = k ? 1 : 0, size[k] = units(shape, k);
    /* the input never moves; all others in pass 0 */
    pass[0] = -1;
    void **weight = keep(C * sizeof *weight), **back = keep(C * sizeof *back);
    for (int c = 0; c < C; c++) {
        const int32_t *f = CONNECTION + 8 * c;
        /* shapes of the weights: (O, C, k, k), or (n below, n above) */
        const int64_t n = f[2] ? (int64_t)shape[3 * f[1]] * shape[3 * f[0]] * f[2] * f[2]
                               : size[f[0]] * size[f[1]];
        weight[c] = output(&q, reals(p, n, -0.15, 0.15), n);
        back[c] = f[7] ? output(&q, reals(p, n, -0.15, 0.15), n) : NULL;
    }
    void **bias = keep(K * sizeof *bias), **state = keep(K * sizeof *state);
    for (int k = 1; k < K; k++) {
        bias[k - 1] = output(&q, reals(p, shape[3 * k], -0.1, 0.1), shape[3 * k]);
        state[k - 1] = output(&q, reals(p, ROWS * size[k], 0, 1), ROWS * size[k]);
    }
    *j = (eqp_graph_job){.n_layers = K,
                         .n_connections = C,
                         .shape = shape,
                         .activation = activation,
                         .pass = pass,
                         .n_passes = 1,
                         .connection = copied(CONNECTION, sizeof CONNECTION),
                         .weight = weight,
                         .back = back,
                         .bias = bias,
                         .nudge_inside = 1,
                         .cost_factor = 1,
                         .dt = 1,
                         .x = reals(p, ROWS * size[0], 0, 1),
                         .y = reals(p, ROWS * size[K - 1], 0, 1),
                         .n_rows = ROWS,
                         .beta = 0.2,
                         .n_free_steps = 6,
                         .n_nudged_steps = 4,
                         .over_relaxation = 1,
                         .tol_free = -1,
                         .tol_nudged = -1,
                         .state = state,
                         .steps = keep(ROWS * sizeof(int32_t)),
                         .residual = keep(ROWS * p->bytes)};
    j->barrier = keep(sizeof *j->barrier);
    /* a permutation: 3 and 7 have no common divisor */
    int64_t *order = keep(ROWS * sizeof *order);
    double *rate = keep(C * sizeof *rate), *bias_rate = keep(K * sizeof *bias_rate);
    for (int m = 0; m < ROWS; m++) order[m] = (3 * m + 1) % ROWS;
    for (int c = 0; c < C; c++) rate[c] = 0.01;
    for (int k = 0; k < K; k++) bias_rate[k] = 0.05;
    /* a relaxation reads none of what follows */
    if (!how) return q;
    j->order = order, j->rate = rate, j->bias_rate = bias_rate;
    j->loss = keep(2 * sizeof(double)), j->counts = keep(4 * sizeof(int64_t));
    j->batch_size = BATCH, j->rule = RULES[how];
    j->centered = j->rule == 0 || j->rule == 2 || j->rule == 6; /* where there is such a thing */
    return q;
}

/* The relaxation and every rule by one to three threads: the bits of one thread, and the numbers of
 * the first instruction set. */
static void cases(const precision *p) {
    const char *isa = eqp_isa();
    for (int how = 0; how < HOWS; how++) {
        eqp_select_isa(eqp_isa_name(0));
        /* the yardstick for other instruction sets: the first one, one thread */
        problem first = make(p, how);
        snprintf(where, sizeof where, "%s %s %d", eqp_isa(), p->name, how);
        int status = (how ? train : relax)(&first, 1);
        check(status == EQP_OK, "status", status, EQP_OK);
        eqp_select_isa(isa);
        problem alone = make(p, how);
        /* `alone` is run by the first turn */
        for (int n_threads = 1; n_threads <= 3; n_threads++) {
            problem q = n_threads == 1 ? alone : make(p, how);
            snprintf(where, sizeof where, "%s %s %s by rule %d, %d threads", isa, p->name,
                     how ? "train" : "relax", RULES[how], n_threads);
            status = (how ? train : relax)(&q, n_threads);
            check(status == EQP_OK, "status", status, EQP_OK);
            check_same(&alone, &q, 0, "the bits of one thread");
            /* twelve updates of a continual rule: a trajectory (kernels/tolerances.py) */
            check_same(&first, &q, (how > 1 ? 10 : 1) * p->parity, "the first set's numbers");
        }
        release();
    }
}

/* A job that is good but for `change` must be refused with the status `wanted` by two threads. */
#define WRONG(how, change, wanted)                       \
    do {                                                 \
        problem q = make(p, how);                        \
        eqp_graph_job *j = q.job;                        \
        change;                                          \
        const int got_ = ((how) ? train : relax)(&q, 2); \
        check(got_ == (wanted), #change, got_, wanted);  \
        release();                                       \
    } while (0)
/* A field that is const to kernels: make has kept the array, a test may write to it. */
#define SPOILT(field) ((int32_t *)(uintptr_t)j->field)

/* Wrong jobs, of the relaxation and of rules, each with one field spoilt that the checks look at;
 * at the end inputs that are no number. */
static void wrong_jobs(const precision *p) {
    snprintf(where, sizeof where, "%s %s wrong job", eqp_isa(), p->name);
    WRONG(0, j->x = NULL, EQP_E_NULL);
    WRONG(0, j->y = NULL, EQP_E_NULL);
    WRONG(0, j->shape = NULL, EQP_E_NULL);
    WRONG(0, j->pass = NULL, EQP_E_NULL);
    WRONG(0, j->weight[2] = NULL, EQP_E_NULL);
    WRONG(0, j->back[2] = NULL, EQP_E_NULL);
    WRONG(0, j->bias[1] = NULL, EQP_E_NULL);
    WRONG(0, j->state = NULL, EQP_E_NULL);
    WRONG(0, j->n_layers = 1, EQP_E_SIZE);
    WRONG(0, j->n_layers = EQP_MAX_LAYERS + 1, EQP_E_SIZE);
    WRONG(0, j->n_connections = EQP_MAX_CONNECTIONS + 1, EQP_E_SIZE);
    WRONG(0, SPOILT(connection)[1] = K, EQP_E_SIZE);
    WRONG(0, SPOILT(connection)[0] = -1, EQP_E_SIZE);
    WRONG(0, SPOILT(connection)[2] = 5, EQP_E_SIZE);
    WRONG(0, SPOILT(connection)[4] = 2, EQP_E_SIZE);
    WRONG(0, SPOILT(connection)[5] = 3, EQP_E_SIZE);
    WRONG(0, SPOILT(connection)[6] = 2, EQP_E_SIZE);
    WRONG(0, SPOILT(connection)[7] = 1, EQP_E_SIZE);                /* no way back to the input */
    WRONG(0, SPOILT(connection)[8 + 4] = INT32_MAX, EQP_E_SIZE); /* 2 padding overflows */
    WRONG(0, SPOILT(shape)[4] = 0, EQP_E_SIZE);
    WRONG(0, SPOILT(shape)[4] = 1 << 30, EQP_E_SIZE);
    WRONG(0, SPOILT(pass)[1] = -2, EQP_E_SIZE);
    WRONG(0, SPOILT(pass)[1] = j->n_passes, EQP_E_SIZE);
    WRONG(0, SPOILT(activation)[1] = 99, EQP_E_OPTION);
    WRONG(0, j->dynamics = 2, EQP_E_OPTION);
    WRONG(0, j->cost = 2, EQP_E_OPTION);
    WRONG(0, j->dt = 0, EQP_E_SIZE);
    WRONG(0, j->n_free_steps = -1, EQP_E_SIZE);
    WRONG(1, j->rate = NULL, EQP_E_NULL);
    WRONG(1, j->order = NULL, EQP_E_NULL);
    WRONG(1, j->loss = NULL, EQP_E_NULL);
    WRONG(1, j->batch_size = 0, EQP_E_SIZE);
    WRONG(1, j->beta = 0, EQP_E_SIZE);
    WRONG(1, j->over_relaxation = 0, EQP_E_SIZE);
    WRONG(2, j->weight_decay = 0.1, EQP_E_OPTION);
    WRONG(1, j->rule = 4, EQP_E_OPTION);
    WRONG(1, j->gain = keep(K * sizeof(double)), EQP_E_OPTION);
    WRONG(1, j->rule = 7, EQP_E_OPTION);
    WRONG(1, j->rule = 1, EQP_E_OPTION); /* there is no centered one */
    WRONG(2, j->optimizer = 1, EQP_E_OPTION);
    WRONG(3, j->readout = 1, EQP_E_OPTION);
    WRONG(1, j->optimizer = 4, EQP_E_OPTION);
    WRONG(1, j->optimizer = 1, EQP_E_NULL);
    WRONG(1, (SPOILT(activation)[1] = 0, put(p, (void *)(uintptr_t)j->x, 3, NAN)), EQP_E_DIVERGED);
}

/* All of the above in one precision. */
static void test(const precision *p) {
    cases(p);
    wrong_jobs(p);
    for (int trains = 0; trains < 2; trains++)
        for (int none = 0; none < 2; none++) {
            /* scratch that is too small, and none */
            problem q = make(p, trains);
            wrong_scratch(&q, trains, none);
            release();
        }
}

int main(void) { return verdict("graph", every_isa(PRECISIONS, test)); }
