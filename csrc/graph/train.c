/* train.c - equilibrium propagation in networks of any shape (equations 4, 1.7): many mini-batches
 * in one call.
 *
 * Threads share the samples of a batch while they relax, and the units of each connection while
 * weights are stepped: sums over samples run in their order whatever the split is. Two barriers a
 * batch. */
#include "graph/graph.h"

/* One batch; rows are np[k] apart. */
typedef struct {
    int B;
    real *low[2][EQP_MAX_LAYERS]; /* B x np[k]: what the layers show at the nudged end, at the
                                     other; of the input: [0] */
    real *high[2]
              [EQP_MAX_LAYERS]; /* the same times the samples' weights, the other's with a minus */
    real *both[EQP_MAX_LAYERS]; /* their sum */
    int32_t *where[2][EQP_MAX_CONNECTIONS]; /* B x np[above]; from the input: [0] */
    real *start[EQP_MAX_LAYERS];            /* a tile's free states; the thread's own */
    double *cost;                           /* B */
    int32_t *right, *steps;                 /* B; 3 x B: of the free phase, of the nudged ones */
    int32_t *bad;                           /* n_threads */
    real *row, *moved, *v1, *v2;            /* rows of weights, with moments: the thread's own */
} batch;

static int64_t largest_unit(const graph *net) {
    int64_t most = 0;
    for (int c = 0; c < net->n_links; c++) {
        const edge *link = &net->links[c];
        const int64_t n = link->dense ? net->np[link->above] : link->runs * link->ld;
        most = n > most ? n : most;
    }
    for (int k = 1; k <= net->L; k++) most = net->np[k] > most ? net->np[k] : most;
    return most + PAD;
}

static void train_plan(graph *net, tile *tile, batch *batch, const eqp_graph_job *job, int thread,
                       int n_threads, arena *arena) {
    graph_plan(net, job, n_threads, 1, arena);
    tile_plan(net, tile, tile_rows_of(net), thread, arena);
    const int T = n_threads;
    const int64_t B = batch->B = job->batch_size < job->n_rows ? job->batch_size : (int)job->n_rows;
    for (int k = 0; k <= net->L; k++) {
        for (int e = 0; e < 2; e++) {
            batch->low[e][k] = take(arena, B * net->np[k], sizeof(real));
            batch->high[e][k] = take(arena, k ? B * net->np[k] : 0, sizeof(real));
        }
        batch->both[k] = take(arena, k ? B * net->np[k] : 0, sizeof(real));
        batch->start[k] =
            take_own(arena, (int64_t)tile->rows * net->np[k], sizeof(real), thread, T);
    }
    for (int c = 0; c < net->n_links; c++)
        for (int e = 0; e < 2; e++) {
            const int64_t n = net->links[c].pool == POOL_MAX ? net->np[net->links[c].above] : 0;
            batch->where[e][c] = take(arena, B * n, sizeof(int32_t));
        }
    batch->cost = take(arena, B, sizeof(double));
    batch->right = take(arena, B, sizeof(int32_t));
    batch->steps = take(arena, 3 * B, sizeof(int32_t));
    batch->bad = take(arena, T, sizeof(int32_t));
    const int64_t unit = largest_unit(net);
    batch->row = take_own(arena, unit, sizeof(real), thread, T);
    batch->moved = take_own(arena, unit, sizeof(real), thread, T);
    batch->v1 = take_own(arena, unit, sizeof(real), thread, T);
    batch->v2 = take_own(arena, unit, sizeof(real), thread, T);
}

static real weight_of(const eqp_graph_job *job, int64_t row) {
    return job->row_weight ? ((const real *)job->row_weight)[row] : 1;
}

