/* learn.c - learning of Boltzmann machines and Hopfield networks: first phase, second phase, step;
 * many mini-batches in one call (equations 14; twin: boltzmann_train of
 * kernels/reference/boltzmann.py). Letters: boltzmann.h, eqp_boltzmann_train_job of core/jobs.h.
 *
 *     first      states of the first phase, data clamped: B x np[k]
 *     second     of the second: what the chains show, C x np[k], or what becomes of the data when
 *                they are released, B x np[k]; drawn layers of odd number show their probabilities
 *     n          rows of this batch, n_second of its second phase; the last batch may be short
 *     high, low  of a layer the mean in either phase, of a matrix the sum of products
 *     gap        high - low, of means
 *     offset     o, the states' zero in the gradient
 *     b, i, c    rows of a batch; rows and columns of a weight matrix
 *
 * In time, batch after batch:
 *     run_phases      both phases                        every thread its rows and its chains
 *     -- barrier: all states of the batch are there --
 *     average         means, offsets                     every thread all, for itself
 *     step_weights    gradient, step, transpose          every thread its runs of rows of all W_k
 *     step_biases                                        thread 0
 *     -- barrier: the machine is stepped, and no thread reads these states any more --
 * Means and offsets are few: every thread has its own, and all are equal; so no barrier stands
 * between them and the steps.
 *
 * Sums run over the rows of a batch in their order, whoever takes them: results are bit-equal for
 * any number of threads. The machine stays packed from batch to batch; the caller's arrays are
 * written at the end, so that a job that diverges leaves them as they were. */
#include "boltzmann/boltzmann.h"

/* A job as a thread has it. What is not said to be the thread's own is shared by all. */
typedef struct {
    const eqp_boltzmann_train_job *job;
    int thread, n_threads, B, C;
    bm_net net;
    bm_work work;
    /* chain: states of the second phase; shown: their probabilities; without draws one array */
    real *first[BM_LAYERS], *chain[BM_LAYERS], *shown[BM_LAYERS];
    real *velocity[EQP_MAX_WEIGHTS];                            /* in panels, as net.up */
    real *bias_velocity[BM_LAYERS];                             /* np[k] */
    real *high[BM_LAYERS], *gap[BM_LAYERS], *offset[BM_LAYERS]; /* np[k], the thread's own */
    real *slope;                                                /* widest: thread 0's */
    int32_t *bad;                                               /* 1: something is not finite */
    int64_t bytes;
} learner;

/* Checks the sizes and lays everything out in `base`; with NULL it only counts the bytes. All
 * threads count through the same plan, and so see the same addresses. */
static int make_learner(learner *it, const eqp_boltzmann_train_job *job, char *base, int thread,
                        int n_threads) {
    *it = (learner){.job = job, .thread = thread, .n_threads = n_threads};
    const int status = bm_sizes(&it->net, job->n_weights, job->size, job->categorical_top);
    if (status != EQP_OK) return status;
    if (job->batch_size < 1 || job->n_chains < 1 || job->n_rows < 0) return EQP_E_SIZE;
    it->B = (int)(job->batch_size < job->n_rows ? job->batch_size : job->n_rows);
    /* without draws the second phase goes on from the batch's own rows */
    it->C = job->draw ? job->n_chains : it->B;
    const bm_net *net = &it->net;
    bm_arena arena = {base, 0};
    /* one flag on a cache line of its own */
    it->bad = (int32_t *)bm_take(&arena, 16);
    bm_plan_net(&it->net, &arena);
    it->work = bm_plan_work(net, &arena, thread, n_threads);
    for (int k = 0; k <= net->L; k++) {
        it->first[k] = bm_take(&arena, it->B * net->np[k]);
        it->chain[k] = bm_take(&arena, it->C * net->np[k]);
        it->shown[k] = job->draw ? bm_take(&arena, it->C * net->np[k]) : it->chain[k];
        if (job->velocity) it->bias_velocity[k] = bm_take(&arena, net->np[k]);
        if (job->velocity && k < net->L)
            it->velocity[k] = bm_take(&arena, net->n[k] * net->np[k + 1]);
    }
    for (int t = 0; t < n_threads; t++)
        for (int k = 0; k <= net->L; k++) {
            real *high = bm_take(&arena, net->np[k]), *gap = bm_take(&arena, net->np[k]);
            real *offset = bm_take(&arena, net->np[k]);
            if (t == thread) it->high[k] = high, it->gap[k] = gap, it->offset[k] = offset;
        }
    it->slope = bm_take(&arena, net->widest);
    it->bytes = arena.used;
    return EQP_OK;
}

