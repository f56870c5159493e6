/* test_graph.c - the graph kernels without Python: every instruction set against the first, any
 * number of threads to the bit, scratch full of NaN, wrong jobs. Their numbers are held to the
 * NumPy twin in tests/test_graph_kernels.py. */
#include "core/eqprop.h"
#define JOB eqp_graph_job
#define OWN_PROBLEM
#include "harness.h"

static const precision PRECISIONS[] = {
    {"f32", sizeof(float), 1e-5, eqp_graph_relax_scratch_f32, eqp_graph_relax_f32,
     eqp_graph_train_scratch_f32, eqp_graph_train_f32, 1e-5},
    {"f64", sizeof(double), 1e-11, eqp_graph_relax_scratch_f64, eqp_graph_relax_f64,
     eqp_graph_train_scratch_f64, eqp_graph_train_f64, 1e-11},
};

/* Stride and padding; max and average pooling; a skip, a lateral connection, dense ones from maps,
 * one with a way back of its own; channels on either side of a vector. */
enum { K = 5, C = 8, ROWS = 7, BATCH = 3 };
static const int32_t SHAPE[K * 3] = {2, 9, 6, 17, 5, 3, 3, 3, 2, 19, 1, 1, 3, 1, 1};
static const int32_t CONNECTION[C * 8] = {
    0, 1, 3, 2, 1, 0, 1, 0, /* 9 x 6 -> 5 x 3 */
    1, 2, 2, 1, 1, 1, 2, 0, /* 5 x 3 -> 6 x 4, pooled 3 x 2 */
    2, 3, 0, 1, 0, 0, 1, 1, /* */
    1, 2, 2, 1, 1, 2, 2, 0, /* */
    3, 3, 0, 1, 0, 0, 1, 0, /* */
    0, 3, 0, 1, 0, 0, 1, 0, /* */
    3, 4, 0, 1, 0, 0, 1, 0, /* */
    2, 4, 0, 1, 0, 0, 1, 0,
};

typedef struct {
    eqp_graph_job *job;
    int32_t *shape, *connection, *activation, *pass;
    int64_t size[K], weights[C];
} graph_problem;

static int64_t units(const int32_t *shape, int k) {
    return (int64_t)shape[3 * k] * shape[3 * k + 1] * shape[3 * k + 2];
}

static void *copied(const void *from, size_t bytes) { return memcpy(keep(bytes), from, bytes); }

/* The rules that have a second phase, by their codes in jobs; 0: relaxation. */
enum { HOWS = 7 };
static const int RULES[HOWS] = {0, 0, 1, 2, 3, 5, 6};

static graph_problem make(const precision *p, int trains, uint64_t start) {
    graph_problem q = {.job = keep(sizeof(eqp_graph_job))};
    eqp_graph_job *j = q.job;
    seed = start;
    q.shape = copied(SHAPE, sizeof SHAPE);
    q.connection = copied(CONNECTION, sizeof CONNECTION);
    q.activation = keep(K * sizeof(int32_t));
    q.pass = keep(K * sizeof(int32_t));
    for (int k = 0; k < K; k++) q.activation[k] = k ? 1 : 0;
    q.pass[0] = -1;
    void **weight = keep(C * sizeof *weight), **back = keep(C * sizeof *back);
    for (int k = 0; k < K; k++) q.size[k] = units(q.shape, k);
    for (int c = 0; c < C; c++) {
        const int32_t *f = q.connection + 8 * c;
        q.weights[c] = f[2] ? (int64_t)q.shape[3 * f[1]] * q.shape[3 * f[0]] * f[2] * f[2]
                            : q.size[f[0]] * q.size[f[1]];
        weight[c] = reals(p, q.weights[c], -0.3, 0.3);
        back[c] = f[7] ? reals(p, q.weights[c], -0.3, 0.3) : NULL;
    }
    void **bias = keep(K * sizeof *bias), **state = keep(K * sizeof *state);
    for (int k = 1; k < K; k++) {
        bias[k - 1] = reals(p, q.shape[3 * k], -0.1, 0.1);
        state[k - 1] = reals(p, ROWS * q.size[k], 0, 1);
    }
    *j = (eqp_graph_job){.n_layers = K,
                         .n_connections = C,
                         .shape = q.shape,
                         .activation = q.activation,
                         .pass = q.pass,
                         .n_passes = 1,
                         .connection = q.connection,
                         .weight = weight,
                         .back = back,
                         .bias = bias,
                         .nudge_inside = 1,
                         .cost_factor = 1,
                         .dt = 1,
                         .x = reals(p, ROWS * q.size[0], 0, 1),
                         .y = reals(p, ROWS * q.size[K - 1], 0, 1),
                         .n_rows = ROWS,
                         .beta = 0.2,
                         .n_free_steps = 6,
                         .n_nudged_steps = 4,
                         .over_relaxation = 1,
                         .tol_free = -1,
                         .tol_nudged = -1};
    j->barrier = keep(sizeof *j->barrier);
    if (!trains) {
        j->state = state;
        j->steps = keep(ROWS * sizeof(int32_t));
        j->residual = keep(ROWS * p->bytes);
        return q;
    }
    int64_t *order = keep(ROWS * sizeof *order);
    double *rate = keep(C * sizeof *rate), *bias_rate = keep(K * sizeof *bias_rate);
    for (int m = 0; m < ROWS; m++) order[m] = (3 * m + 1) % ROWS;
    for (int c = 0; c < C; c++) rate[c] = 0.1;
    for (int k = 0; k < K; k++) bias_rate[k] = 0.05;
    j->order = order, j->rate = rate, j->bias_rate = bias_rate;
    j->loss = keep(2 * sizeof(double)), j->counts = keep(4 * sizeof(int64_t));
    j->batch_size = BATCH, j->rule = RULES[trains];
    j->centered = j->rule == 0 || j->rule == 2 || j->rule == 6; /* where there is such a thing */
    return q;
}