/* Cost (equations 2) and argmax of sample s of the tile, the batch's sample m. */
static void score(const graph *net, const tile *tile, batch *batch, int s, int m, real weight) {
    const eqp_graph_job *job = net->job;
    const int n = net->n[net->L];
    const real *out = tile->state[net->L] + (int64_t)s * net->np[net->L],
               *y = tile->y + (int64_t)s * net->np[net->L];
    int best = 0, target = 0;
    double cost = 0, sum = 0;
    for (int i = 1; i < n; i++) {
        if (out[i] > out[best]) best = i;
        if (y[i] > y[target]) target = i;
    }
    if (job->cost == COST_CROSS_ENTROPY) {
        for (int i = 0; i < n; i++) sum += exp((double)(out[i] - out[best]));
        for (int i = 0; i < n; i++)
            cost -= (double)y[i] * ((double)(out[i] - out[best]) - log(sum));
    } else {
        for (int i = 0; i < n; i++) cost += 0.5 * (double)(out[i] - y[i]) * (double)(out[i] - y[i]);
    }
    batch->cost[m] = job->cost_factor * cost * (double)weight;
    batch->right[m] = best == target;
}

/* What end e of the contrast shows, of the tile's samples, the batch's m0.. */
static void keep_end(const graph *net, tile *tile, batch *batch, int e, int rows, int m0,
                     const int64_t *order) {
    for (int c = 0; c < net->n_links; c++) {
        if (!tile->where[c]) continue;
        tile_where(net, tile, rows, c);
        const int64_t n = net->np[net->links[c].above];
        memcpy(batch->where[e][c] + m0 * n, tile->where[c], (size_t)(rows * n) * sizeof(int32_t));
    }
    for (int k = 0; k <= net->L; k++)
        for (int s = 0; s < rows; s++) {
            const int64_t np = net->np[k], m = m0 + s;
            const real *shown = tile->shown[k] + s * np;
            copy_reals(batch->low[e][k] + m * np, shown, np);
            if (!k) continue;
            const real weight = weight_of(net->job, order ? order[s] : m);
            real *high = batch->high[e][k] + m * np;
            for (int64_t i = 0; i < np; i++) high[i] = (e ? -weight : weight) * shown[i];
        }
}

static void copy_states(const graph *net, real *const *from, real *const *to, int rows) {
    for (int k = 1; k <= net->L; k++) copy_reals(to[k], from[k], (int64_t)rows * net->np[k]);
}

/* The thread's samples [first, first + rows) of a batch: both phases. Returns whether all states
 * are numbers. */
static int relax_samples(const graph *net, tile *tile, batch *batch, int first, int rows,
                         const int64_t *order, double beta, int learns) {
    const eqp_graph_job *job = net->job;
    for (int s = 0; s < rows; s++) {
        tile_load(net, tile, s, order[s]);
        for (int k = 1; k <= net->L; k++) {
            real *state = tile->state[k] + (int64_t)s * net->np[k];
            if (job->state)
                to_pixels(net, k, (const real *)job->state[k - 1] + order[s] * net->n[k], state);
            else
                memset(state, 0, (size_t)net->np[k] * sizeof(real));
        }
    }
    tile_drive(net, tile, rows);
    int32_t *steps = batch->steps + first;
    const asked free = {
        rows, 0, job->tol_free, job->dt * job->over_relaxation, job->n_free_steps, steps, NULL};
    if (!tile_relax(net, tile, &free)) return 0;
    for (int s = 0; s < rows; s++) {
        score(net, tile, batch, s, first + s, weight_of(job, order[s]));
        for (int k = 1; k <= net->L && job->state; k++)
            to_channels(net, k, tile->state[k] + (int64_t)s * net->np[k],
                        (real *)job->state[k - 1] + order[s] * net->n[k]);
    }
    if (!learns) return 1;
    if (job->centered)
        copy_states(net, tile->state, batch->start, rows);
    else
        keep_end(net, tile, batch, 1, rows, first, order);
    for (int e = 0; e <= job->centered; e++) {
        if (e) copy_states(net, batch->start, tile->state, rows);
        const asked nudged = {rows,    e ? -beta : beta,    job->tol_nudged,
                              job->dt, job->n_nudged_steps, steps + (e + 1) * batch->B,
                              NULL};
        if (!tile_relax(net, tile, &nudged)) return 0;
        keep_end(net, tile, batch, e, rows, first, order);
    }
    return 1;
}

