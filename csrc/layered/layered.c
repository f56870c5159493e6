/* layered.c - layered networks: checks and scratch, the input drive, one step of a layer,
 * relaxation, and the kernel layered_relax (1602.05179, 1905.13633; docs/equations.md 1-3). The
 * twin is kernels/reference/layered.py; the letters are in layered.h.
 *
 * A step of layer k, for the samples of a team:
 *     field = shown_{k-1} W_{k-1} + shown_{k+1} back_k + bias_k
 *     s_k  <- finish_vec(field, s_k, nudge)                                  (finish.h)
 *
 * The field of layer 1 has the drive in place of its first and last term: what the input adds is
 * the same at every step, and made once.
 *
 * A relaxation of a team:
 *     load_samples     drive, targets and first states into the team's buffers
 *     step_layers      n_steps times, or until all rest: the layers in the order of the schedule,
 *                      each by step_layer: field_terms, gemm_tile, finish_tile
 *     retire           after a step: samples that have arrived are written out (emit), and the last
 *                      active ones take their rows, so that what is left stays dense
 * Threads of a team share the columns of a layer and meet after each group of layers that move at
 * once; a team of one thread never waits.
 *
 *     act, ACT     an activation, known when the loop is compiled (EQP_WITH_ACT)
 *     m0, mr       first row of a register tile, its rows
 *     asked        what a relaxation is asked: phase, order, tolerance, where to start and end
 *     origin       which sample an active row is, since samples that have arrived leave
 */
#include "layered/finish.h"

/* --- checks and scratch --- */

/* Whether a job describes a network: arrays, sizes and options. Contents of index arrays cannot be
 * checked here; kernels/checks does. */
int layered_check(const eqp_layered_job *job) {
    if (!job->size || !job->weight || !job->bias) return EQP_E_NULL;
    if (job->n_weights < 1 || job->n_weights > EQP_MAX_WEIGHTS || job->n_rows < 0)
        return EQP_E_SIZE;
    for (int k = 0; k <= job->n_weights; k++)
        if (job->size[k] < 1) return EQP_E_SIZE;
    for (int k = 0; k < job->n_weights; k++)
        if (!job->weight[k] || !job->bias[k] || (job->back && k > 0 && !job->back[k]))
            return EQP_E_NULL;
    if (!job->x && !job->indptr) return EQP_E_NULL;
    if (job->indptr && (!job->indices || !job->data)) return EQP_E_NULL;
    /* each option, and how many values it has */
    const int32_t options[][2] = {{job->dynamics, N_DYNAMICS},
                                  {job->schedule, 3},
                                  {job->activation, N_ACTIVATIONS},
                                  {job->out_activation, N_ACTIVATIONS},
                                  {job->input_activation, N_ACTIVATIONS},
                                  {job->cost, N_COSTS}};
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++)
        if (options[i][0] < 0 || options[i][0] >= options[i][1]) return EQP_E_OPTION;
    if (job->n_free_steps < 0 || job->n_nudged_steps < 0) return EQP_E_SIZE;
    return EQP_OK;
}

/* Lays the buffers of one team of `rows` samples and n_threads threads out in the arena. In the
 * discrete dynamics a layer shows its state: one array serves as both. */
void team_plan(const network *net, team *team, int rows, int n_threads, arena *arena) {
    const int L = net->L;
    team->rows = rows;
    team->drive = TAKE_REALS(arena, rows * net->np[1]);
    team->y = TAKE_REALS(arena, rows * net->np[L]);
    team->prediction = TAKE_REALS(arena, rows * net->np[L]);
    for (int k = 1; k <= L; k++)
        for (int i = 0; i < 2; i++) {
            team->state[k][i] = TAKE_REALS(arena, rows * net->np[k]);
            team->shown[k][i] =
                net->euler ? TAKE_REALS(arena, rows * net->np[k]) : team->state[k][i];
        }
    for (int i = 0; i < 2; i++)
        team->residual[i] = TAKE_REALS(arena, (int64_t)n_threads * rows * LANES);
    team->feedback = net->narrow ? TAKE_REALS(arena, net->np[1] * NARROW_MAX) : NULL;
    team->forward =
        net->narrow && net->job->back ? TAKE_REALS(arena, net->np[1] * NARROW_MAX) : team->feedback;
    team->origin = take(arena, (int64_t)n_threads * rows, sizeof(int32_t));
}

