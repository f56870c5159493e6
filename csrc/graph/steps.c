/* steps.c - second phases that the samples of a batch go through together, step by step: the
 * continual rules (equations 5, 6.2), whose weights move after every step, and the vector field
 * (6.1), which learns from what each step changes.
 *
 * A thread's samples are one tile. Two barriers a step: one when all samples have moved, one when
 * all units are correlated (and, under the continual rules, stepped). */
#include "graph/batch.h"

/* The vector fields: what the layers show before a step, and their states. */
static void keep_before(const graph *net, const tile *tile, batch *batch, int rows, int m0) {
    for (int s = 0; s < rows; s++) {
        const int64_t m = m0 + tile->origin[s];
        for (int k = 0; k <= net->L; k++) {
            const int64_t np = net->np[k];
            copy_reals(batch->low[0][k] + m * np, tile->shown[k] + s * np, np);
            if (k) copy_reals(batch->high[0][k] + m * np, tile->state[k] + s * np, np);
        }
        for (int c = 0; c < net->n_links; c++) {
            const int64_t np = net->np[net->links[c].above];
            if (tile->where[c])
                memcpy(batch->where[0][c] + m * np, tile->where[c] + s * np,
                       (size_t)np * sizeof(int32_t));
        }
    }
}

/* The states that were kept become what the step has changed, times `sign` and the samples'
 * weights; `further`: added to what earlier steps have changed. */
static void keep_change(const graph *net, const tile *tile, batch *batch, int rows,
                        const turn *turn, real sign, int further) {
    for (int s = 0; s < rows; s++) {
        const int64_t m = turn->lo + tile->origin[s];
        const real weight = sign * weight_of(net->job, turn->order[m]);
        for (int k = 1; k <= net->L; k++) {
            real *high = batch->high[0][k] + m * net->np[k];
            real *both = batch->both[k] + m * net->np[k];
            const real *state = tile->state[k] + (int64_t)s * net->np[k];
            for (int i = 0; i < net->n[k]; i++) high[i] = weight * (state[i] - high[i]);
            for (int i = net->n[k]; i < net->np[k]; i++) high[i] = 0;
            for (int i = 0; i < net->np[k]; i++) both[i] = further ? both[i] + high[i] : high[i];
        }
    }
}

/* A sample at rest changes no more. */
static void forget_change(const graph *net, batch *batch, int64_t m) {
    for (int k = 1; k <= net->L; k++)
        memset(batch->high[0][k] + m * net->np[k], 0, (size_t)net->np[k] * sizeof(real));
}

/* One step of the first `active` samples, and what is learnt from it. */
static int step_samples(const graph *net, tile *tile, batch *batch, int active, const turn *turn,
                        real sign, int further, const asked *asked) {
    const int fields = is_vector_field(net->job->rule);
    int good = 1;
    for (int s = 0; s < active; s++) tile->change[s] = 0;
    for (int pass = 0; pass < net->job->n_passes; pass++) {
        tile_fields(net, tile, active, pass, asked);
        if (pass == 0 && fields) {
            for (int c = 0; c < net->n_links; c++) tile_where(net, tile, active, c);
            keep_before(net, tile, batch, active, turn->lo);
        } else if (pass == 0) {
            keep_end(net, tile, batch, 1, active, turn->lo, turn->order + turn->lo);
        }
        good &= tile_finish(net, tile, active, pass, asked);
    }
    if (fields) {
        keep_change(net, tile, batch, active, turn, sign, further);
    } else {
        keep_end(net, tile, batch, 0, active, turn->lo, turn->order + turn->lo);
        add_ends(net, batch, turn->lo, turn->lo + active);
    }
    return good;
}

/* The second phase of the thread's samples, whose free states are in the tile, with its updates.
 * Returns an eqp_status, the same on all threads. */
int step_by_step(graph *net, tile *tile, batch *batch, const turn *turn) {
    const eqp_graph_job *job = net->job;
    const int moves = is_continual(job->rule), rows = turn->hi - turn->lo, T = net->n_threads;
    int steps_done = 0;
    if (job->centered) copy_states(net, tile->state, batch->start, rows);
    for (int e = 0; e <= job->centered; e++) {
        if (e) copy_states(net, batch->start, tile->state, rows);
        const asked asked = {.rows = rows,
                             .beta = e ? -turn->beta : turn->beta,
                             .tol = job->tol_nudged,
                             .dt = job->dt,
                             .n_steps = job->n_nudged_steps,
                             .steps = batch->steps + (e + 1) * batch->B + turn->lo};
        tile_begin(net, tile, &asked);
        int active = rows, of_all = 1;
        for (int step = 0; step < job->n_nudged_steps && of_all; step++, steps_done++) {
            const int further = !moves && steps_done > 0;
            const int good =
                step_samples(net, tile, batch, active, turn, (real)(e ? -1 : 1), further, &asked);
            /* as long as weights move, so may states */
            const int left = moves ? active : tile_retire(net, tile, active, step, &asked);
            batch->active[turn->thread] = left;
            if (!all_good(net, batch, turn->thread, good)) return EQP_E_DIVERGED;
            of_all = 0;
            for (int t = 0; t < T; t++) of_all += batch->active[t];
            correlate(net, tile, batch, turn, further);
            if (moves) learn(net, batch, turn);
            eqp_wait(job->barrier, T);
            for (int s = left; s < active; s++)
                forget_change(net, batch, turn->lo + tile->origin[s]);
            active = left;
            if (!moves) continue;
            tile_show(net, tile, rows);
            tile_drive(net, tile, rows);
        }
        tile_return(net, tile, rows);
    }
    if (!moves && steps_done) learn(net, batch, turn);
    return EQP_OK;
}