/* --- contrast and update --- */

/* n parameters of the caller from their contrast `change`, with their moments. */
static void step_row(batch *batch, real *w, const real *change, real *velocity, real *second,
                     int64_t n, const stepper *step) {
    copy_reals(batch->moved, w, n);
    if (velocity) copy_reals(batch->v1, velocity, n);
    if (second) copy_reals(batch->v2, second, n);
    for (int64_t i = 0; i < n; i += VL)
        vstore(batch->moved + i, vsteps(step, vload(batch->moved + i), vload(change + i),
                                        batch->v1 + i, batch->v2 + i));
    copy_reals(w, batch->moved, n);
    if (velocity) copy_reals(velocity, batch->v1, n);
    if (second) copy_reals(second, batch->v2, n);
}

/* to += v times the runs of weights that unit `unit` of the map above has with the map `low`. */
static void correlate_unit(const edge *link, real v, int64_t unit, const int32_t *where,
                           const real *low, real *to) {
    const int64_t line = (int64_t)link->PW_ * link->C, pixel = unit / link->O;
    const int window = link->window, places = link->pool == POOL_MAX ? 1 : window * window;
    const vec a = vset(v / (real)places);
    for (int i = 0; i < places; i++) {
        const int q = link->pool == POOL_MAX ? where[unit] : i;
        const int64_t y = (pixel / link->w * window + q / window) * link->stride,
                      x = (pixel % link->w * window + q % window) * link->stride;
        const real *from = low + y * line + x * link->C;
        for (int64_t r = 0; r < link->runs; r++)
            for (int64_t j = 0; j < link->ld; j += VL) {
                real *sum = to + r * link->ld + j;
                vstore(sum, vfma(a, vload(from + r * line + j), vload(sum)));
            }
    }
}

/* delta of channels [o0, o1) of a convolution. */
static void contrast_conv(const graph *net, const tile *tile, batch *batch, int c, int rows,
                          int64_t o0, int64_t o1) {
    const edge *link = &net->links[c];
    const int64_t size = link->runs * link->ld, np_low = net->np[link->below],
                  np_high = net->np[link->above];
    const int from_input = link->below == 0, pixels = link->h * link->w;
    memset(link->delta + o0 * size, 0, (size_t)((o1 - o0) * size) * sizeof(real));
    for (int m = 0; m < rows; m++)
        for (int e = 0; e < 2 - from_input; e++) {
            const real *low = pad_map(link, batch->low[e][link->below] + m * np_low, tile->padded);
            const real *high =
                (from_input ? batch->both : batch->high[e])[link->above] + m * np_high;
            const int32_t *where = link->pool == POOL_MAX ? batch->where[e][c] + m * np_high : NULL;
            for (int64_t o = o0; o < o1; o++)
                for (int p = 0; p < pixels; p++) {
                    const int64_t unit = (int64_t)p * link->O + o;
                    if (high[unit] != 0)
                        correlate_unit(link, high[unit], unit, where, low, link->delta + o * size);
                }
        }
}

/* delta of rows [i0, i1) of a dense connection. */
static void contrast_dense(const graph *net, const batch *batch, int c, int rows, int64_t i0,
                           int64_t i1) {
    static const real zeros[PW];
    const edge *link = &net->links[c];
    const int64_t np_low = net->np[link->below], np_high = net->np[link->above];
    const int from_input = link->below == 0;
    for (int64_t i = i0; i < i1; i += MR_MAX) {
        const int mr = (int)(i1 - i < MR_MAX ? i1 - i : MR_MAX);
        for (int p = 0; p < n_panels(link->O); p++) {
            operand terms[2];
            const int n_terms = 2 - from_input;
            for (int e = 0; e < n_terms; e++)
                terms[e] = (operand){batch->low[e][link->below] + i,
                                     (from_input ? batch->both : batch->high[e])[link->above] +
                                         (int64_t)p * PW,
                                     1,
                                     np_low,
                                     np_high,
                                     rows};
            gemm_tile(mr, panel_width(link->O, p), zeros, 0,
                      link->delta + i * np_high + (int64_t)p * PW, np_high, terms, n_terms);
        }
    }
}