/* rho of one number, with the rounding that the vectors have. */
static real scalar_rho(int act, real x) {
    real out[LANES];
    const vec v = vset(x);
    EQP_WITH_ACT(act, vstore(out, act_rho(ACT, v)));
    return out[0];
}

/* Lays out weight[k], what feeds back through it, bias[k], and the moments of each. Without an
 * optimiser's memory the moments alias the parameters and are never touched. */
static void weights_plan(network *net, int k, arena *arena) {
    const eqp_layered_job *job = net->job;
    const int L = net->L;
    const int64_t forward = net->n[k] * net->np[k + 1], backward = net->n[k + 1] * net->np[k];
    net->w[k] = TAKE_REALS(arena, forward);
    net->back[k] = k ? TAKE_REALS(arena, backward) : NULL; /* nothing acts on the input */
    net->bias[k] = TAKE_REALS(arena, net->np[k + 1]);
    net->velocity[k] = job->velocity ? TAKE_REALS(arena, forward) : net->w[k];
    net->velocity[L + k] = job->velocity ? TAKE_REALS(arena, net->np[k + 1]) : net->bias[k];
    net->second[k] = job->second ? TAKE_REALS(arena, forward) : net->w[k];
    net->second[L + k] = job->second ? TAKE_REALS(arena, net->np[k + 1]) : net->bias[k];
    /* feedback of its own has moments only where it learns (jobs.h) */
    const int own_back = k > 0 && job->back, slot = 2 * L + k;
    net->velocity[slot] = own_back && job->velocity && job->velocity[slot]
                              ? TAKE_REALS(arena, backward)
                              : net->back[k];
    net->second[slot] =
        own_back && job->second && job->second[slot] ? TAKE_REALS(arena, backward) : net->back[k];
}

/* Lays the packed network and `n_teams` teams of `team_rows` samples out in the arena. All threads
 * lay out the same plan; `mine` is the team of this one, or the only one. */
void network_plan(network *net, const eqp_layered_job *job, int thread, int n_threads, int n_teams,
                  int team_rows, arena *arena) {
    net->job = job;
    net->L = job->n_weights;
    net->n_threads = n_threads;
    net->euler = job->dynamics == DYNAMICS_EULER;
    /* the map s <- rho(field), which needs neither the old state nor what it shows */
    net->plain = !net->euler && job->dt == 1.0;
    /* the same path for any number of threads: narrow nets are always split by samples, and a path
     * of their own rounds in its own way */
    net->narrow =
        job->n_weights == 2 && job->size[2] <= NARROW_MAX && inner_bytes(job) <= SAMPLE_SPLIT_BYTES;
    if (job->gain) net->narrow = 0; /* it knows no gains */
    for (int k = 0; k <= net->L; k++) {
        net->n[k] = job->size[k];
        net->np[k] = pad_up(job->size[k]);
    }
    /* every thread has columns of weight[0], as far as there are enough */
    net->chunk = pad_up((net->np[1] + n_threads - 1) / n_threads);
    /* a chunk's accumulators and sums live on the stack, and a pass over it in the caches */
    if (net->chunk > 256) net->chunk = 256;
    net->n_chunks = (int)((net->np[1] + net->chunk - 1) / net->chunk);
    /* what an input of zero acts as: taken out of every input, and put back through the column
     * sums */
    net->input_offset = scalar_rho(job->input_activation, 0);
    net->input_colsum = TAKE_REALS(arena, net->np[1]);
    for (int k = 0; k < net->L; k++) weights_plan(net, k, arena);
    for (int i = 0; i < n_teams; i++) {
        team team;
        team_plan(net, &team, team_rows, n_teams > 1 ? 1 : n_threads, arena);
        /* one team: all threads use it; a team for each thread: its own */
        if (i == 0 || i == thread) net->mine = team;
    }
}

/* --- input drive --- */

