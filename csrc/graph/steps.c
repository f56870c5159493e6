/* steps.c - second phases that the samples of a batch go through together, step by step: the
 * continual rules (equations 5, 6.2), whose weights move after every step, and the vector field
 * (6.1), which learns from what each step changes. Letters: graph.h, batch.h.
 *
 * A step:
 *     step_samples    the thread's samples move; what is to be correlated is kept
 *     -- barrier: all samples have moved --
 *     correlate       the thread's units; the vector field adds to its earlier steps
 *     learn           continual rules: steps the thread's units
 *     -- barrier: all units are correlated, and stepped --
 *
 * A thread's samples are one tile (train_plan). What is kept of a sample lies at its place in the
 * batch, wherever it lies in the tile, so that sums keep the order of the samples. Under the
 * continual rules none leaves the tile: the two places are the same. */
#include "graph/batch.h"

/* The vector fields, before a step: low = what the layers show, a(t) of equations 6; high = their
 * states, for keep_change to subtract; the places of the maxima. `rows` samples, the batch's from
 * m0 on. */
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

/* high = sign w (s(t+1) - s(t)), w the sample's weight: equations 6, with sign -1 in the phase at
 * -beta. both = its sum over the steps, for biases; `further`: there have been earlier ones. */
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
            /* past the units there is no change */
            for (int i = net->n[k]; i < net->np[k]; i++) high[i] = 0;
            for (int i = 0; i < net->np[k]; i++) both[i] = further ? both[i] + high[i] : high[i];
        }
    }
}

/* A sample at rest changes no more: high = 0. Its row is still in the products of all further
 * steps. */
static void forget_change(const graph *net, batch *batch, int64_t m) {
    for (int k = 1; k <= net->L; k++)
        memset(batch->high[0][k] + m * net->np[k], 0, (size_t)net->np[k] * sizeof(real));
}

/* One step of the first `active` samples, and what is learnt from it: its change (vector fields),
 * or its two ends (continual EP, equations 5: after the step, and before it with a minus). Returns
 * whether all states are numbers. */
static int step_samples(const graph *net, tile *tile, batch *batch, int active, const turn *turn,
                        real sign, int further, const asked *asked) {
    const int fields = is_vector_field(net->job->rule);
    int good = 1;
    for (int s = 0; s < active; s++) tile->change[s] = 0;
    for (int pass = 0; pass < net->job->n_passes; pass++) {
        tile_fields(net, tile, active, pass, asked);
        /* after the first fields, which show nothing new but have found most maxima on their way;
         * the vector fields copy all places, so all must be known */
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
    /* both phases begin at the free states */
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
        /* a thread without samples, or with none active, goes along to every barrier */
        int active = rows, of_all = 1;
        for (int step = 0; step < job->n_nudged_steps && of_all; step++, steps_done++) {
            /* the vector field's contrast is one sum over all steps of both phases (equations
             * 6.1) */
            const int further = !moves && steps_done > 0;
            const int good =
                step_samples(net, tile, batch, active, turn, (real)(e ? -1 : 1), further, &asked);
            /* as long as weights move, so may states */
            const int left = moves ? active : tile_retire(net, tile, active, step, &asked);
            batch->active[turn->thread] = left;
            /* all changes and ends are there, and all counts of active samples */
            if (!all_good(net, batch, turn->thread, good)) return EQP_E_DIVERGED;
            of_all = 0;
            for (int t = 0; t < T; t++) of_all += batch->active[t];
            correlate(net, tile, batch, turn, further);
            if (moves) learn(net, batch, turn);
            /* nobody reads this step's changes any more, or works with weights half stepped */
            eqp_wait(job->barrier, T);
            for (int s = left; s < active; s++)
                forget_change(net, batch, turn->lo + tile->origin[s]);
            active = left;
            if (!moves) continue;
            /* new weights: new drive, and maxima may lie elsewhere */
            tile_show(net, tile, rows);
            tile_drive(net, tile, rows);
        }
        tile_return(net, tile, rows);
    }
    /* thread 0 will count the steps of all: without a step no thread has waited for the others */
    if (!steps_done) eqp_wait(job->barrier, T);
    if (!moves && steps_done) learn(net, batch, turn);
    return EQP_OK;
}
