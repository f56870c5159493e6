/* pack.c - a graph's job checked, its scratch laid out, and the caller's arrays brought into the
 * order in which the graph kernels read them. Letters: graph.h.
 *
 *     caller   dense W (n below, n above), own way back (n above, n below); kernels (O, C, k, k);
 *              units of a map channel by channel
 *     packed   up: panels of PW columns (gemm.h), rows in the order of a run; down: dense in panels
 *              as well, of a convolution channel after channel, k runs of ld numbers each
 *
 * The caller's arrays remain the truth: updates step them and pack what has moved (learn.c). */
#include "graph/graph.h"
#include "layered/rules.h"

#define MOST_UNITS (INT32_MAX - 4 * PAD)

/* Whether a row f of job.connection names layers that exist, from below to above or lateral, and
 * whether the arithmetic of a convolution gives the map above (equations 1.7: H' = window h). */
static int fields_fit(const eqp_graph_job *job, const int32_t *f) {
    if (f[ABOVE] < 1 || f[ABOVE] >= job->n_layers || f[BELOW] < 0 || f[BELOW] > f[ABOVE]) return 0;
    if (f[OWN_BACK] && f[BELOW] == 0) return 0; /* nothing leads back to the input */
    const int32_t *low = job->shape + 3 * f[BELOW], *high = job->shape + 3 * f[ABOVE];
    /* a dense connection has no other option that counts */
    if (f[KERNEL] == 0) return f[WINDOW] == 1 && f[POOL] == POOL_NONE;
    if (f[KERNEL] < 0 || f[STRIDE] < 1 || f[PADDING] < 0 || f[PADDING] >= f[KERNEL]) return 0;
    if (f[POOL] < 0 || f[POOL] >= N_POOLS || f[WINDOW] < 1) return 0;
    if ((int64_t)f[KERNEL] * low[0] > MOST_UNITS) return 0;
    /* height and width: the map must fall into whole squares */
    for (int i = 1; i < 3; i++) {
        const int64_t over = (int64_t)low[i] + 2 * (int64_t)f[PADDING] - f[KERNEL];
        if (over < 0 || over + f[KERNEL] > MOST_UNITS) return 0;
        if (over / f[STRIDE] + 1 != (int64_t)high[i] * f[WINDOW]) return 0;
    }
    return (f[POOL] == POOL_NONE) == (f[WINDOW] == 1);
}

/* Whether a layer's units, and those of its padded rows, can be counted in an int. */
static int shape_fits(const int32_t *shape) {
    int64_t units = 1;
    for (int i = 0; i < 3; i++) {
        if (shape[i] < 1 || shape[i] > MOST_UNITS / units) return 0;
        units *= shape[i];
    }
    return 1;
}

/* What both kernels demand of a job: an eqp_status, before anything is written. */
int graph_check(const eqp_graph_job *job) {
    if (!job->shape || !job->activation || !job->pass || !job->connection || !job->weight ||
        !job->bias || !job->x)
        return EQP_E_NULL;
    if (job->n_layers < 2 || job->n_layers > EQP_MAX_LAYERS || job->n_connections < 1 ||
        job->n_connections > EQP_MAX_CONNECTIONS || job->n_rows < 0 || job->n_passes < 0)
        return EQP_E_SIZE;
    for (int k = 0; k < job->n_layers; k++) {
        /* every layer has an activation and sides; all but the input a bias */
        if (job->activation[k] < 0 || job->activation[k] >= N_ACTIVATIONS) return EQP_E_OPTION;
        if (!shape_fits(job->shape + 3 * k)) return EQP_E_SIZE;
        if (job->pass[k] < -1 || job->pass[k] >= job->n_passes) return EQP_E_SIZE;
        if (k && !job->bias[k - 1]) return EQP_E_NULL;
    }
    for (int c = 0; c < job->n_connections; c++) {
        /* shapes are known to be good by now */
        const int32_t *f = job->connection + N_FIELDS * c;
        if (!fields_fit(job, f)) return EQP_E_SIZE;
        if (!job->weight[c] || (f[OWN_BACK] && (!job->back || !job->back[c]))) return EQP_E_NULL;
    }
    if (job->dynamics < 0 || job->dynamics >= N_DYNAMICS || job->cost < 0 || job->cost >= N_COSTS)
        return EQP_E_OPTION;
    return job->n_free_steps < 0 || job->n_nudged_steps < 0 || !(job->dt > 0) ? EQP_E_SIZE : EQP_OK;
}

