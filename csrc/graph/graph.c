/* graph.c - relaxation of networks of any shape (equations 1.7): a tile of samples at a time, all
 * its steps in one go, while its states stay in the cache. */
#include "graph/graph.h"

/* Buffers of one thread's tile. */
void tile_plan(const graph *net, tile *tile, int rows, int thread, arena *arena) {
    const int T = net->n_threads;
    tile->rows = rows;
    for (int k = 0; k <= net->L; k++) {
        const int64_t size = (int64_t)rows * net->np[k];
        const int forced = net->job->readout && k == net->L;
        tile->state[k] = take_own(arena, size, sizeof(real), thread, T);
        tile->shown[k] = tile->state[k];
        if ((net->euler || forced) && k)
            tile->shown[k] = take_own(arena, size, sizeof(real), thread, T);
        tile->base[k] = k ? take_own(arena, size, sizeof(real), thread, T) : NULL;
        tile->field[k] = k ? take_own(arena, size, sizeof(real), thread, T) : NULL;
    }
    tile->y = take_own(arena, (int64_t)rows * net->np[net->L], sizeof(real), thread, T);
    tile->push = take_own(arena, net->np[net->L], sizeof(real), thread, T);
    int64_t padded = 0, z = MR_MAX;
    for (int c = 0; c < net->n_links; c++) {
        const edge *link = &net->links[c];
        const int64_t map = link->padding ? (int64_t)link->PH_ * link->PW_ * link->C : 0;
        const int64_t squares = link->dense ? 0 : (int64_t)link->window * link->OW;
        padded = map > padded ? map : padded;
        z = squares > z ? squares : z;
        tile->where[c] = NULL;
        if (link->pool == POOL_MAX)
            tile->where[c] =
                take_own(arena, (int64_t)rows * net->np[link->above], sizeof(int32_t), thread, T);
    }
    tile->padded = take_own(arena, padded + PAD, sizeof(real), thread, T);
    tile->z = take_own(arena, z * PW, sizeof(real), thread, T);
    tile->origin = take_own(arena, rows, sizeof(int32_t), thread, T);
    tile->change = take_own(arena, rows, sizeof(real), thread, T);
}

/* Inputs and targets of row `row` of the data, as sample s. */
void tile_load(const graph *net, tile *tile, int s, int64_t row) {
    const eqp_graph_job *job = net->job;
    const int L = net->L;
    real *x = tile->state[0] + (int64_t)s * net->np[0];
    to_pixels(net, 0, (const real *)job->x + row * net->n[0], x);
    EQP_WITH_ACT(job->activation[0], act_rho_row(ACT, x, net->n[0], x));
    if (job->y)
        to_pixels(net, L, (const real *)job->y + row * net->n[L],
                  tile->y + (int64_t)s * net->np[L]);
}

/* What connection c sends up, added to `to`. */
static void link_up(const graph *net, tile *tile, int rows, int c, real *to) {
    const edge *link = &net->links[c];
    lift(link, tile->shown[link->below], net->np[link->below], to, net->np[link->above],
         tile->where[c], rows, tile->padded, tile->z);
    tile->valid[c] = 1;
}

/* The places of the maxima of connection c at the present states, unless they are known. */
void tile_where(const graph *net, tile *tile, int rows, int c) {
    if (tile->where[c] && !tile->valid[c]) link_up(net, tile, rows, c, NULL);
}

/* What does not change: the connections from the input, and the biases. */
void tile_drive(const graph *net, tile *tile, int rows) {
    for (int k = 1; k <= net->L; k++)
        for (int s = 0; s < rows; s++)
            copy_reals(tile->base[k] + (int64_t)s * net->np[k], net->bias[k], net->np[k]);
    for (int c = 0; c < net->n_links; c++)
        if (net->links[c].below == 0) link_up(net, tile, rows, c, tile->base[net->links[c].above]);
}

static int is_linear_output(const graph *net, int k) {
    return k == net->L && net->job->linear_output;
}

static int has_state(const graph *net, int k) { return !(net->job->readout && k == net->L); }