/* The nonzeros of a dense row x (n0), into index and value; returns their number. Whole vectors are
 * stored, whatever of them is kept. */
static int64_t nonzeros(const real *x, int64_t n0, int32_t *index, real *value) {
    int64_t count = 0, i = 0;
#if defined(EQP_ISA_AVX512) && !defined(EQP_REAL_F64)
    /* 16 numbers at once: those that are not zero are pushed together */
    __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    for (; i + VL <= n0; i += VL, lane = _mm512_add_epi32(lane, _mm512_set1_epi32(VL))) {
        const vec v = vload(x + i);
        const __mmask16 m = _mm512_cmp_ps_mask(v, _mm512_setzero_ps(), _CMP_NEQ_UQ);
        _mm512_storeu_ps(value + count, _mm512_maskz_compress_ps(m, v));
        _mm512_storeu_si512(index + count, _mm512_maskz_compress_epi32(m, lane));
        count += __builtin_popcount(m);
    }
#endif
    for (; i < n0; i++) {
        /* written always, kept if nonzero: no branch to mispredict */
        index[count] = (int32_t)i;
        value[count] = x[i];
        count += x[i] != 0;
    }
    return count;
}

/* Nonzeros of data row `row`, as input_activation(x) - rho(0); returns their number. index, value:
 * capacity N[0] + LANES, for whole vectors are stored. Zeros cost nothing then, whatever rho(0)
 * is: its part of the drive is rho(0) times the column sums of weight[0]. */
int64_t input_row(const network *net, int64_t row, int32_t *index, real *value) {
    const eqp_layered_job *job = net->job;
    int64_t count = 0;
    if (job->indptr)
        for (int64_t e = job->indptr[row]; e < job->indptr[row + 1]; e++) {
            index[count] = job->indices[e];
            value[count++] = ((const real *)job->data)[e];
        }
    else
        count = nonzeros((const real *)job->x + row * net->n[0], net->n[0], index, value);
    if (job->input_activation != ACT_IDENTITY) {
        const vec offset = vset(net->input_offset);
        EQP_WITH_ACT(job->input_activation, act_rho_less(ACT, offset, count, value));
    }
    return count;
}

/* Accumulators of a drive: half the vector registers; the others hold the row and the input. */
#define DRIVE_VECS (N_VREGS >= 32 ? 16 : 8)

/* out (NV vectors) = sum over nonzeros of value * row + start, in this order; rows of w are
 * `width` reals apart. `start` comes last: so a drive has the same bits when its parts were made
 * during the pass over weight[0] (input.c). */
EQP_INLINE void drive_body(const int NV, const real *w, int64_t width, const int32_t *index,
                           const real *value, int64_t nnz, const real *start, real *out) {
    vec acc[DRIVE_VECS];
#pragma GCC unroll 16
    for (int v = 0; v < NV; v++) acc[v] = vset(0);
    /* an input at a time: NV independent sums hide the latency of the additions */
    for (int64_t e = 0; e < nnz; e++) {
        const real *row = w + index[e] * width;
        const vec x = vset(value[e]);
#pragma GCC unroll 16
        for (int v = 0; v < NV; v++) acc[v] = vfma(x, vload(row + v * VL), acc[v]);
    }
#pragma GCC unroll 16
    for (int v = 0; v < NV; v++) vstore(out + v * VL, vadd(acc[v], vload(start + v * VL)));
}

/* Columns of chunk `chunk` of one sample's drive x W_0 + b_0 (drive: np[1]), from its nonzeros. */
void drive_sparse(const network *net, int chunk, const int32_t *index, const real *value,
                  int64_t nnz, real *drive) {
    const int64_t width = chunk_width(net, chunk), first = chunk * net->chunk;
    /* bias, and rho(0) times the column sums */
    const real *w = chunk_at(net, net->w[0], chunk);
    real start[256];
    const vec offset = vset(net->input_offset);
    for (int64_t v = 0; v < width; v += VL) {
        const vec b = vload(net->bias[0] + first + v);
        vstore(start + v,
               net->input_offset == 0 ? b : vfma(offset, vload(net->input_colsum + first + v), b));
    }
    int64_t col = 0;
    EQP_FOR_BLOCKS(col, width, DRIVE_VECS,
                   drive_body(NV, w + col, width, index, value, nnz, start + col,
                              drive + first + col));
}