/* The contrast of unit o of connection c in the caller's order, and where its weights lie there. */
static int64_t callers_row(const graph *net, const batch *batch, int c, int64_t o, int64_t *at) {
    const edge *link = &net->links[c];
    if (link->dense) {
        const int64_t N = net->n[link->above];
        const real *delta = link->delta + o * net->np[link->above];
        for (int64_t j = 0; j < N; j++) batch->row[unit_at(net, link->above, j)] = delta[j];
        *at = unit_at(net, link->below, o) * N;
        return N;
    }
    const int k = link->k;
    const real *delta = link->delta + o * link->runs * link->ld;
    for (int i = 0; i < link->C; i++)
        for (int dy = 0; dy < k; dy++)
            for (int dx = 0; dx < k; dx++)
                batch->row[(int64_t)(i * k + dy) * k + dx] =
                    delta[dy * link->ld + (int64_t)dx * link->C + i];
    *at = o * link->C * k * k;
    return (int64_t)link->C * k * k;
}

static real *moment(void **arrays, int i, int64_t at) {
    return arrays ? (real *)arrays[i] + at : NULL;
}

/* Steps the thread's share of connection c, and packs it again. */
static void update_link(graph *net, tile *tile, batch *batch, int c, int rows, const stepper *step,
                        int thread) {
    const eqp_graph_job *job = net->job;
    const edge *link = &net->links[c];
    const int64_t units = link->dense ? link->run : link->O;
    const int64_t o0 = share(units, thread, net->n_threads),
                  o1 = share(units, thread + 1, net->n_threads);
    if (link->dense)
        contrast_dense(net, batch, c, rows, o0, o1);
    else
        contrast_conv(net, tile, batch, c, rows, o0, o1);
    for (int64_t o = o0; o < o1; o++) {
        int64_t at;
        const int64_t n = callers_row(net, batch, c, o, &at);
        step_row(batch, (real *)job->weight[c] + at, batch->row, moment(job->velocity, c, at),
                 moment(job->second, c, at), n, step);
        pack_unit(net, c, o);
    }
}

/* Steps the bias of layer k. */
static void update_bias_of(graph *net, batch *batch, int k, int rows, const stepper *step) {
    const eqp_graph_job *job = net->job;
    const int i = net->n_links + k - 1, C = net->C[k];
    memset(batch->row, 0, (size_t)C * sizeof(real));
    for (int m = 0; m < rows; m++) {
        const real *both = batch->both[k] + (int64_t)m * net->np[k];
        for (int p = 0; p < net->P[k]; p++)
            for (int c = 0; c < C; c++) batch->row[c] += both[(int64_t)p * C + c];
    }
    step_row(batch, job->bias[k - 1], batch->row, moment(job->velocity, i, 0),
             moment(job->second, i, 0), C, step);
    pack_bias(net, k);
}

static void update(graph *net, tile *tile, batch *batch, int rows, double scale, int64_t number,
                   int thread) {
    const eqp_graph_job *job = net->job;
    for (int c = 0; c < net->n_links; c++) {
        const stepper step = EQP_STEPPER(job, job->rate[c], job->weight_decay, scale, number);
        update_link(net, tile, batch, c, rows, &step, thread);
    }
    for (int k = 1; k <= net->L; k++) {
        const stepper step = EQP_STEPPER(job, job->bias_rate[k - 1], 0, scale, number);
        if (k % net->n_threads == thread) update_bias_of(net, batch, k, rows, &step);
    }
}

/* Sums of both ends, of samples [lo, hi). */
static void add_ends(const graph *net, batch *batch, int lo, int hi) {
    for (int k = 1; k <= net->L; k++)
        for (int64_t i = (int64_t)lo * net->np[k]; i < (int64_t)hi * net->np[k]; i++)
            batch->both[k][i] = batch->high[0][k][i] + batch->high[1][k][i];
}