/* What the layers show of states that have just been set; no place of a maximum is known. */
void tile_show(const graph *net, tile *tile, int rows) {
    for (int k = 1; k <= net->L; k++) {
        if (!net->euler || !has_state(net, k)) continue;
        const int64_t n = (int64_t)rows * net->np[k];
        if (is_linear_output(net, k)) {
            copy_reals(tile->shown[k], tile->state[k], n);
            continue;
        }
        EQP_WITH_ACT(net->job->activation[k], act_rho_row(ACT, tile->state[k], n, tile->shown[k]));
    }
    for (int c = 0; c < net->n_links; c++)
        if (net->links[c].below > 0) tile->valid[c] = 0;
}

/* field[k] of the tile from below. */
static void from_below(const graph *net, tile *tile, int rows, int k) {
    copy_reals(tile->field[k], tile->base[k], (int64_t)rows * net->np[k]);
    for (int c = 0; c < net->n_links; c++)
        if (net->links[c].above == k && net->links[c].below > 0)
            link_up(net, tile, rows, c, tile->field[k]);
}

/* factor (y - prediction) of one sample's outputs; cross-entropy: of their softmax. */
static void force_row(const graph *net, const real *out, const real *y, real factor, real *force) {
    const int n = net->n[net->L];
    if (net->job->cost == COST_SQUARED_ERROR) {
        for (int i = 0; i < n; i++) force[i] = factor * (y[i] - out[i]);
        return;
    }
    real top = out[0], sum = 0;
    for (int i = 1; i < n; i++) top = out[i] > top ? out[i] : top;
    for (int i = 0; i < n; i++) sum += force[i] = (real)exp((double)(out[i] - top));
    for (int i = 0; i < n; i++) force[i] = factor * (y[i] - force[i] / sum);
}

/* A read-out: its state is what it reads now, what it shows is the force of the target. */
void tile_force(const graph *net, tile *tile, int rows, double beta) {
    const int L = net->L;
    if (!net->job->readout) return;
    from_below(net, tile, rows, L);
    copy_reals(tile->state[L], tile->field[L], (int64_t)rows * net->np[L]);
    for (int s = 0; s < rows; s++) {
        const int64_t at = (int64_t)s * net->np[L];
        if (beta != 0)
            force_row(net, tile->state[L] + at, tile->y + at, (real)(net->job->cost_factor * beta),
                      tile->shown[L] + at);
        else
            memset(tile->shown[L] + at, 0, (size_t)net->np[L] * sizeof(real));
    }
}

static int moves_in(const graph *net, int k, int pass, const asked *asked) {
    return net->job->pass[k] == pass && !(asked->held && k == net->L);
}

/* Sum of all that acts on the layers of pass `pass`. */
void tile_fields(const graph *net, tile *tile, int rows, int pass, const asked *asked) {
    if (asked->beta != 0) tile_force(net, tile, rows, asked->beta);
    for (int k = 1; k <= net->L; k++)
        if (moves_in(net, k, pass, asked)) from_below(net, tile, rows, k);
    for (int c = 0; c < net->n_links; c++) {
        const edge *link = &net->links[c];
        if (link->below == 0 || !moves_in(net, link->below, pass, asked)) continue;
        if (!has_state(net, link->above) && asked->beta == 0) continue;
        tile_where(net, tile, rows, c);
        drop(link, tile->shown[link->above], net->np[link->above], tile->where[c],
             tile->field[link->below], net->np[link->below], rows, tile->padded);
    }
}

/* Moves layer k of sample s; `most`: the largest change so far; `bad` becomes no number if a state
 * is none. */
EQP_INLINE void finish_row(const int act, const int plain, const graph *net, tile *tile,
                           const finish *finish, int k, int64_t at, const real *push, vec *most,
                           vec *bad) {
    real *state = tile->state[k] + at, *shown = tile->shown[k] + at;
    const real *field = tile->field[k] + at;
    vec largest = *most, sum = *bad;
    for (int v = 0; v < net->n[k]; v += VL) {
        const vec old = vload(state + v);
        vec x = finish_vec(act, plain, finish, vload(field + v), old, vload(shown + v),
                           push ? vload(push + v) : vset(0));
        if (v + VL > net->n[k]) x = vkeep(x, net->n[k] - v);
        vstore(state + v, x);
        sum = vfma(vset(0), x, sum);
        vec change = vabs(vsub(x, old));
        if (v + VL > net->n[k]) change = vkeep(change, net->n[k] - v);
        largest = vmaxr(largest, change);
        if (net->euler) vstore(shown + v, is_linear_output(net, k) ? x : act_rho(act, x));
    }
    *most = largest;
    *bad = sum;
}