/* What else must hold of a job before anything is written: all threads find the same, so that
 * either all or none come to a barrier. Entries of `velocity`, `offset` and `order` are not looked
 * at. */
static int check_job(const eqp_boltzmann_train_job *job) {
    if (!job->weight || !job->bias || !job->particle || !job->counts) return EQP_E_NULL;
    if (job->n_rows && (!job->x || !job->order)) return EQP_E_NULL;
    for (int k = 0; k <= job->n_weights; k++)
        if (!job->bias[k] || !job->particle[k] || (k < job->n_weights && !job->weight[k]))
            return EQP_E_NULL;
    return job->n_mean_field < 0 || job->n_sweeps < 1 || job->seed < 0 || job->first_sweep < 0
               ? EQP_E_SIZE
               : EQP_OK;
}

/* Velocities of rows lo .. hi of W_k from the caller's matrix (n[k] x n[k + 1]) to panels, or
 * (back) from them. */
static void move_velocity(const learner *it, int k, int64_t lo, int64_t hi, int back) {
    const bm_net *net = &it->net;
    const int64_t rows = net->n[k], cols = net->n[k + 1];
    for (int p = 0; p < n_panels(cols); p++) {
        const int64_t c0 = (int64_t)p * PW, width = panel_width(cols, p);
        const int64_t valid = cols - c0 < width ? cols - c0 : width;
        for (int64_t i = lo; i < hi; i++) {
            real *packed = panel_at(it->velocity[k], rows, p) + i * width;
            real *plain = (real *)it->job->velocity[k] + i * cols + c0;
            if (back)
                copy_reals(plain, packed, valid);
            else
                bm_copy_row(packed, plain, valid, width);
        }
    }
}

/* The job into the scratch: machine, chains, velocities, offsets; each thread its part. Others read
 * it, and step_weights cuts the rows differently: a barrier has to follow. */
static void open_learner(learner *it) {
    const bm_net *net = &it->net;
    const eqp_boltzmann_train_job *job = it->job;
    const int t = it->thread, T = it->n_threads;
    if (t == 0) *it->bad = 0;
    bm_pack(net, job->weight, job->bias, t, T);
    for (int k = 0; k <= net->L; k++) {
        const int64_t np = net->np[k], b0 = bm_share(it->B, t, T), b1 = bm_share(it->B, t + 1, T);
        const int64_t c0 = bm_share(it->C, t, T), c1 = bm_share(it->C, t + 1, T);
        /* nothing else zeroes the padding of these, and means and gradients run over it; without
         * draws `shown` is `chain`, zeroed twice */
        memset(it->first[k] + b0 * np, 0, (size_t)((b1 - b0) * np) * sizeof(real));
        memset(it->chain[k] + c0 * np, 0, (size_t)((c1 - c0) * np) * sizeof(real));
        memset(it->shown[k] + c0 * np, 0, (size_t)((c1 - c0) * np) * sizeof(real));
        for (int64_t c = c0; job->draw && c < c1; c++)
            copy_reals(it->chain[k] + c * np, (real *)job->particle[k] + c * net->n[k], net->n[k]);
        /* without centering o = 0, in the same formulas */
        if (job->offset)
            bm_copy_row(it->offset[k], job->offset[k], net->n[k], np);
        else
            memset(it->offset[k], 0, (size_t)np * sizeof(real));
        if (job->velocity && t == 0)
            bm_copy_row(it->bias_velocity[k], job->velocity[net->L + k], net->n[k], np);
        if (job->velocity && k < net->L)
            move_velocity(it, k, bm_share(net->n[k], t, T), bm_share(net->n[k], t + 1, T), 0);
    }
}