/* --- one step of one layer --- */

/* New states of a tile: rows m0.. (mr of them), columns c0.. of layer k, from its total field (mr
 * x PW), with what they show, and the largest change of each row where it is tracked. */
EQP_INLINE void finish_tile(const int act, const int plain, const network *net, team *team,
                            const step *step, int m0, int mr, int64_t c0, int width,
                            const real *field) {
    const int k = step->k;
    const int64_t np = net->np[k];
    /* the options of the layer, once for the tile */
    const vec force = vset(step->force);
    const finish f = finish_of(net, k, step->force);
    const vec gain = vset(net->job->gain ? (real)net->job->gain[k - 1] : 1);
    for (int m = m0; m < m0 + mr; m++) {
        /* the largest change of the row so far, by lanes: reduced once, when it is judged */
        vec worst = step->track ? vload(step->residual + m * LANES) : vset(0);
        for (int v = 0; v < width; v += VL) {
            const int64_t at = m * np + c0 + v;
            const vec old = vload(team->state[k][step->cur] + at),
                      shown = vload(team->shown[k][step->cur] + at);
            vec push = vset(0);
            if (f.nudged)
                push = vmul(force, vsub(vload(step->y + at), vload(step->prediction + at)));
            const vec a = vmul(gain, vload(field + (m - m0) * PW + v));
            vec x = finish_vec(act, plain, &f, a, old, shown, push);
            const int valid = (int)(net->n[k] - c0 - v);
            if (valid < VL) x = vkeep(x, valid > 0 ? valid : 0); /* padding stays zero */
            vstore(team->state[k][step->next] + at, x);
            if (!plain && net->euler) {
                vec r = f.linear ? x : act_rho(act, x);
                if (valid < VL) r = vkeep(r, valid > 0 ? valid : 0);
                vstore(team->shown[k][step->next] + at, r);
            }
            if (step->track) worst = vmaxr(worst, vabs(vsub(x, old)));
        }
        if (step->track) vstore(step->residual + m * LANES, worst);
    }
}

/* The products whose sum is the field of layer step->k, panel p of its columns, rows from m0 on:
 * what the layer below shows, what the layer above shows, changed weights. Layer 1 has its input in
 * the drive. Returns their number. */
EQP_INLINE int field_terms(const network *net, const team *team, const step *step, int p, int m0,
                           operand *terms) {
    const int k = step->k, width = panel_width(net->n[k], p);
    int n_terms = 0;
    if (k > 1)
        terms[n_terms++] = (operand){.a = team->shown[k - 1][step->cur] + m0 * net->np[k - 1],
                                     .rs = net->np[k - 1],
                                     .ks = 1,
                                     .b = panel_at(net->w[k - 1], net->n[k - 1], p),
                                     .ldb = width,
                                     .k = net->n[k - 1]};
    if (k < net->L)
        terms[n_terms++] = (operand){.a = team->shown[k + 1][step->cur] + m0 * net->np[k + 1],
                                     .rs = net->np[k + 1],
                                     .ks = 1,
                                     .b = panel_at(net->back[k], net->n[k + 1], p),
                                     .ldb = width,
                                     .k = net->n[k + 1]};
    /* the continual rules' changes of weights, as products of states */
    for (int e = 0; e < step->n_extra; e++, n_terms++) {
        terms[n_terms] = step->extra[e];
        terms[n_terms].a += m0 * terms[n_terms].rs;
        terms[n_terms].b += (int64_t)p * PW;
    }
    return n_terms;
}

/* One step of rows row_lo.. of layer k (equations 1.2, 1.3), the panels of `thread`: the total
 * field of each tile by gemm_tile, then finish_tile. Without a nudge the output is as plain as the
 * rest. */