/* A connection from its row f of the job, without arrays; needs the network's sizes. */
static edge link_of(const graph *net, const int32_t *f) {
    const int32_t *low = net->job->shape + 3 * f[BELOW], *high = net->job->shape + 3 * f[ABOVE];
    edge made = {.below = f[BELOW],
                 .above = f[ABOVE],
                 .dense = f[KERNEL] == 0,
                 .k = f[KERNEL],
                 .stride = f[STRIDE],
                 .padding = f[PADDING],
                 .pool = f[POOL],
                 .window = f[WINDOW],
                 .own_back = f[OWN_BACK],
                 .C = low[0],
                 .H = low[1],
                 .W = low[2],
                 .O = high[0],
                 .h = high[1],
                 .w = high[2]};
    made.PH_ = made.H + 2 * made.padding;
    made.PW_ = made.W + 2 * made.padding;
    made.OW = made.w * made.window;
    /* all units below are one run, or each row of the kernel is */
    made.runs = made.dense ? 1 : made.k;
    made.run = made.dense ? net->n[made.below] : (int64_t)made.k * made.C;
    made.ld = (made.run + VL - 1) / VL * VL;
    /* above a dense connection a map counts as flat */
    if (made.dense) made.O = net->n[made.above];
    return made;
}

/* The network's sizes and, behind `arena`, its packed arrays; with an empty arena it only counts.
 * `trains`: also the contrasts. */
void graph_plan(graph *net, const eqp_graph_job *job, int n_threads, int trains, arena *arena) {
    net->job = job;
    net->L = job->n_layers - 1;
    net->n_links = job->n_connections;
    net->n_threads = n_threads;
    net->euler = job->dynamics == DYNAMICS_EULER;
    for (int k = 0; k <= net->L; k++) {
        const int32_t *shape = job->shape + 3 * k;
        net->C[k] = shape[0];
        net->P[k] = shape[1] * shape[2];
        net->n[k] = shape[0] * shape[1] * shape[2];
        /* PAD more than rounding up, so that there is always room past the end: drop adds runs in
         * whole vectors, and up to VL - 1 <= PAD - 1 lanes of a map's last run lie beyond it */
        net->np[k] = (int)pad_up(net->n[k]) + PAD;
        net->bias[k] = take(arena, net->np[k], sizeof(real));
    }
    for (int c = 0; c < net->n_links; c++) {
        edge *link = &net->links[c];
        *link = link_of(net, job->connection + N_FIELDS * c);
        link->up = take(arena, link->runs * link->run * n_panels(link->O) * PW, sizeof(real));
        const int64_t down = link->dense ? (int64_t)link->O * n_panels(link->run) * PW
                                         : (int64_t)link->O * link->runs * link->ld;
        link->down = take(arena, down, sizeof(real));
        const int64_t delta = link->dense ? link->run * net->np[link->above] : down;
        link->delta = trains ? take(arena, delta, sizeof(real)) : NULL;
        const int64_t delta_back =
            link->dense ? (int64_t)net->n[link->above] * net->np[link->below] : down;
        /* weights of the way back learn under the vector fields alone (equations 6) */
        const int learns_back = trains && link->own_back && is_vector_field(job->rule);
        link->delta_back = learns_back ? take(arena, delta_back, sizeof(real)) : NULL;
    }
}

/* A row of n[k] units from the caller's order, (C, P), to pixel by pixel, (P, C). */
void to_pixels(const graph *net, int k, const real *from, real *to) {
    if (net->P[k] == 1 || net->C[k] == 1) {
        copy_reals(to, from, net->n[k]);
        return;
    }
    for (int p = 0; p < net->P[k]; p++)
        for (int c = 0; c < net->C[k]; c++)
            to[(int64_t)p * net->C[k] + c] = from[(int64_t)c * net->P[k] + p];
}

/* The way back: (P, C) to (C, P). */
void to_channels(const graph *net, int k, const real *from, real *to) {
    if (net->P[k] == 1 || net->C[k] == 1) {
        copy_reals(to, from, net->n[k]);
        return;
    }
    for (int p = 0; p < net->P[k]; p++)
        for (int c = 0; c < net->C[k]; c++)
            to[(int64_t)c * net->P[k] + p] = from[(int64_t)p * net->C[k] + c];
}

/* Row i below of a dense connection, n above numbers: as row i of `up` and, where the way back is
 * the same, as column i of `down` = W' (equations 1.7). */