/* Moves the layers of a pass, and notes the largest change of each sample so far. Returns whether
 * all states are numbers. */
int tile_finish(const graph *net, tile *tile, int rows, int pass, const asked *asked) {
    const eqp_graph_job *job = net->job;
    const double beta = asked->beta, dt = asked->dt;
    vec bad = vset(0);
    for (int k = 1; k <= net->L; k++) {
        if (!moves_in(net, k, pass, asked)) continue;
        const int is_out = k == net->L, nudged = is_out && beta != 0;
        const int plain = !net->euler && dt == 1 && !nudged;
        const finish finish = {net->euler,
                               dt != 1,
                               job->nudge_inside,
                               nudged,
                               is_out ? job->prime_output : job->prime_hidden,
                               job->clamp,
                               is_linear_output(net, k),
                               vset((real)dt)};
        for (int s = 0; s < rows; s++) {
            const int64_t at = (int64_t)s * net->np[k];
            real *force = nudged ? tile->push : NULL;
            if (nudged)
                force_row(net, tile->state[k] + at, tile->y + at, (real)(job->cost_factor * beta),
                          force);
            vec most = vset(tile->change[s]);
            if (plain) {
                EQP_WITH_ACT(job->activation[k],
                             finish_row(ACT, 1, net, tile, &finish, k, at, force, &most, &bad));
            } else {
                EQP_WITH_ACT(job->activation[k],
                             finish_row(ACT, 0, net, tile, &finish, k, at, force, &most, &bad));
            }
            tile->change[s] = vhmax(most);
        }
        for (int c = 0; c < net->n_links; c++)
            if (net->links[c].below == k) tile->valid[c] = 0;
    }
    return vequal(bad, vset(0));
}

static void swap_reals(real *a, real *b, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        const real kept = a[i];
        a[i] = b[i];
        b[i] = kept;
    }
}

/* Samples i and j change places. */
static void swap_samples(const graph *net, tile *tile, int i, int j) {
    if (i == j) return;
    for (int k = 0; k <= net->L; k++) {
        const int64_t n = net->np[k];
        real *const rows[] = {tile->state[k], tile->base[k],
                              tile->shown[k] == tile->state[k] ? NULL : tile->shown[k]};
        for (int r = 0; r < 3; r++)
            if (rows[r]) swap_reals(rows[r] + i * n, rows[r] + j * n, n);
    }
    swap_reals(tile->y + (int64_t)i * net->np[net->L], tile->y + (int64_t)j * net->np[net->L],
               net->np[net->L]);
    for (int c = 0; c < net->n_links; c++) {
        if (!tile->where[c]) continue;
        const int64_t n = net->np[net->links[c].above];
        int32_t *a = tile->where[c] + i * n, *b = tile->where[c] + j * n;
        for (int64_t u = 0; u < n; u++) {
            const int32_t kept = a[u];
            a[u] = b[u];
            b[u] = kept;
        }
    }
    const int32_t kept = tile->origin[i];
    tile->origin[i] = tile->origin[j];
    tile->origin[j] = kept;
}

/* Before the first step: all samples are active, and count as doing all steps. */
void tile_begin(const graph *net, tile *tile, const asked *asked) {
    for (int s = 0; s < asked->rows; s++) {
        tile->origin[s] = s;
        asked->steps[s] = asked->n_steps;
        if (asked->residual) asked->residual[s] = 0;
    }
    tile_show(net, tile, asked->rows);
}

/* After step `step` of the first `active` samples: one that has arrived leaves the tile, the last
 * active one takes its place. One whose step changed nothing is at a fixed point, to the bit, and
 * counts as having done all steps. Returns how many are active. */