void step_layer(const network *net, team *team, const step *step, int row_lo, int row_hi,
                int thread, int n_threads) {
    const int k = step->k;
    /* everything that is the same for all tiles of the layer */
    const int plain = net->plain && step->force == 0;
    const int panels = n_panels(net->n[k]), rows = row_hi - row_lo;
    const int act = activation_of(net, k);
    real field[MR_MAX * PW];
    for (int p = (int)share(panels, thread, n_threads); p < share(panels, thread + 1, n_threads);
         p++) {
        const int width = panel_width(net->n[k], p);
        const int64_t c0 = (int64_t)p * PW;
        for (int b = 0; b < row_blocks(rows); b++) {
            const int m0 = row_lo + row_start(rows, b), mr = row_lo + row_start(rows, b + 1) - m0;
            operand terms[MAX_OPERANDS];
            const int n_terms = field_terms(net, team, step, p, m0, terms);
            /* layer 1 begins with its drive, a row for each sample; the others with the bias, one
             * row for all */
            const real *start = k == 1 ? team->drive + m0 * net->np[1] + c0 : net->bias[k - 1] + c0;
            gemm_tile(mr, width, start, k == 1 ? net->np[1] : 0, field, PW, terms, n_terms);
            for (int m = 0; step->field && m < mr; m++)
                for (int v = 0; v < width; v += VL)
                    vstore(step->field + (m0 + m) * net->np[k] + c0 + v, vload(field + m * PW + v));
            if (plain) {
                EQP_WITH_ACT(act, finish_tile(ACT, 1, net, team, step, m0, mr, c0, width, field));
            } else {
                EQP_WITH_ACT(act, finish_tile(ACT, 0, net, team, step, m0, mr, c0, width, field));
            }
        }
    }
}

/* --- relaxation --- */

/* p = softmax(s) of the outputs of each row (equations 2); s, p: rows x np[L]. Less the largest,
 * so that nothing overflows. */
void softmax_rows(const network *net, const real *s, real *p, int rows) {
    const int n = net->n[net->L];
    const int64_t np = net->np[net->L];
    for (int m = 0; m < rows; m++) {
        const real *in = s + m * np;
        real *out = p + m * np, top = in[0], sum = 0;
        for (int i = 1; i < n; i++) top = in[i] > top ? in[i] : top;
        for (int i = 0; i < n; i++) sum += out[i] = (real)exp((double)(in[i] - top));
        for (int i = 0; i < n; i++) out[i] /= sum;
        for (int64_t i = n; i < np; i++) out[i] = 0;
    }
}

/* What layer k shows of states s (rows x np[k]): rho(s) in continuous dynamics, s for a linear
 * output. Nothing to do in the discrete ones. */
void show(const network *net, int k, const real *s, real *shown, int64_t rows) {
    if (!net->euler) return;
    const int is_out = k == net->L, act = activation_of(net, k);
    const int64_t np = net->np[k], n = net->n[k];
    for (int64_t m = 0; m < rows; m++)
        for (int64_t v = 0; v < np; v += VL) {
            vec x = vload(s + m * np + v);
            if (!(is_out && net->job->linear_output)) EQP_WITH_ACT(act, x = act_rho(ACT, x));
            vstore(shown + m * np + v, n - v >= VL ? x : vkeep(x, n > v ? (int)(n - v) : 0));
        }
}

/* Thread 0 of the team writes row m of the current state to its sample's place in out. */
static void emit(const network *net, team *team, const relaxation *asked, int cur, int m,
                 int sample) {
    for (int k = 1; k <= net->L; k++)
        copy_reals(asked->out[k] + sample * net->np[k], team->state[k][cur] + m * net->np[k],
                   net->np[k]);
}

/* Row `from` of the active samples takes the place of row `to`, which has left. Thread 0. */
static void move_active(const network *net, team *team, const relaxation *asked, int cur, int from,
                        int to) {
    const int L = net->L;
    copy_reals(team->drive + to * net->np[1], team->drive + from * net->np[1], net->np[1]);
    if (asked->y) copy_reals(team->y + to * net->np[L], team->y + from * net->np[L], net->np[L]);
    for (int k = 1; k <= L; k++) {
        const int64_t np = net->np[k];
        copy_reals(team->state[k][cur] + to * np, team->state[k][cur] + from * np, np);
        if (net->euler)
            copy_reals(team->shown[k][cur] + to * np, team->shown[k][cur] + from * np, np);
    }
}