/* And back to the caller's arrays: each thread its chains, its rows of weights and of their
 * velocities, thread 0 the biases, theirs, and the offsets. A barrier has to be before it. */
static void close_learner(const learner *it) {
    const bm_net *net = &it->net;
    const eqp_boltzmann_train_job *job = it->job;
    const int t = it->thread, T = it->n_threads;
    for (int k = 0; k <= net->L; k++) {
        const int64_t c0 = bm_share(it->C, t, T), c1 = bm_share(it->C, t + 1, T);
        for (int64_t c = c0; job->draw && c < c1; c++)
            copy_reals((real *)job->particle[k] + c * net->n[k], it->chain[k] + c * net->np[k],
                       net->n[k]);
        if (t == 0) {
            copy_reals(job->bias[k], net->bias[k], net->n[k]);
            if (job->offset) copy_reals(job->offset[k], it->offset[k], net->n[k]);
            if (job->velocity)
                copy_reals(job->velocity[net->L + k], it->bias_velocity[k], net->n[k]);
        }
        if (k == net->L) break; /* one matrix fewer than layers */
        const int64_t lo = bm_share(net->n[k], t, T), hi = bm_share(net->n[k], t + 1, T);
        if (job->velocity) move_velocity(it, k, lo, hi, 1);
        for (int p = 0; p < n_panels(net->n[k + 1]); p++) {
            const int64_t c0 = (int64_t)p * PW, width = panel_width(net->n[k + 1], p);
            const int64_t left = net->n[k + 1] - c0, valid = left < width ? left : width;
            for (int64_t i = lo; i < hi; i++)
                copy_reals((real *)job->weight[k] + i * net->n[k + 1] + c0,
                           panel_at(net->up[k], net->n[k], p) + i * width, valid);
        }
    }
}

/* Both phases (equations 14) of the thread's part of batch number `batch`: n rows, from place
 * `start` of the job's order on. Leaves states in first, chain and shown; counts the first phase's
 * sweeps. */
static void run_phases(learner *it, int64_t start, int n, int64_t batch) {
    const bm_net *net = &it->net;
    const eqp_boltzmann_train_job *job = it->job;
    const int t = it->thread, T = it->n_threads, L = net->L;
    const int64_t lo = bm_share(n, t, T), hi = bm_share(n, t + 1, T);
    /* held: the data, layer 0, and labels if there are any */
    int8_t held[BM_LAYERS] = {1}, released[BM_LAYERS] = {0};
    held[L] = job->y != NULL;
    /* first phase: mean field, odd layers first */
    bm_task task = {.clamped = held,
                    .n_sweeps = job->n_mean_field,
                    .upward = 1,
                    .tol = job->tol,
                    .seed = job->seed};
    for (int k = 0; k <= L; k++) task.state[k] = it->first[k], task.ld[k] = net->np[k];
    for (int64_t b = lo; b < hi; b++) {
        const int64_t row = job->order[start + b];
        copy_reals(it->first[0] + b * net->np[0], (const real *)job->x + row * net->n[0],
                   net->n[0]);
        if (job->y)
            copy_reals(it->first[L] + b * net->np[L], (const real *)job->y + row * net->n[L],
                       net->n[L]);
    }
    const int64_t taken = bm_run(net, &task, &it->work, lo, hi);
    /* of whole numbers: the order of the threads does not matter */
    __atomic_add_fetch(&job->counts[1], taken, __ATOMIC_RELAXED);

    /* second phase: of the chains where they are, or of copies of the rows */
    for (int k = 0; k <= L; k++) {
        task.state[k] = it->chain[k];
        task.mean[k] = job->draw ? it->shown[k] : NULL;
        for (int64_t b = lo; !job->draw && b < hi; b++)
            copy_reals(it->chain[k] + b * net->np[k], it->first[k] + b * net->np[k], net->np[k]);
    }
    if (!job->draw && job->y) {
        /* what the data infer without labels, before they are released; these sweeps are not
         * counted */
        held[L] = 0;
        bm_run(net, &task, &it->work, lo, hi);
    }
    /* nothing held; even layers first, so that odd ones show what they were drawn from last; no
     * row stops early. Draws are numbered by chain and sweep: no two batches share a sweep */
    task.clamped = released, task.n_sweeps = job->n_sweeps, task.upward = 0, task.tol = -1;
    task.draw = job->draw, task.even_first = 1;
    task.first_sweep = job->first_sweep + batch * job->n_sweeps;
    bm_run(net, &task, &it->work, job->draw ? bm_share(it->C, t, T) : lo,
           job->draw ? bm_share(it->C, t + 1, T) : hi);
}

