/* learn.c - what a batch's samples leave behind becomes a step of the weights (equations 4, 6, 13):
 * correlations of what lies at a connection's ends, summed sample after sample, and the update.
 *
 *     dense          delta (n below, n above) = sum_m low_m' high_m
 *     convolution    delta (O, k, k C) = sum_m sum_pixels high_m[pixel, o] x its window of low_m,
 *                    at the place of the maximum where maxima are pooled (equations 1.7)
 *
 * A thread owns units of each connection: rows of a dense one, channels above of a convolution. It
 * correlates, steps and packs the same ones, so that no barrier stands between. Weights of its own
 * for the way back are correlated with the roles of the layers exchanged.
 *
 * Letters: graph.h, batch.h, and
 *     back           0: weights of the way up, 1: of the way back
 *     down, across   layers that the rows and the columns of a dense matrix belong to
 *     further        contrasts are added to what is there (vector field: earlier steps)
 *     unit           a place in a map above, pixel by pixel: pixel O + o */
#include "graph/batch.h"

/* The arrays that one product of a contrast is made of; those of a connection's way back too lie as
 * the layers do, low below. */
typedef struct {
    const real *low, *high; /* B x np[below], B x np[above] */
    const int32_t *where;
} pair;

/* The pairs whose products add up to the contrast of connection c (equations 4: two ends, 6: one),
 * or of its way back; returns how many. */
static int pairs_of(const graph *net, const batch *batch, int c, int back, pair *pairs) {
    const int i = net->links[c].below, j = net->links[c].above;
    if (back) {
        /* dV = a_j(t) (s_i(t+1) - s_i(t))' (equations 6): the change is the layer's below */
        pairs[0] = (pair){batch->high[0][i], batch->low[0][j], batch->where[0][c]};
        return 1;
    }
    if (i == 0) { /* the input is the same at both ends: one product instead of two */
        const real *high = (batch->ends == 1 ? batch->high[0] : batch->both)[j];
        pairs[0] = (pair){batch->low[0][0], high, batch->where[0][c]};
        return 1;
    }
    for (int e = 0; e < batch->ends; e++)
        pairs[e] = (pair){batch->low[e][i], batch->high[e][j], batch->where[e][c]};
    return batch->ends;
}

/* to (runs x ld) += v times the window of `low`, a padded map, that unit `unit` of the map above
 * sees: at the place of its maximum, or a part of v at each place of its square. Lanes past a run
 * gather what lies behind it in the map; nobody reads them. */