/* Thread 0 puts the samples and where they start into the team's buffers. */
static void load_samples(const network *net, team *team, const relaxation *asked) {
    const int L = net->L, rows = asked->rows;
    copy_reals(team->drive, asked->drive, rows * net->np[1]);
    if (asked->y) copy_reals(team->y, asked->y, rows * net->np[L]);
    for (int k = 1; k <= L; k++) {
        const int64_t count = rows * net->np[k];
        if (asked->init)
            copy_reals(team->state[k][0], asked->init[k], count);
        else
            memset(team->state[k][0], 0, (size_t)count * sizeof(real));
        show(net, k, team->state[k][0], team->shown[k][0], rows);
    }
}

/* Whether step s must know how far each sample moves: to stop at a tolerance; to retire those that
 * have come to rest, which is not worth a look in short or young phases; for the residual. */
static int tracks_change(const relaxation *asked, int s) {
    const int fixed = asked->tol < 0, last = s + 1 == asked->n_steps;
    return !fixed || (asked->n_steps > 16 && s >= 6) || (last && asked->residual);
}

/* A held output keeps its state; a synchronous step still has to carry it to the new buffer. */
static void hold_output(const network *net, team *team, const step *step, int rows) {
    const int L = net->L;
    if (step->next == step->cur) return;
    copy_reals(team->state[L][step->next], team->state[L][step->cur], rows * net->np[L]);
    if (net->euler)
        copy_reals(team->shown[L][step->next], team->shown[L][step->cur], rows * net->np[L]);
}

/* One step of all layers in the order asked for, the team's threads together (equations 1.2, 1.3,
 * 1.5; the nudge: 2). Ends with a barrier. */
static void step_layers(const network *net, team *team, step *step, const relaxation *asked,
                        int rows, int thread, int n_threads) {
    const eqp_layered_job *job = net->job;
    const int L = net->L;
    for (int p = 0; p < n_passes(asked->order, L); p++) {
        const visit v = layers_of(asked->order, L, p);
        for (int k = v.first; k <= v.last; k += v.stride) {
            step->k = k;
            if (k == L && asked->hold_output) {
                if (thread == 0) hold_output(net, team, step, rows);
                continue;
            }
            step->force = k == L && asked->beta != 0 ? (real)(job->cost_factor * asked->beta) : 0;
            step->prediction = team->state[L][step->cur];
            if (step->force != 0 && job->cost == COST_CROSS_ENTROPY) {
                /* the output may be split over threads: each needs the whole softmax, thread 0
                 * makes it */
                if (thread == 0) softmax_rows(net, step->prediction, team->prediction, rows);
                eqp_wait(job->barrier, n_threads);
                step->prediction = team->prediction;
            }
            step_layer(net, team, step, 0, rows, thread, n_threads);
        }
        eqp_wait(job->barrier, n_threads);
    }
}

/* After step s: samples that have arrived leave, the last active row fills the gap. Returns how
 * many rows stay. Every thread takes the same decisions from the same numbers; thread 0 moves.
 *
 * A sample whose state did not change at all in a synchronous or sweep step is at a bitwise fixed
 * point: with tol < 0 (fixed step counts) it is retired as well, since every further step would
 * repeat it exactly; its step count is still n_steps. */
static int retire(const network *net, team *team, const relaxation *asked, int s, int cur, int rows,
                  int32_t *origin, int thread, int n_threads) {
    const int last = s + 1 == asked->n_steps, fixed = asked->tol < 0, before = rows;
    const real tol = fixed ? 0 : (real)(asked->tol * net->job->dt);
    const real *residual = team->residual[s & 1];
    for (int m = before - 1; m >= 0; m--) {
        /* the largest change over the lanes and over the columns of every thread */
        vec worst = vload(residual + m * LANES);
        for (int q = 1; q < n_threads; q++)
            worst = vmaxr(worst, vload(residual + ((int64_t)q * team->rows + m) * LANES));
        const real change = vhmax(worst);
        const int done = change <= tol;
        if (!done && !last) continue;
        const int sample = origin[m];
        if (thread == 0) {
            if (asked->residual) asked->residual[sample] = (real)(change / net->job->dt);
            if (asked->steps) asked->steps[sample] = fixed ? asked->n_steps : s + 1;
        }
        if (last) continue;
        rows--;
        if (thread == 0) {
            emit(net, team, asked, cur, m, sample);
            if (m != rows) move_active(net, team, asked, cur, rows, m);
        }
        /* rows are scanned downwards: the row moved into m has been judged already */
        origin[m] = origin[rows];
    }
    if (rows != before) eqp_wait(net->job->barrier, n_threads);
    return rows;
}

