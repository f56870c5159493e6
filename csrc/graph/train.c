/* train.c - learning in networks of any shape (equations 4 to 7, 1.7): many mini-batches in one
 * call. Letters: graph.h, batch.h.
 *
 * A batch:
 *     free_phase      tile after tile of the thread's samples; scores them
 *     second_phase    of the same tile, while its states are in the cache; leaves the ends
 *     -- barrier: all samples have left their ends, and are numbers --
 *     correlate       the contrasts of the thread's units (learn.c)
 *     learn           steps those units, packs them
 *     -- barrier: all weights are stepped --
 * Under the rules that go step by step, steps.c stands behind the first barrier in place of the
 * second phase and what follows it.
 *
 * Threads share the samples of a batch while they relax, and the units of each connection while
 * weights are stepped: sums over samples run in their order whatever the split is. */
#include "graph/batch.h"

/* Reals that a row of weights may take in the buffers of learn.c: n across a dense connection, a
 * kernel of a convolution, or the biases of a layer, and a vector more for its end. */
static int64_t largest_unit(const graph *net) {
    int64_t most = 0;
    for (int c = 0; c < net->n_links; c++) {
        const edge *link = &net->links[c];
        const int64_t n = link->dense ? 0 : link->runs * link->ld;
        most = n > most ? n : most;
    }
    for (int k = 0; k <= net->L; k++) most = net->np[k] > most ? net->np[k] : most;
    return most + PAD;
}