static void correlate_unit(const edge *link, real v, int64_t unit, const int32_t *where,
                           const real *low, real *to) {
    const int64_t line = (int64_t)link->PW_ * link->C, pixel = unit / link->O;
    const int window = link->window, places = link->pool == POOL_MAX ? 1 : window * window;
    const vec a = vset(v / (real)places);
    for (int i = 0; i < places; i++) {
        const int q = link->pool == POOL_MAX ? where[unit] : i;
        /* where the window of place q begins in the padded map */
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

/* Rows [o0, o1) of `delta`, (O, runs, ld): the contrast of channels of a convolution. */
static void correlate_conv(const graph *net, const tile *tile, const pair *pairs, int n_pairs,
                           int c, int rows, int64_t o0, int64_t o1, int further, real *delta) {
    const edge *link = &net->links[c];
    const int64_t size = link->runs * link->ld, np_low = net->np[link->below],
                  np_high = net->np[link->above];
    const int pixels = link->h * link->w;
    if (!further) memset(delta + o0 * size, 0, (size_t)((o1 - o0) * size) * sizeof(real));
    for (int m = 0; m < rows; m++)
        for (int e = 0; e < n_pairs; e++) {
            /* every thread makes its own padded copies: its buffer, no meeting */
            const real *low = pad_map(link, pairs[e].low + m * np_low, tile->padded);
            const real *high = pairs[e].high + m * np_high;
            const int32_t *where = link->pool == POOL_MAX ? pairs[e].where + m * np_high : NULL;
            for (int64_t o = o0; o < o1; o++)
                for (int p = 0; p < pixels; p++) {
                    const int64_t unit = (int64_t)p * link->O + o;
                    /* as on the way down, units that are zero cost nothing */
                    if (high[unit] != 0)
                        correlate_unit(link, high[unit], unit, where, low, delta + o * size);
                }
        }
}

/* Rows [i0, i1) of `delta`, np[across] apart: of a dense connection, low' high, or of its way back,
 * high' low. Samples are what is summed over: A is read down its columns, end after end. */
static void correlate_dense(const graph *net, const pair *pairs, int n_pairs, int c, int back,
                            int rows, int64_t i0, int64_t i1, int further, real *delta) {
    static const real zeros[PW];
    const edge *link = &net->links[c];
    const int down = back ? link->above : link->below, across = back ? link->below : link->above;
    const int64_t np_down = net->np[down], np_across = net->np[across];
    for (int64_t i = i0; i < i1; i += MR_MAX) {
        const int mr = (int)(i1 - i < MR_MAX ? i1 - i : MR_MAX);
        for (int p = 0; p < n_panels(net->n[across]); p++) {
            /* a chain for each entry: samples of end 0, then of end 1, whatever rows are in the
             * tile */
            operand terms[2];
            for (int e = 0; e < n_pairs; e++)
                terms[e] = (operand){(back ? pairs[e].high : pairs[e].low) + i,
                                     (back ? pairs[e].low : pairs[e].high) + (int64_t)p * PW,
                                     1,
                                     np_down,
                                     np_across,
                                     rows};
            real *sum = delta + i * np_across + (int64_t)p * PW;
            gemm_tile(mr, panel_width(net->n[across], p), further ? sum : zeros,
                      further ? np_across : 0, sum, np_across, terms, n_pairs);
        }
    }
}

/* Units of connection c, or of its way back, that are shared out among threads. */
static int64_t units_of(const graph *net, int c, int back) {
    const edge *link = &net->links[c];
    return !link->dense ? link->O : net->n[back ? link->above : link->below];
}

/* The contrasts of the thread's units of all connections, over all samples of the batch, which must
 * be there (a barrier before it). */
void correlate(graph *net, tile *tile, const batch *batch, const turn *turn, int further) {
    for (int c = 0; c < net->n_links; c++)
        for (int back = 0; back < 2; back++) {
            const edge *link = &net->links[c];
            real *delta = back ? link->delta_back : link->delta;
            if (!delta) continue;
            pair pairs[2];
            const int n = pairs_of(net, batch, c, back, pairs);
            const int64_t units = units_of(net, c, back),
                          lo = share(units, turn->thread, net->n_threads),
                          hi = share(units, turn->thread + 1, net->n_threads);
            if (link->dense)
                correlate_dense(net, pairs, n, c, back, turn->rows, lo, hi, further, delta);
            else
                correlate_conv(net, tile, pairs, n, c, turn->rows, lo, hi, further, delta);
        }
}

/* batch->row = the contrast of unit o in the caller's order; *at = where its weights begin there.
 * Returns how many they are. */
static int64_t callers_row(const graph *net, const batch *batch, int c, int back, int64_t o,
                           int64_t *at) {
    const edge *link = &net->links[c];
    const real *delta = back ? link->delta_back : link->delta;
    if (link->dense) {
        const int down = back ? link->above : link->below,
                  across = back ? link->below : link->above;
        delta += o * net->np[across];
        for (int64_t j = 0; j < net->n[across]; j++) batch->row[unit_at(net, across, j)] = delta[j];
        *at = unit_at(net, down, o) * net->n[across];
        return net->n[across];
    }
    const int k = link->k;
    delta += o * link->runs * link->ld;
    for (int i = 0; i < link->C; i++)
        for (int dy = 0; dy < k; dy++)
            for (int dx = 0; dx < k; dx++)
                batch->row[(int64_t)(i * k + dy) * k + dx] =
                    delta[dy * link->ld + (int64_t)dx * link->C + i];
    *at = o * link->C * k * k;
    return (int64_t)link->C * k * k;
}

/* Where entry `at` of the i-th array of an optimiser's memory lies; NULL if it has none. */
static real *moment(void **arrays, int i, int64_t at) {
    return arrays ? (real *)arrays[i] + at : NULL;
}

/* Steps n parameters w of the caller along their contrast `change`, with their moments (equations
 * 13). By way of buffers: vsteps works in whole vectors, and the caller's arrays end where they
 * end, or where another thread's rows begin. */
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

/* Steps the thread's units of connection c, or of its way back, in the caller's arrays, and packs
 * them again. */
static void learn_link(graph *net, batch *batch, const turn *turn, int c, int back,
                       const stepper *step) {
    const eqp_graph_job *job = net->job;
    const int64_t units = units_of(net, c, back), lo = share(units, turn->thread, net->n_threads),
                  hi = share(units, turn->thread + 1, net->n_threads);
    /* moments lie as weights, biases, weights of the ways back (jobs.h) */
    const int slot = back ? net->n_links + net->L + c : c;
    for (int64_t o = lo; o < hi; o++) {
        int64_t at;
        const int64_t n = callers_row(net, batch, c, back, o, &at);
        step_row(batch, (real *)(back ? job->back : job->weight)[c] + at, batch->row,
                 moment(job->velocity, slot, at), moment(job->second, slot, at), n, step);
        if (back && net->links[c].dense)
            pack_way_back(net, c, o);
        else
            pack_unit(net, c, o);
    }
}

/* Steps the biases of layer k, one a channel, along the sum of `both` over samples and pixels, in
 * their order, by one thread (equations 4). */
static void learn_bias(graph *net, batch *batch, int k, int rows, const stepper *step) {
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

/* Steps all that the thread owns along the contrasts: its units of each connection, and every T-th
 * layer's biases, which have no decay (equations 13). */
void learn(graph *net, batch *batch, const turn *turn) {
    const eqp_graph_job *job = net->job;
    for (int c = 0; c < net->n_links; c++) {
        const stepper step =
            EQP_STEPPER(job, job->rate[c], job->weight_decay, turn->scale, turn->number);
        learn_link(net, batch, turn, c, 0, &step);
        if (net->links[c].delta_back) learn_link(net, batch, turn, c, 1, &step);
    }
    for (int k = 1; k <= net->L; k++) {
        const stepper step = EQP_STEPPER(job, job->bias_rate[k - 1], 0, turn->scale, turn->number);
        /* short sums, and both_k is read whole: not worth a split */
        if (k % net->n_threads == turn->thread) learn_bias(net, batch, k, turn->rows, &step);
    }
}