/* Relaxes asked->rows samples with the team's threads (all call; ends with a barrier): the free or
 * the second phase of equations 3. */
void relax(const network *net, team *team, int thread, int n_threads, const relaxation *asked) {
    eqp_barrier *barrier = net->job->barrier;
    const int sync = asked->order == VISIT_SYNCHRONOUS, fixed = asked->tol < 0;
    int rows = asked->rows, cur = 0;
    int32_t *origin = team->origin + thread * team->rows;
    /* a team of one here: narrow nets are split by samples, so no counter is shared */
    if (net->narrow && sync && !asked->hold_output) {
        int32_t count = 0;
        const sample_queue queue = {&count, rows, 0, 1};
        relax_narrow(net, team, asked, 1, &queue, origin);
        return;
    }
    /* thread 0 fills the team's buffers; where every sample is, each thread notes for itself */
    if (thread == 0) load_samples(net, team, asked);
    for (int m = 0; m < rows; m++) origin[m] = m;
    eqp_wait(barrier, n_threads);

    for (int s = 0; s < asked->n_steps && rows > 0; s++) {
        step step = {.cur = cur, .next = sync ? !cur : cur, .y = team->y};
        step.track = tracks_change(asked, s);
        /* by parity of the step: a thread may still read the last one's while another goes on */
        step.residual = team->residual[s & 1] + (int64_t)thread * team->rows * LANES;
        if (step.track) memset(step.residual, 0, (size_t)(rows * LANES) * sizeof(real));
        step_layers(net, team, &step, asked, rows, thread, n_threads);
        cur = step.next;
        if (step.track) rows = retire(net, team, asked, s, cur, rows, origin, thread, n_threads);
    }
    /* those that have made all steps and never came to rest */
    if (thread == 0)
        for (int m = 0; m < rows; m++) {
            emit(net, team, asked, cur, m, origin[m]);
            if (asked->steps && (asked->n_steps == 0 || fixed))
                asked->steps[origin[m]] = asked->n_steps;
        }
    eqp_wait(barrier, n_threads);
}

/* --- the relax kernel --- */

/* One thread's tile of samples in layered_relax. */
typedef struct {
    int32_t *index;      /* N[0] + LANES: nonzero inputs of one sample */
    real *value;         /* their values */
    real *drive, *y;     /* TILE_ROWS x np[1], np[L] */
    real *state[LAYERS]; /* TILE_ROWS x np[k] */
} tile_buffers;

/* Lays out the buffers of TILE_ROWS samples. */
static void tile_plan(const network *net, tile_buffers *tile, arena *arena) {
    tile->index = take(arena, net->n[0] + LANES, sizeof(int32_t));
    tile->value = TAKE_REALS(arena, net->n[0] + LANES);
    tile->drive = TAKE_REALS(arena, TILE_ROWS * net->np[1]);
    tile->y = TAKE_REALS(arena, TILE_ROWS * net->np[net->L]);
    for (int k = 1; k <= net->L; k++) tile->state[k] = TAKE_REALS(arena, TILE_ROWS * net->np[k]);
}

/* The network, and a team and a tile for each thread. */
static void relax_plan(network *net, const eqp_layered_job *job, int n_threads, arena *arena,
                       tile_buffers *mine, int thread) {
    network_plan(net, job, thread, n_threads, n_threads, TILE_ROWS, arena);
    for (int i = 0; i < n_threads; i++) {
        tile_buffers tile;
        tile_plan(net, &tile, arena);
        if (i == thread) *mine = tile;
    }
}