/* What layer k shows in the second phase (n_second x np[k], equations 14): layers of odd number,
 * renewed last, their probabilities, which vary less than draws; the others their states. */
EQP_INLINE const real *second_of(const learner *it, int k) {
    return k % 2 ? it->shown[k] : it->chain[k];
}

/* out (np) = the mean of the rows of s (rows x np), summed in their order. */
static void mean_of(const real *s, int rows, int64_t np, real *out) {
    for (int64_t c = 0; c < np; c += VL) {
        vec sum = vset(0);
        for (int b = 0; b < rows; b++) sum = vadd(sum, vload(s + b * np + c));
        vstore(out + c, vdiv(sum, vset((real)rows)));
    }
}

/* Of every layer the first phase's mean (high), its difference to the second's (gap), and the
 * offset that follows it, o += offset_rate (high - o) (equations 14). Each thread the same for
 * itself. */
static void average(learner *it, int n, int n_second) {
    const bm_net *net = &it->net;
    const vec rate = vset((real)it->job->offset_rate);
    for (int k = 0; k <= net->L; k++) {
        real *high = it->high[k], *gap = it->gap[k], *offset = it->offset[k];
        mean_of(it->first[k], n, net->np[k], high);
        mean_of(second_of(it, k), n_second, net->np[k], gap);
        for (int64_t c = 0; c < net->np[k]; c += VL) {
            const vec h = vload(high + c), o = vload(offset + c);
            /* gap held the mean of the second phase until here */
            vstore(gap + c, vsub(h, vload(gap + c)));
            if (it->job->offset) vstore(offset + c, vfma(rate, vsub(h, o), o));
        }
    }
}

/* Steps panel p of rows i0 .. i0 + mr of W_k, mr <= MR_MAX, within one panel of the transpose
 * (equations 14):
 *     G = high / n - low / n_second - gap_k o_{k+1}' - o_k gap_{k+1}'
 *     v = momentum v + G - decay W_k
 *     W_k += rate v
 * and copies them to the transpose. Returns sums of 0 * weight: not 0 if one is not finite. */