static void pack_dense_row(graph *net, int c, int64_t i) {
    const edge *link = &net->links[c];
    const int64_t N = net->n[link->above], n = link->run;
    const real *w = (const real *)net->job->weight[c] + unit_at(net, link->below, i) * N;
    /* column i of down is lane i % PW of its panel i / PW */
    real *down = panel_at(link->down, N, (int)(i / PW)) + i % PW;
    const int64_t down_width = panel_width(n, (int)(i / PW));
    for (int64_t j = 0; j < N; j++) {
        const int64_t u = unit_at(net, link->above, j);
        const int p = (int)(j / PW);
        panel_at(link->up, n, p)[i * panel_width(N, p) + j % PW] = w[u];
        if (!link->own_back) down[j * down_width] = w[u];
    }
}

/* Row j above of a dense connection's way back that has weights of its own: n below numbers, as row
 * j of `down` (V of equations 6.1). */
void pack_way_back(graph *net, int c, int64_t j) {
    const edge *link = &net->links[c];
    const int64_t N = net->n[link->above], n = link->run;
    const real *back = (const real *)net->job->back[c] + unit_at(net, link->above, j) * n;
    for (int64_t i = 0; i < n; i++) {
        const int p = (int)(i / PW);
        panel_at(link->down, N, p)[j * panel_width(n, p) + i % PW] =
            back[unit_at(net, link->below, i)];
    }
}

/* Packs the weights of unit o: of row o of a dense connection, else of channel o above, C k k
 * numbers: as column o of `up` and, its own or those of the way back, as row o of `down`. */
void pack_unit(graph *net, int c, int64_t o) {
    const edge *link = &net->links[c];
    if (link->dense) {
        pack_dense_row(net, c, o);
        return;
    }
    const int k = link->k, C = link->C, p = (int)(o / PW), width = panel_width(link->O, p);
    const real *w = (const real *)net->job->weight[c] + o * C * k * k;
    const real *back = link->own_back ? (const real *)net->job->back[c] + o * C * k * k : w;
    real *up = panel_at(link->up, link->runs * link->run, p) + o % PW;
    real *down = link->down + o * link->runs * link->ld;
    for (int dy = 0; dy < k; dy++)
        for (int dx = 0; dx < k; dx++)
            for (int i = 0; i < C; i++) {
                /* (channel, dy, dx) of the caller is row dy, place dx C + channel of a run */
                const int64_t at = (int64_t)(i * k + dy) * k + dx, in_run = (int64_t)dx * C + i;
                up[(dy * link->run + in_run) * width] = w[at];
                down[dy * link->ld + in_run] = back[at];
            }
}

/* A bias for each unit of layer k, from one a channel; its padding is 0. */
void pack_bias(graph *net, int k) {
    const real *bias = net->job->bias[k - 1];
    for (int i = 0; i < net->n[k]; i++) net->bias[k][i] = bias[i % net->C[k]];
    for (int i = net->n[k]; i < net->np[k]; i++) net->bias[k][i] = 0;
}

/* Packs all of it, by all threads; ends with a barrier. */
void graph_pack(graph *net, int thread) {
    const int T = net->n_threads;
    for (int c = 0; c < net->n_links; c++) {
        edge *link = &net->links[c];
        /* padding that panels and runs are rounded up with is 0, here and for good: it is
         * multiplied and added like weights (drop), while pack_unit writes weights alone */
        if (c % T != thread) continue;
        memset(link->up, 0,
               (size_t)(link->runs * link->run * n_panels(link->O) * PW) * sizeof(real));
        const int64_t down = link->dense ? (int64_t)link->O * n_panels(link->run) * PW
                                         : (int64_t)link->O * link->runs * link->ld;
        memset(link->down, 0, (size_t)down * sizeof(real));
    }
    /* other threads' zeros must not come after this one's weights */
    eqp_wait(net->job->barrier, T);
    for (int c = 0; c < net->n_links; c++) {
        const int64_t units = net->links[c].dense ? net->links[c].run : net->links[c].O;
        for (int64_t o = share(units, thread, T); o < share(units, thread + 1, T); o++)
            pack_unit(net, c, o);
        if (!net->links[c].dense || !net->links[c].own_back) continue;
        const int64_t above = net->n[net->links[c].above];
        for (int64_t j = share(above, thread, T); j < share(above, thread + 1, T); j++)
            pack_way_back(net, c, j);
    }
    /* whole layers: biases are few */
    for (int k = 1 + thread; k <= net->L; k += T) pack_bias(net, k);
    eqp_wait(net->job->barrier, T);
}