/* Writes the scratch bytes that layered_relax needs to job->scratch_size. */
int EQP_NAME(layered_relax_scratch)(eqp_layered_job *job, int thread, int n_threads) {
    (void)thread;
    const int status = layered_check(job);
    if (status) return status;
    network net;
    arena a = {NULL, 0};
    tile_buffers tile;
    relax_plan(&net, job, n_threads, &a, &tile, 0);
    job->scratch_size = a.used;
    return EQP_OK;
}

/* Job rows first.. (`rows` of them) into the tile: drive, targets where they nudge, states to start
 * from. */
static void load_tile(const network *net, tile_buffers *tile, int64_t first, int rows) {
    const eqp_layered_job *job = net->job;
    const int L = net->L;
    for (int m = 0; m < rows; m++) {
        const int64_t row = job->order ? job->order[first + m] : first + m;
        const int64_t nnz = input_row(net, row, tile->index, tile->value);
        for (int c = 0; c < net->n_chunks; c++)
            drive_sparse(net, c, tile->index, tile->value, nnz, tile->drive + m * net->np[1]);
        if (job->beta != 0)
            copy_row(tile->y + m * net->np[L], (const real *)job->y + row * net->n[L], net->n[L],
                     net->np[L]);
        for (int k = 1; k <= L; k++)
            copy_row(tile->state[k] + m * net->np[k],
                     (const real *)job->state[k - 1] + (first + m) * net->n[k], net->n[k],
                     net->np[k]);
    }
}

/* The tile's states back to the caller's rows. */
static void store_tile(const network *net, const tile_buffers *tile, int64_t first, int rows) {
    for (int m = 0; m < rows; m++)
        for (int k = 1; k <= net->L; k++)
            copy_reals((real *)net->job->state[k - 1] + (first + m) * net->n[k],
                       tile->state[k] + m * net->np[k], net->n[k]);
}

/* Relaxes all rows of the job from the states given, tiles of them in turn over the threads. A
 * sample's result depends neither on its tile nor on the thread. */
int EQP_NAME(layered_relax)(eqp_layered_job *job, int thread, int n_threads) {
    const int status = layered_check(job);
    if (status) return status;
    if (!job->state || !job->steps || !job->residual || !job->scratch || !job->barrier ||
        (job->beta != 0 && !job->y))
        return EQP_E_NULL;
    /* the plan twice: to count, then to lay out */
    arena count = {NULL, 0}, laid = {job->scratch, 0};
    network net;
    tile_buffers tile;
    relax_plan(&net, job, n_threads, &count, &tile, 0);
    if (count.used > job->scratch_size) return EQP_E_SCRATCH;
    relax_plan(&net, job, n_threads, &laid, &tile, thread);
    network_pack(&net, thread);
    eqp_wait(job->barrier, n_threads);

    /* from here on each thread works alone on its own tiles: on a copy of the job with a barrier of
     * its own, at which a team of one never waits */
    eqp_layered_job alone = *job;
    eqp_barrier unused = {0};
    alone.barrier = &unused;
    net.job = &alone;
    const int64_t n_tiles = (job->n_rows + TILE_ROWS - 1) / TILE_ROWS;
    for (int64_t t = thread; t < n_tiles; t += n_threads) {
        const int64_t first = t * TILE_ROWS, left = job->n_rows - first;
        const int rows = (int)(left < TILE_ROWS ? left : TILE_ROWS);
        const relaxation asked = {.rows = rows,
                                  .drive = tile.drive,
                                  .y = job->beta != 0 ? tile.y : NULL,
                                  .init = tile.state,
                                  .out = tile.state,
                                  .beta = job->beta,
                                  .tol = job->tol_free,
                                  .n_steps = job->n_free_steps,
                                  .order = job->schedule,
                                  .steps = job->steps + first,
                                  .residual = (real *)job->residual + first};
        for (int m = 0; m < rows; m++) asked.residual[m] = 0; /* what no steps at all leave */
        load_tile(&net, &tile, first, rows);
        relax(&net, &net.mine, 0, 1, &asked);
        store_tile(&net, &tile, first, rows);
    }
    return EQP_OK;
}