int tile_retire(const graph *net, tile *tile, int active, int step, const asked *asked) {
    for (int s = active - 1; s >= 0; s--) {
        const real speed = tile->change[s] / (real)asked->dt;
        const int sample = tile->origin[s];
        if (asked->residual) asked->residual[sample] = speed;
        const int arrived = asked->tol >= 0 && speed <= (real)asked->tol;
        if (arrived) asked->steps[sample] = step + 1;
        if (!arrived && !(asked->tol < 0 && tile->change[s] == 0)) continue;
        active--;
        swap_samples(net, tile, s, active);
        tile->change[s] = tile->change[active];
    }
    return active;
}

/* Each of the first samples lies again where it began. */
void tile_return(const graph *net, tile *tile, int rows) {
    for (int s = 0; s < rows; s++)
        while (tile->origin[s] != s) swap_samples(net, tile, s, tile->origin[s]);
}

/* Relaxes the tile's first samples from their states. Returns whether all states are numbers. */
int tile_relax(const graph *net, tile *tile, const asked *asked) {
    int active = asked->rows, good = 1;
    tile_begin(net, tile, asked);
    for (int step = 0; step < asked->n_steps && active && good; step++) {
        for (int s = 0; s < active; s++) tile->change[s] = 0;
        for (int pass = 0; pass < net->job->n_passes; pass++) {
            tile_fields(net, tile, active, pass, asked);
            good &= tile_finish(net, tile, active, pass, asked);
        }
        active = tile_retire(net, tile, active, step, asked);
    }
    tile_return(net, tile, asked->rows);
    tile_show(net, tile, asked->rows);
    tile_force(net, tile, asked->rows, asked->beta);
    return good;
}

/* --- the relaxing kernel --- */

static void relax_plan(graph *net, tile *tile, eqp_graph_job *job, int thread, int n_threads,
                       arena *arena) {
    graph_plan(net, job, n_threads, 0, arena);
    tile_plan(net, tile, tile_rows_of(net), thread, arena);
}

int EQP_NAME(graph_relax_scratch)(eqp_graph_job *job, int thread, int n_threads) {
    const int status = graph_check(job);
    if (status) return status;
    graph net;
    tile tile;
    arena count = {NULL, 0};
    relax_plan(&net, &tile, job, thread, n_threads, &count);
    job->scratch_size = count.used;
    return EQP_OK;
}

/* Relaxes the job's rows, each thread its share. */
int EQP_NAME(graph_relax)(eqp_graph_job *job, int thread, int n_threads) {
    const int status = graph_check(job);
    if (status) return status;
    if (!job->scratch || !job->barrier || !job->state || !job->steps || !job->residual ||
        (job->beta != 0 && !job->y))
        return EQP_E_NULL;
    graph net;
    tile tile;
    arena count = {NULL, 0}, laid = {job->scratch, 0};
    relax_plan(&net, &tile, job, thread, n_threads, &count);
    if (count.used > job->scratch_size) return EQP_E_SCRATCH;
    relax_plan(&net, &tile, job, thread, n_threads, &laid);
    graph_pack(&net, thread);
    const int64_t end = share(job->n_rows, thread + 1, n_threads);
    int good = 1;
    for (int64_t first = share(job->n_rows, thread, n_threads); first < end; first += tile.rows) {
        const int rows = (int)(end - first < tile.rows ? end - first : tile.rows);
        for (int s = 0; s < rows; s++) {
            tile_load(&net, &tile, s, first + s);
            for (int k = 1; k <= net.L; k++)
                to_pixels(&net, k, (const real *)job->state[k - 1] + (first + s) * net.n[k],
                          tile.state[k] + (int64_t)s * net.np[k]);
        }
        tile_drive(&net, &tile, rows);
        const asked asked = {.rows = rows,
                             .beta = job->beta,
                             .tol = job->tol_free,
                             .dt = job->dt,
                             .n_steps = job->n_free_steps,
                             .steps = job->steps + first,
                             .residual = (real *)job->residual + first};
        good &= tile_relax(&net, &tile, &asked);
        for (int s = 0; s < rows; s++)
            for (int k = 1; k <= net.L; k++)
                to_channels(&net, k, tile.state[k] + (int64_t)s * net.np[k],
                            (real *)job->state[k - 1] + (first + s) * net.n[k]);
    }
    return good ? EQP_OK : EQP_E_DIVERGED;
}
