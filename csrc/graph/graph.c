/* graph.c - relaxation of networks of any shape (equations 1.2, 1.3, 1.7, 3): a tile of samples
 * at a time, all its steps in one go, while its states stay in the cache. Letters: graph.h, and
 *
 *     pass     a part of a step, in which some layers move (jobs.h): one colour of a sweep
 *     active   samples not yet at rest; they are the first rows of the tile
 *     most     a sample's largest change in this step, over all passes
 *
 * A pass of a step, for the layers that move in it:
 *     tile_fields    field = base + what comes up + what comes down
 *     tile_finish    state from field, what it shows, its change
 * and after the last pass
 *     tile_retire    samples at rest leave
 *
 * Connections from the input, and biases, are summed once into `base`. Once the weights are packed,
 * threads do not meet here. */
#include "graph/graph.h"

/* Buffers of one thread's tile of `rows` samples, behind `arena`. */
void tile_plan(const graph *net, tile *tile, int rows, int thread, arena *arena) {
    const int T = net->n_threads;
    tile->rows = rows;
    for (int k = 0; k <= net->L; k++) {
        const int64_t size = (int64_t)rows * net->np[k];
        /* a read-out shows a force, not its state */
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
    int64_t padded = 0, z = MR_MAX; /* z: rows of PW; of a dense link a register tile */
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
    /* its last run is added in whole vectors, too (drop) */
    tile->padded = take_own(arena, padded + PAD, sizeof(real), thread, T);
    tile->z = take_own(arena, z * PW, sizeof(real), thread, T);
    tile->origin = take_own(arena, rows, sizeof(int32_t), thread, T);
    tile->change = take_own(arena, rows, sizeof(real), thread, T);
}

/* Row `row` of the data as sample s: state[0] = rho_0(x), what the input shows (equations 1.2), and
 * the targets. */
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

/* to (rows x np[above]) += what connection c sends up, with the places of its maxima. `to` NULL:
 * the places only. */
static void link_up(const graph *net, tile *tile, int rows, int c, real *to) {
    const edge *link = &net->links[c];
    lift(link, tile->shown[link->below], net->np[link->below], to, net->np[link->above],
         tile->where[c], rows, tile->padded, tile->z);
    /* true of a link without maxima as well, where nobody asks */
    tile->valid[c] = 1;
}

/* The places of the maxima of connection c at the present states (equations 1.7), unless they are
 * known: the way up of the same step has often found them. */
void tile_where(const graph *net, tile *tile, int rows, int c) {
    if (tile->where[c] && !tile->valid[c]) link_up(net, tile, rows, c, NULL);
}

/* base[k] = b_k + what the input sends up: what does not change while weights do not. */
void tile_drive(const graph *net, tile *tile, int rows) {
    for (int k = 1; k <= net->L; k++)
        for (int s = 0; s < rows; s++)
            copy_reals(tile->base[k] + (int64_t)s * net->np[k], net->bias[k], net->np[k]);
    for (int c = 0; c < net->n_links; c++) /* maxima of the input too are found here, once */
        if (net->links[c].below == 0) link_up(net, tile, rows, c, tile->base[net->links[c].above]);
}

/* Whether layer k shows s, not rho(s), in continuous dynamics (equations 1.3). */
static int is_linear_output(const graph *net, int k) {
    return k == net->L && net->job->linear_output;
}

/* Whether layer k has a state: all but a read-out (equations 1.7). */
static int has_state(const graph *net, int k) { return !(net->job->readout && k == net->L); }

/* shown[k] of states that have just been set: rho(s) in continuous dynamics; in discrete ones it is
 * s, the same array. No place of a maximum is known then but those of the input's links. */
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

/* field[k] = base[k] + what comes up from layers other than the input, connection after
 * connection. */
static void from_below(const graph *net, tile *tile, int rows, int k) {
    copy_reals(tile->field[k], tile->base[k], (int64_t)rows * net->np[k]);
    for (int c = 0; c < net->n_links; c++)
        if (net->links[c].above == k && net->links[c].below > 0)
            link_up(net, tile, rows, c, tile->field[k]);
}

/* force = factor (y - prediction), n[L] numbers of one sample: the prediction is `out`, or its
 * softmax under cross-entropy (equations 2). */
static void force_row(const graph *net, const real *out, const real *y, real factor, real *force) {
    const int n = net->n[net->L];
    if (net->job->cost == COST_SQUARED_ERROR) {
        for (int i = 0; i < n; i++) force[i] = factor * (y[i] - out[i]);
        return;
    }
    /* less the largest, which changes no ratio: exp cannot overflow. `force` holds the
     * exponentials. */
    real top = out[0], sum = 0;
    for (int i = 1; i < n; i++) top = out[i] > top ? out[i] : top;
    for (int i = 0; i < n; i++) sum += force[i] = (real)exp((double)(out[i] - top));
    for (int i = 0; i < n; i++) force[i] = factor * (y[i] - force[i] / sum);
}

/* A read-out (equations 1.7): state[L] = W s + b, what it reads now; it shows beta times the force
 * of the target. At beta = 0 it shows 0, which is its free end of the contrast (keep_end). */
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

/* Whether layer k moves in pass `pass`; an output that is held does not (equations 7). */
static int moves_in(const graph *net, int k, int pass, const asked *asked) {
    return net->job->pass[k] == pass && !(asked->held && k == net->L);
}

/* field[k] of the layers of pass `pass` = base + what comes up + what comes down (equations 1.7).
 * From below first: that sets the field, what comes down is added, by connections in their
 * order. */
void tile_fields(const graph *net, tile *tile, int rows, int pass, const asked *asked) {
    if (asked->beta != 0) tile_force(net, tile, rows, asked->beta);
    for (int k = 1; k <= net->L; k++)
        if (moves_in(net, k, pass, asked)) from_below(net, tile, rows, k);
    for (int c = 0; c < net->n_links; c++) {
        const edge *link = &net->links[c];
        if (link->below == 0 || !moves_in(net, link->below, pass, asked)) continue;
        /* a read-out pushes nothing in the free phase */
        if (!has_state(net, link->above) && asked->beta == 0) continue;
        tile_where(net, tile, rows, c);
        drop(link, tile->shown[link->above], net->np[link->above], tile->where[c],
             tile->field[link->below], net->np[link->below], rows, tile->padded);
    }
}

/* Moves layer k of the sample whose row begins at `at` (finish.h; equations 1.2, 1.3, 2). `most`:
 * the largest change so far; `bad` becomes no number if a state is none, for 0 x is NaN then. */
EQP_INLINE void finish_row(const int act, const int plain, const graph *net, tile *tile,
                           const finish *finish, int k, int64_t at, const real *push, vec *most,
                           vec *bad) {
    real *state = tile->state[k] + at, *shown = tile->shown[k] + at;
    const real *field = tile->field[k] + at;
    const vec gain = vset(net->job->gain ? (real)net->job->gain[k - 1] : 1);
    vec largest = *most, sum = *bad;
    for (int v = 0; v < net->n[k]; v += VL) {
        const vec old = vload(state + v);
        vec x = finish_vec(act, plain, finish, vmul(gain, vload(field + v)), old, vload(shown + v),
                           push ? vload(push + v) : vset(0));
        /* lanes past the layer's end come from rubbish: no state, no change, no NaN of theirs
         * counts */
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

/* Moves the layers of a pass from their fields, and notes the largest change of each sample so far
 * in change[s]. Returns whether all states are numbers. All fields of a pass are made before its
 * first layer moves: within a pass, layers see each other's old states. */
int tile_finish(const graph *net, tile *tile, int rows, int pass, const asked *asked) {
    const eqp_graph_job *job = net->job;
    const double beta = asked->beta, dt = asked->dt;
    vec bad = vset(0);
    for (int k = 1; k <= net->L; k++) {
        if (!moves_in(net, k, pass, asked)) continue;
        const int is_out = k == net->L, nudged = is_out && beta != 0;
        /* the plain map needs neither old states nor a push: a kernel of its own (finish.h) */
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
            /* layers of earlier passes have left theirs */
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
        /* its maxima may lie elsewhere now */
        for (int c = 0; c < net->n_links; c++)
            if (net->links[c].below == k) tile->valid[c] = 0;
    }
    return vequal(bad, vset(0));
}

/* n numbers of a and b change places. */
static void swap_reals(real *a, real *b, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        const real kept = a[i];
        a[i] = b[i];
        b[i] = kept;
    }
}

/* Samples i and j change places: all that outlives a step. Fields do not; `change` is the
 * caller's. */
static void swap_samples(const graph *net, tile *tile, int i, int j) {
    if (i == j) return;
    for (int k = 0; k <= net->L; k++) {
        const int64_t n = net->np[k];
        /* base of the input is NULL; where the layer shows its state, one swap serves both */
        real *const rows[] = {tile->state[k], tile->base[k],
                              tile->shown[k] == tile->state[k] ? NULL : tile->shown[k]};
        for (int r = 0; r < 3; r++)
            if (rows[r]) swap_reals(rows[r] + i * n, rows[r] + j * n, n);
    }
    swap_reals(tile->y + (int64_t)i * net->np[net->L], tile->y + (int64_t)j * net->np[net->L],
               net->np[net->L]);
    for (int c = 0; c < net->n_links; c++) {
        /* places that count as known stay with their samples */
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

/* Before the first step of a relaxation: all samples are active and lie at their own place, and
 * count as doing all steps. */
void tile_begin(const graph *net, tile *tile, const asked *asked) {
    for (int s = 0; s < asked->rows; s++) {
        tile->origin[s] = s;
        asked->steps[s] = asked->n_steps;
        if (asked->residual) asked->residual[s] = 0;
    }
    tile_show(net, tile, asked->rows);
}

/* After step `step` of the first `active` samples: one that has arrived (equations 3: change <= tol
 * dt) leaves the tile, the last active one takes its place. One whose step changed nothing is at a
 * fixed point, to the bit, and counts as having done all steps. Returns how many are active. */
int tile_retire(const graph *net, tile *tile, int active, int step, const asked *asked) {
    /* from the last: the sample that takes a place has been looked at already */
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

/* Each of the first `rows` samples lies again where it began; every swap brings one home. */
void tile_return(const graph *net, tile *tile, int rows) {
    for (int s = 0; s < rows; s++)
        while (tile->origin[s] != s) swap_samples(net, tile, s, tile->origin[s]);
}

/* Relaxes the tile's first samples from their states (equations 3), whose base is there
 * (tile_drive). Returns whether all states are numbers; leaves states, what they show, and of a
 * read-out its force at them. */
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
    /* all samples again: maxima found for the active ones alone are forgotten */
    tile_return(net, tile, asked->rows);
    tile_show(net, tile, asked->rows);
    tile_force(net, tile, asked->rows, asked->beta);
    return good;
}

/* --- the relaxing kernel --- */

/* Network and tile of one thread, laid out in `arena`. */
static void relax_plan(graph *net, tile *tile, eqp_graph_job *job, int thread, int n_threads,
                       arena *arena) {
    graph_plan(net, job, n_threads, 0, arena);
    tile_plan(net, tile, tile_rows_of(net), thread, arena);
}

/* Writes the scratch bytes that graph_relax needs to job->scratch_size. */
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

/* Relaxes the job's rows from job->state, (M, N[k]) for layers 1..L, in place; each thread its
 * share, a tile at a time. A thread returns EQP_E_DIVERGED if one of its own samples is not finite;
 * its other tiles are relaxed all the same. */
int EQP_NAME(graph_relax)(eqp_graph_job *job, int thread, int n_threads) {
    const int status = graph_check(job);
    if (status) return status;
    if (!job->scratch || !job->barrier || !job->state || !job->steps || !job->residual ||
        (job->beta != 0 && !job->y))
        return EQP_E_NULL;
    graph net;
    tile tile;
    arena count = {NULL, 0}, laid = {job->scratch, 0};
    /* counts once more what the job needs, before anything is written */
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
        /* threads meet in graph_pack alone: each may fail by itself */
        good &= tile_relax(&net, &tile, &asked);
        for (int s = 0; s < rows; s++)
            for (int k = 1; k <= net.L; k++)
                to_channels(&net, k, tile.state[k] + (int64_t)s * net.np[k],
                            (real *)job->state[k - 1] + (first + s) * net.n[k]);
    }
    return good ? EQP_OK : EQP_E_DIVERGED;
}