static int train_check(const eqp_graph_job *job) {
    const int status = graph_check(job);
    if (status) return status;
    if (!job->y || !job->order || !job->rate || !job->bias_rate || !job->loss || !job->counts)
        return EQP_E_NULL;
    if (job->batch_size < 1 || job->beta == 0) return EQP_E_SIZE;
    if (job->optimizer < 0 || job->optimizer >= N_OPTIMIZERS) return EQP_E_OPTION;
    if ((job->optimizer != OPT_SGD && !job->velocity) ||
        (job->optimizer == OPT_ADAM && !job->second))
        return EQP_E_NULL;
    return EQP_OK;
}

int EQP_NAME(graph_train_scratch)(eqp_graph_job *job, int thread, int n_threads) {
    const int status = train_check(job);
    if (status) return status;
    graph net;
    tile tile;
    batch batch;
    arena count = {NULL, 0};
    train_plan(&net, &tile, &batch, job, thread, n_threads, &count);
    job->scratch_size = count.used;
    return EQP_OK;
}

/* Thread 0 adds up what a batch has seen, sample after sample. */
static void count_batch(const eqp_graph_job *job, const batch *batch, int rows, int learns) {
    for (int m = 0; m < rows; m++) {
        job->loss[0] += batch->cost[m];
        job->loss[1] += batch->right[m];
        job->counts[0] += batch->steps[m];
        for (int e = 0; e <= job->centered && learns; e++)
            job->counts[1] += batch->steps[(e + 1) * batch->B + m];
    }
    job->counts[2] += rows;
    job->counts[3]++;
}

/* Trains on the job's rows in mini-batches. A batch that is not finite ends the job before its
 * update. */
int EQP_NAME(graph_train)(eqp_graph_job *job, int thread, int n_threads) {
    const int status = train_check(job);
    if (status) return status;
    if (!job->scratch || !job->barrier) return EQP_E_NULL;
    graph net;
    tile tile;
    batch batch;
    arena count = {NULL, 0}, laid = {job->scratch, 0};
    train_plan(&net, &tile, &batch, job, thread, n_threads, &count);
    if (count.used > job->scratch_size) return EQP_E_SCRATCH;
    train_plan(&net, &tile, &batch, job, thread, n_threads, &laid);
    graph_pack(&net, thread);
    const int64_t n_batches = batch.B ? (job->n_rows + batch.B - 1) / batch.B : 0;
    for (int64_t number = 0; number < n_batches; number++) {
        const int64_t *order = job->order + number * batch.B;
        const int64_t left = job->n_rows - number * batch.B;
        const int rows = (int)(left < batch.B ? left : batch.B);
        double total = 0;
        for (int m = 0; m < rows; m++) total += (double)weight_of(job, order[m]);
        const int learns = total > 0;
        const double beta = job->beta * (job->sign ? job->sign[number] : 1);
        const int lo = (int)share(rows, thread, n_threads),
                  hi = (int)share(rows, thread + 1, n_threads);
        int good = 1;
        for (int first = lo; first < hi && good; first += tile.rows) {
            const int some = hi - first < tile.rows ? hi - first : tile.rows;
            good = relax_samples(&net, &tile, &batch, first, some, order + first, beta, learns);
        }
        if (learns && good) add_ends(&net, &batch, lo, hi);
        batch.bad[thread] = !good;
        eqp_wait(job->barrier, n_threads);
        int bad = 0;
        for (int t = 0; t < n_threads; t++) bad |= batch.bad[t];
        if (bad) return EQP_E_DIVERGED;
        if (thread == 0) count_batch(job, &batch, rows, learns);
        if (learns)
            update(&net, &tile, &batch, rows, 1 / ((job->centered ? 2 : 1) * beta * total), number,
                   thread);
        eqp_wait(job->barrier, n_threads);
    }
    return EQP_OK;
}