/* Lays out all that a job needs: network, tile, batch. With an empty arena it only counts. */
static void train_plan(graph *net, tile *tile, batch *batch, const eqp_graph_job *job, int thread,
                       int n_threads, arena *arena) {
    graph_plan(net, job, n_threads, 1, arena);
    const int T = n_threads;
    const int64_t B = batch->B = job->batch_size < job->n_rows ? job->batch_size : (int)job->n_rows;
    /* low and high are laid out for both all the same */
    batch->ends = is_vector_field(job->rule) ? 1 : 2;
    /* samples that go step by step wait for all others at each step: the thread's share is one
     * tile, whether it fits in the cache or not */
    const int together = (int)((B + T - 1) / T);
    tile_plan(net, tile, is_stepwise(job->rule) ? together : tile_rows_of(net), thread, arena);
    for (int k = 0; k <= net->L; k++) {
        for (int e = 0; e < 2; e++) {
            batch->low[e][k] = take(arena, B * net->np[k], sizeof(real));
            batch->high[e][k] = take(arena, k ? B * net->np[k] : 0, sizeof(real));
        }
        batch->both[k] = take(arena, k ? B * net->np[k] : 0, sizeof(real));
        batch->start[k] =
            take_own(arena, (int64_t)tile->rows * net->np[k], sizeof(real), thread, T);
        batch->free[k] = job->state && k ? take(arena, B * net->np[k], sizeof(real)) : NULL;
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
    batch->active = take(arena, T, sizeof(int32_t));
    const int64_t unit = largest_unit(net);
    batch->row = take_own(arena, unit, sizeof(real), thread, T);
    batch->moved = take_own(arena, unit, sizeof(real), thread, T);
    batch->v1 = take_own(arena, unit, sizeof(real), thread, T);
    batch->v2 = take_own(arena, unit, sizeof(real), thread, T);
}

/* Cost (equations 2), times its weight, and whether the argmax is the target's, of sample s of the
 * tile, the batch's sample m. Kept by sample, in double: thread 0 adds them up in order. */
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

/* What end e of the contrast shows (equations 4), of `rows` samples of the tile, the batch's m0..:
 * low = a_k; high = the samples' weights times a_k, with a minus at e = 1, so that the contrast is
 * a sum of products; the places of the maxima, which belong to these states (1.7). */
void keep_end(const graph *net, tile *tile, batch *batch, int e, int rows, int m0,
              const int64_t *order) {
    for (int c = 0; c < net->n_links; c++) {
        if (!tile->where[c]) continue;
        /* the end of a phase and every move forget them */
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

/* States of layers 1..L of `rows` samples: rows x np[k] each. */
void copy_states(const graph *net, real *const *from, real *const *to, int rows) {
    for (int k = 1; k <= net->L; k++) copy_reals(to[k], from[k], (int64_t)rows * net->np[k]);
}

/* The free phase of the tile's samples, the batch's m0.. (equations 3), from their particles or
 * from zero; scores them. Over-relaxation (1.6) lengthens its steps alone. Returns whether all
 * states are numbers. */
static int free_phase(const graph *net, tile *tile, batch *batch, int m0, int rows,
                      const int64_t *order) {
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
    const asked asked = {.rows = rows,
                         .tol = job->tol_free,
                         .dt = job->dt * job->over_relaxation,
                         .n_steps = job->n_free_steps,
                         .steps = batch->steps + m0};
    if (!tile_relax(net, tile, &asked)) return 0;
    for (int s = 0; s < rows; s++) {
        /* the free states are what is scored and what persists */
        score(net, tile, batch, s, m0 + s, weight_of(job, order[s]));
        for (int k = 1; k <= net->L && job->state; k++)
            copy_reals(batch->free[k] + (int64_t)(m0 + s) * net->np[k],
                       tile->state[k] + (int64_t)s * net->np[k], net->np[k]);
    }
    return 1;
}

/* The free states become the particles of the thread's rows, when all have begun at theirs. Of a
 * row that is there more than once the last sample counts. */
static void save_particles(const graph *net, const batch *batch, const turn *turn) {
    for (int m = turn->lo; m < turn->hi && net->job->state; m++) {
        const int64_t row = turn->order[m];
        int later = m + 1;
        while (later < turn->rows && turn->order[later] != row) later++;
        for (int k = 1; k <= net->L && later == turn->rows; k++)
            to_channels(net, k, batch->free[k] + (int64_t)m * net->np[k],
                        (real *)net->job->state[k - 1] + row * net->n[k]);
    }
}

/* b of equations 7: beta, or all the way in the contrastive rule; under others beta itself. */
static double pull_of(const eqp_graph_job *job, double beta) {
    return job->rule == RULE_CONTRASTIVE ? 1 : beta;
}

/* The coupled rules: the output is held at o + b (y - o), o being the free one. */
static void pull_output(const graph *net, tile *tile, int rows, double b) {
    real *out = tile->state[net->L];
    for (int64_t i = 0; i < (int64_t)rows * net->np[net->L]; i++)
        if (i % net->np[net->L] < net->n[net->L]) out[i] += (real)b * (tile->y[i] - out[i]);
}

/* The second phase of the tile's samples, or both of centered rules, and their ends: nudged
 * (equations 4) or with the output held (7). Returns whether all states are numbers. */
static int second_phase(const graph *net, tile *tile, batch *batch, int m0, int rows,
                        const int64_t *order, double beta) {
    const eqp_graph_job *job = net->job;
    const int held = job->rule != RULE_EP;
    /* both nudged phases begin at the free states; else those are the other end */
    if (job->centered)
        copy_states(net, tile->state, batch->start, rows);
    else
        keep_end(net, tile, batch, 1, rows, m0, order);
    for (int e = 0; e <= job->centered; e++) {
        const double side = e ? -1 : 1;
        /* tile_relax has put every sample back to its place */
        if (e) copy_states(net, batch->start, tile->state, rows);
        if (held) pull_output(net, tile, rows, side * pull_of(job, beta));
        const asked asked = {.rows = rows,
                             .held = held,
                             .beta = held ? 0 : side * beta,
                             .tol = job->tol_nudged,
                             .dt = job->dt,
                             .n_steps = job->n_nudged_steps,
                             .steps = batch->steps + (e + 1) * batch->B + m0};
        if (!tile_relax(net, tile, &asked)) return 0;
        keep_end(net, tile, batch, e, rows, m0, order);
    }
    return 1;
}

/* both = the two ends of `high` together, of samples [lo, hi): what steps a bias, and what the
 * input's connections meet, as the input is the same at both ends. */
void add_ends(const graph *net, batch *batch, int lo, int hi) {
    for (int k = 1; k <= net->L; k++)
        for (int64_t i = (int64_t)lo * net->np[k]; i < (int64_t)hi * net->np[k]; i++)
            batch->both[k][i] = batch->high[0][k][i] + batch->high[1][k][i];
}

/* Whether a job can be trained: the network, and options that the rule can be combined with. */
static int train_check(const eqp_graph_job *job) {
    const int status = graph_check(job);
    if (status) return status;
    if (!job->y || !job->order || !job->rate || !job->bias_rate || !job->loss || !job->counts)
        return EQP_E_NULL;
    if (job->batch_size < 1 || job->beta == 0 || !(job->over_relaxation > 0)) return EQP_E_SIZE;
    const int by_states = job->rule == RULE_EP || job->rule == RULE_COUPLED ||
                          job->rule == RULE_CONTRASTIVE || is_stepwise(job->rule);
    /* a read-out has no state that could be held or watched step by step */
    if (!by_states || job->gain || (job->readout && job->rule != RULE_EP)) return EQP_E_OPTION;
    /* weights that move at every step have no optimiser's memory and no decay */
    if (is_continual(job->rule) && (job->optimizer != OPT_SGD || job->weight_decay != 0))
        return EQP_E_OPTION;
    if (job->centered && (is_continual(job->rule) || job->rule == RULE_CONTRASTIVE))
        return EQP_E_OPTION;
    if (job->optimizer < 0 || job->optimizer >= N_OPTIMIZERS) return EQP_E_OPTION;
    if ((job->optimizer != OPT_SGD && !job->velocity) ||
        (job->optimizer == OPT_ADAM && !job->second))
        return EQP_E_NULL;
    return EQP_OK;
}

/* Writes the scratch bytes that graph_train needs to job->scratch_size. */
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

/* Thread 0 adds up what a batch has seen, sample after sample, so that the sums have the same bits
 * for any number of threads: loss (cost, right), counts (free steps, nudged steps, samples,
 * batches). */
static void count_batch(const eqp_graph_job *job, const batch *batch, int rows, int learns) {
    for (int m = 0; m < rows; m++) {
        job->loss[0] += batch->cost[m];
        job->loss[1] += batch->right[m];
        /* a sample at a fixed point counts as having done all steps (tile_retire) */
        job->counts[0] += batch->steps[m];
        for (int e = 0; e <= job->centered && learns; e++)
            job->counts[1] += batch->steps[(e + 1) * batch->B + m];
    }
    job->counts[2] += rows;
    job->counts[3]++;
}

/* Batch `number`: free phase, second phases, update (equations 3 to 7). Returns an eqp_status, the
 * same on all threads. */
static int train_batch(graph *net, tile *tile, batch *batch, int64_t number, int thread) {
    const eqp_graph_job *job = net->job;
    const int T = net->n_threads;
    const int64_t left = job->n_rows - number * batch->B;
    turn turn = {.rows = (int)(left < batch->B ? left : batch->B),
                 .thread = thread,
                 .order = job->order + number * batch->B,
                 .number = number,
                 .beta = job->beta * (job->sign ? job->sign[number] : 1)};
    turn.lo = (int)share(turn.rows, thread, T), turn.hi = (int)share(turn.rows, thread + 1, T);
    /* every thread adds up all weights in their order: no barrier, the same bits */
    double total = 0;
    for (int m = 0; m < turn.rows; m++) total += (double)weight_of(job, turn.order[m]);
    /* without weight nothing is learnt: no second phase, no step */
    const int learns = total > 0, together = is_stepwise(job->rule);
    /* 1 / (span B) of equations 4, B as the sum of weights; not used where that is 0 */
    turn.scale = 1 / ((job->centered ? 2 : 1) * pull_of(job, turn.beta) * total);
    int good = 1;
    /* the thread stops at its first bad tile; all stop behind the barrier */
    for (int m = turn.lo; m < turn.hi && good; m += tile->rows) {
        const int some = turn.hi - m < tile->rows ? turn.hi - m : tile->rows;
        good = free_phase(net, tile, batch, m, some, turn.order + m) &&
               (!learns || together ||
                second_phase(net, tile, batch, m, some, turn.order + m, turn.beta));
    }
    if (learns && !together && good) add_ends(net, batch, turn.lo, turn.hi);
    /* the first barrier: correlations are over the samples of all threads */
    if (!all_good(net, batch, thread, good)) return EQP_E_DIVERGED;
    if (learns && together) {
        eqp_wait(job->barrier, T); /* all have seen all `bad`, before it is written again */
        const int status = step_by_step(net, tile, batch, &turn);
        if (status != EQP_OK) return status;
    }
    save_particles(net, batch, &turn);
    if (thread == 0) count_batch(job, batch, turn.rows, learns);
    if (learns && !together) {
        correlate(net, tile, batch, &turn, 0);
        learn(net, batch, &turn);
    }
    /* all weights are packed before a thread relaxes with them; the ends and costs of this batch
     * have been read before the next one writes there */
    eqp_wait(job->barrier, T);
    return EQP_OK;
}

/* Trains on the job's rows in mini-batches, all threads together. A batch that is not finite ends
 * the job before its update; under the continual rules before the update of the step at hand. */
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
        const int done = train_batch(&net, &tile, &batch, number, thread);
        if (done != EQP_OK) return done;
    }
    return EQP_OK;
}