static vec step_tile(const learner *it, int k, int p, int64_t i0, int mr, int n, int n_second) {
    const bm_net *net = &it->net;
    const eqp_boltzmann_train_job *job = it->job;
    const int64_t cols = net->n[k + 1], c0 = (int64_t)p * PW;
    const int width = panel_width(cols, p);
    real high[MR_MAX * PW], low[MR_MAX * PW];
    /* A read down its columns: the rows of the batch are what is summed over, in their order */
    const operand first = {it->first[k] + i0, it->first[k + 1] + c0, 1,
                           net->np[k],        net->np[k + 1],        n};
    const operand second = {
        second_of(it, k) + i0, second_of(it, k + 1) + c0, 1, net->np[k], net->np[k + 1], n_second};
    gemm_tile(mr, width, it->work.zeros, 0, high, PW, &first, 1);
    gemm_tile(mr, width, it->work.zeros, 0, low, PW, &second, 1);
    const vec by_n = vset(1 / (real)n), by_second = vset(1 / (real)n_second);
    const vec rate = vset((real)job->rate), momentum = vset((real)job->momentum);
    const vec decay = vset((real)job->weight_decay), zero = vset(0);
    vec finite = zero;
    for (int m = 0; m < mr; m++) {
        real *w = panel_at(net->up[k], net->n[k], p) + (i0 + m) * width;
        const vec gap = vset(it->gap[k][i0 + m]), offset = vset(it->offset[k][i0 + m]);
        for (int c = 0; c < width; c += VL) {
            vec g = vsub(vmul(by_n, vload(high + m * PW + c)),
                         vmul(by_second, vload(low + m * PW + c)));
            /* centered: the difference of both phases' means of (s_k - o_k)(s_{k+1} - o_{k+1})' */
            g = vfnma(gap, vload(it->offset[k + 1] + c0 + c), g);
            g = vfnma(offset, vload(it->gap[k + 1] + c0 + c), g);
            const vec old = vload(w + c);
            vec step = vfnma(decay, old, g);
            if (job->velocity) {
                real *v = panel_at(it->velocity[k], net->n[k], p) + (i0 + m) * width + c;
                step = vfma(momentum, vload(v), step);
                vstore(v, step);
            }
            const vec new = vfma(rate, step, old);
            vstore(w + c, new);
            finite = vfma(zero, new, finite); /* 0 * inf and 0 * nan are nan */
        }
    }
    /* the transpose, while the rows are in the cache; its padding stays as bm_pack left it */
    const int64_t valid = cols - c0 < width ? cols - c0 : width;
    const int q = (int)(i0 / PW);
    const int64_t ld = panel_width(net->n[k], q);
    real *down = panel_at(net->down[k], cols, q) + (i0 - (int64_t)q * PW);
    const real *w = panel_at(net->up[k], net->n[k], p) + i0 * width;
    for (int64_t c = 0; c < valid; c++)
        for (int m = 0; m < mr; m++) down[(c0 + c) * ld + m] = w[m * width + c];
    return finite;
}

/* Steps the thread's part of all weights: runs of at most PW rows, which lie in one panel of the
 * transpose, so that threads share no cache line of it. Returns 1 if all are finite. */
static int step_weights(const learner *it, int n, int n_second) {
    const bm_net *net = &it->net;
    vec finite = vset(0);
    int64_t runs = 0, run = 0;
    for (int k = 0; k < net->L; k++) runs += n_panels(net->n[k]);
    const int64_t lo = bm_share(runs, it->thread, it->n_threads);
    const int64_t hi = bm_share(runs, it->thread + 1, it->n_threads);
    for (int k = 0; k < net->L; k++)
        for (int q = 0; q < n_panels(net->n[k]); q++, run++) {
            if (run < lo || run >= hi) continue;
            const int64_t i0 = (int64_t)q * PW;
            const int rows = (int)(net->n[k] - i0 < PW ? net->n[k] - i0 : PW);
            for (int p = 0; p < n_panels(net->n[k + 1]); p++)
                for (int b = 0; b < row_blocks(rows); b++) {
                    const int m = row_start(rows, b), mr = row_start(rows, b + 1) - m;
                    finite = vadd(finite, step_tile(it, k, p, i0 + m, mr, n, n_second));
                }
        }
    return vequal(finite, vset(0));
}

/* a . b, of n reals, a multiple of PAD; in an order of its own, but always the same. */
EQP_INLINE real dot(const real *a, const real *b, int64_t n) {
    vec sum = vset(0);
    for (int64_t c = 0; c < n; c += VL) sum = vfma(vload(a + c), vload(b + c), sum);
    return vhsum(sum);
}

/* out (n) += factor a; n a multiple of PAD. */
EQP_INLINE void add_times(real factor, const real *a, int64_t n, real *out) {
    for (int64_t c = 0; c < n; c += VL)
        vstore(out + c, vfma(vset(factor), vload(a + c), vload(out + c)));
}

/* slope (np[k]) -= G o, G the gradient of the weights between layers k and `other`, above or below,
 * as a matrix with the rows of k, and o the offset of `other` (equations 14). G itself is not
 * formed: of a row of the batch s_k (s_other . o) is enough. */