/* All that a job writes, one behind the other. */
static int64_t results(const precision *p, const graph_problem *q, int trains, double *out) {
    int64_t n = 0;
    for (int c = 0; c < C && trains; c++)
        for (int64_t i = 0; i < q->weights[c]; i++) {
            out[n++] = get(p, q->job->weight[c], i);
            if (q->job->back[c]) out[n++] = get(p, q->job->back[c], i);
        }
    for (int k = 1; k < K; k++)
        for (int64_t i = 0; i < (trains ? q->shape[3 * k] : ROWS * q->size[k]); i++)
            out[n++] = get(p, (trains ? q->job->bias : q->job->state)[k - 1], i);
    return n;
}

static double first_set[2][HOWS][16384], own[16384], found[16384];

static void cases(const precision *p, int real_, int is_first) {
    for (int trains = 0; trains < HOWS; trains++)
        for (int n_threads = 1; n_threads <= 3; n_threads++) {
            graph_problem q = make(p, trains, 7);
            int status[MOST_THREADS];
            snprintf(where, sizeof where, "%s %s %s by rule %d, %d threads", eqp_isa(), p->name,
                     trains ? "train" : "relax", RULES[trains], n_threads);
            const int refused = run_threads(trains ? p->train_scratch : p->relax_scratch,
                                            trains ? p->train : p->relax, q.job, n_threads, status);
            check(refused == EQP_OK && status[0] == EQP_OK, "status", refused, EQP_OK);
            const int64_t n = results(p, &q, trains, found);
            double *wanted = first_set[real_][trains];
            if (is_first && n_threads == 1) memcpy(wanted, found, (size_t)n * sizeof *wanted);
            if (n_threads == 1) memcpy(own, found, (size_t)n * sizeof *own);
            double worst = 0;
            int same = 1;
            for (int64_t i = 0; i < n; i++) {
                same &= found[i] == own[i];
                const double off = fabs(found[i] - wanted[i]);
                worst = off <= worst ? worst : off; /* NaN stays */
            }
            check(same, "the bits of one thread", 0, 1);
            check(worst < p->parity, "the first set's numbers", worst, p->parity);
            release();
        }
}

#define WRONG(trains, change, wanted)                                         \
    do {                                                                      \
        graph_problem q = make(p, trains, 7);                                 \
        eqp_graph_job *j = q.job;                                             \
        int status[MOST_THREADS];                                             \
        change;                                                               \
        int got = run_threads((trains) ? p->train_scratch : p->relax_scratch, \
                              (trains) ? p->train : p->relax, j, 2, status);  \
        if (got == EQP_OK) got = status[0] ? status[0] : status[1];           \
        check(got == (wanted), #change, got, wanted);                         \
        release();                                                            \
    } while (0)

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
    WRONG(0, q.connection[1] = K, EQP_E_SIZE);
    WRONG(0, q.connection[0] = -1, EQP_E_SIZE);
    WRONG(0, q.connection[2] = 5, EQP_E_SIZE);
    WRONG(0, q.connection[4] = 2, EQP_E_SIZE);
    WRONG(0, q.connection[5] = 3, EQP_E_SIZE);
    WRONG(0, q.connection[6] = 2, EQP_E_SIZE);
    WRONG(0, q.shape[4] = 0, EQP_E_SIZE);
    WRONG(0, q.activation[1] = 99, EQP_E_OPTION);
    WRONG(0, j->dynamics = 2, EQP_E_OPTION);
    WRONG(0, j->cost = 2, EQP_E_OPTION);
    WRONG(0, j->dt = 0, EQP_E_SIZE);
    WRONG(0, j->n_free_steps = -1, EQP_E_SIZE);
    WRONG(1, j->rate = NULL, EQP_E_NULL);
    WRONG(1, j->order = NULL, EQP_E_NULL);
    WRONG(1, j->loss = NULL, EQP_E_NULL);
    WRONG(1, j->batch_size = 0, EQP_E_SIZE);
    WRONG(1, j->beta = 0, EQP_E_SIZE);
    WRONG(1, j->rule = 4, EQP_E_OPTION);
    WRONG(1, j->rule = 7, EQP_E_OPTION);
    WRONG(1, j->rule = 1, EQP_E_OPTION); /* there is no centered one */
    WRONG(2, j->optimizer = 1, EQP_E_OPTION);
    WRONG(3, j->readout = 1, EQP_E_OPTION);
    WRONG(1, j->optimizer = 4, EQP_E_OPTION);
    WRONG(1, j->optimizer = 1, EQP_E_NULL);
    WRONG(1, (q.activation[1] = 0, put(p, (void *)(uintptr_t)j->x, 3, NAN)), EQP_E_DIVERGED);
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
            const long before = n_checks;
            cases(&PRECISIONS[r], r, tested == 0);
            wrong_jobs(&PRECISIONS[r]);
            printf("%-7s %s: %ld checks\n", eqp_isa(), PRECISIONS[r].name, n_checks - before);
        }
        tested++;
    }
    printf("graph: %ld checks on %d instruction sets, %ld failures\n", n_checks, tested,
           n_failures);
    return n_failures || !tested ? 1 : 0;
}