static void subtract_shift(learner *it, int k, int other, int n, int n_second) {
    const int64_t np = it->net.np[k], n_other = it->net.np[other];
    const real *offset = it->offset[other];
    for (int b = 0; b < n; b++)
        add_times(-dot(it->first[other] + b * n_other, offset, n_other) / (real)n,
                  it->first[k] + b * np, np, it->slope);
    for (int b = 0; b < n_second; b++)
        add_times(dot(second_of(it, other) + b * n_other, offset, n_other) / (real)n_second,
                  second_of(it, k) + b * np, np, it->slope);
    /* what G has lost by centering comes back: gap_k (o . o) + o_k (gap_other . o) */
    add_times(dot(offset, offset, n_other), it->gap[k], np, it->slope);
    add_times(dot(it->gap[other], offset, n_other), it->offset[k], np, it->slope);
}

/* Steps all biases: b_k += rate v, v = momentum v + gap_k - G_k o_{k+1} - G_{k-1}' o_{k-1}
 * (equations 14), without decay. Of a batch's states and means alone, so it may run beside
 * step_weights. Returns 1 if all are finite. */
static int step_biases(learner *it, int n, int n_second) {
    const bm_net *net = &it->net;
    const eqp_boltzmann_train_job *job = it->job;
    vec finite = vset(0);
    for (int k = 0; k <= net->L; k++) {
        copy_reals(it->slope, it->gap[k], net->np[k]);
        if (job->offset && k > 0) subtract_shift(it, k, k - 1, n, n_second);
        if (job->offset && k < net->L) subtract_shift(it, k, k + 1, n, n_second);
        for (int64_t c = 0; c < net->np[k]; c += VL) {
            vec step = vload(it->slope + c);
            if (job->velocity) {
                step = vfma(vset((real)job->momentum), vload(it->bias_velocity[k] + c), step);
                vstore(it->bias_velocity[k] + c, step);
            }
            const vec new = vfma(vset((real)job->rate), step, vload(net->bias[k] + c));
            vstore(net->bias[k] + c, new);
            finite = vfma(vset(0), new, finite);
        }
    }
    return vequal(finite, vset(0));
}

/* Writes the scratch bytes that boltzmann_train needs to job->scratch_size. */
int EQP_NAME(boltzmann_train_scratch)(eqp_boltzmann_train_job *job, int thread, int n_threads) {
    learner it;
    (void)thread;
    const int status = make_learner(&it, job, NULL, 0, n_threads);
    if (status == EQP_OK) job->scratch_size = it.bytes;
    return status;
}

/* A step of the parameters for each of the job's mini-batches (equations 14), all threads together;
 * adds their number to counts[0], mean-field sweeps to counts[1]. Parameters that are not finite
 * end it: all of the caller's arrays but `counts` are then as they were. */
int EQP_NAME(boltzmann_train)(eqp_boltzmann_train_job *job, int thread, int n_threads) {
    learner it;
    int status = make_learner(&it, job, job->scratch, thread, n_threads);
    if (status == EQP_OK) status = check_job(job);
    if (status != EQP_OK) return status;
    if (!job->scratch || job->scratch_size < it.bytes) return EQP_E_SCRATCH;
    if (job->n_rows == 0) return EQP_OK;
    open_learner(&it);
    /* the machine and the chains are there */
    eqp_wait(job->barrier, n_threads);
    int64_t batch = 0;
    for (int64_t start = 0; start < job->n_rows; start += job->batch_size, batch++) {
        const int64_t left = job->n_rows - start;
        const int n = (int)(left < job->batch_size ? left : job->batch_size);
        const int n_second = job->draw ? it.C : n;
        run_phases(&it, start, n, batch);
        /* gradients sum over everyone's rows */
        eqp_wait(job->barrier, n_threads);
        average(&it, n, n_second);
        int finite = step_weights(&it, n, n_second);
        if (thread == 0) finite &= step_biases(&it, n, n_second);
        /* seen by all behind the barrier: they leave together; no one can be a batch ahead */
        if (!finite) __atomic_store_n(it.bad, 1, __ATOMIC_RELAXED);
        eqp_wait(job->barrier, n_threads);
        if (__atomic_load_n(it.bad, __ATOMIC_RELAXED)) return EQP_E_DIVERGED;
    }
    if (thread == 0) job->counts[0] += batch;
    close_learner(&it);
    return EQP_OK;
}
