/* layered.c - layered networks: scratch, input drive, relaxation (1602.05179, 1905.13633; docs/equations.md 1-3). */
#include "layered/finish.h"

/* ---------------------------------------------------------------- checks and scratch */

int EQP_NAME(layered_check)(const eqp_layered_job *j) {
    if (!j->size || !j->weight || !j->bias) return EQP_E_NULL;
    if (j->n_weights < 1 || j->n_weights > EQP_MAX_WEIGHTS || j->n_rows < 0) return EQP_E_SIZE;
    for (int k = 0; k <= j->n_weights; k++)
        if (j->size[k] < 1) return EQP_E_SIZE;
    for (int k = 0; k < j->n_weights; k++)
        if (!j->weight[k] || !j->bias[k] || (j->back && k > 0 && !j->back[k])) return EQP_E_NULL;
    if (!j->x && !j->indptr) return EQP_E_NULL;
    if (j->indptr && (!j->indices || !j->data)) return EQP_E_NULL;
    const int32_t options[][2] = {{j->dynamics, 2}, {j->schedule, 3}, {j->activation, N_ACTIVATIONS},
        {j->out_activation, N_ACTIVATIONS}, {j->input_activation, N_ACTIVATIONS}, {j->cost, 2}};
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++)
        if (options[i][0] < 0 || options[i][0] >= options[i][1]) return EQP_E_OPTION;
    if (j->n_free_steps < 0 || j->n_nudged_steps < 0) return EQP_E_SIZE;
    return EQP_OK;
}

void EQP_NAME(team_plan)(const network *net, team *t, int rows, int n_threads, arena *a) {
    const int L = net->L;
    t->rows = rows;
    t->drive = TAKE_REALS(a, rows * net->np[1]);
    t->y = TAKE_REALS(a, rows * net->np[L]);
    t->prediction = TAKE_REALS(a, rows * net->np[L]);
    for (int k = 1; k <= L; k++)
        for (int i = 0; i < 2; i++) {
            t->state[k][i] = TAKE_REALS(a, rows * net->np[k]);
            t->shown[k][i] = net->euler ? TAKE_REALS(a, rows * net->np[k]) : t->state[k][i];
        }
    for (int i = 0; i < 2; i++) t->residual[i] = TAKE_REALS(a, (int64_t)n_threads * rows * LANES);
    t->feedback = net->narrow ? TAKE_REALS(a, net->np[1] * NARROW_MAX) : NULL;
    t->forward = net->narrow && net->job->back ? TAKE_REALS(a, net->np[1] * NARROW_MAX) : t->feedback;
    t->origin = take(a, (int64_t)n_threads * rows, sizeof(int32_t));
}

static real scalar_rho(int act, real x) {
    real out[LANES];
    const vec v = vset(x);
#define BODY(ACT) vstore(out, act_rho(ACT, v))
    EQP_SWITCH_ACT(act, BODY)
#undef BODY
    return out[0];
}

/* Lays the packed network and `n_teams` teams of `team_rows` samples out in the arena. */
void EQP_NAME(network_plan)(network *net, const eqp_layered_job *j, int thread, int n_threads, int n_teams,
                            int team_rows, arena *a) {
    net->job = j;
    net->L = j->n_weights;
    net->n_threads = n_threads;
    net->euler = j->dynamics == 1;
    net->plain = !net->euler && j->dt == 1.0;
    /* the same path for any number of threads: narrow nets are always split by samples */
    net->narrow = j->n_weights == 2 && j->size[2] <= NARROW_MAX && inner_bytes(j) <= SAMPLE_SPLIT_BYTES;
    for (int k = 0; k <= net->L; k++) {
        net->n[k] = j->size[k];
        net->np[k] = pad_up(j->size[k]);
    }
    net->chunk = pad_up((net->np[1] + n_threads - 1) / n_threads);
    if (net->chunk > 256) net->chunk = 256;
    net->n_chunks = (int)((net->np[1] + net->chunk - 1) / net->chunk);
    net->input_offset = scalar_rho(j->input_activation, 0);
    net->input_colsum = TAKE_REALS(a, net->np[1]);
    for (int k = 0; k < net->L; k++) {
        const int64_t forward = net->n[k] * net->np[k + 1];
        net->w[k] = TAKE_REALS(a, forward);
        net->back[k] = k ? TAKE_REALS(a, net->n[k + 1] * net->np[k]) : NULL;
        net->bias[k] = TAKE_REALS(a, net->np[k + 1]);
        /* without an optimiser's memory these alias the parameters and are never touched */
        net->velocity[k] = j->velocity ? TAKE_REALS(a, forward) : net->w[k];
        net->velocity[net->L + k] = j->velocity ? TAKE_REALS(a, net->np[k + 1]) : net->bias[k];
        net->second[k] = j->second ? TAKE_REALS(a, forward) : net->w[k];
        net->second[net->L + k] = j->second ? TAKE_REALS(a, net->np[k + 1]) : net->bias[k];
        const int own_back = k > 0 && j->back;
        net->velocity[2 * net->L + k] = own_back && j->velocity && j->velocity[2 * net->L + k] ? TAKE_REALS(a, net->n[k + 1] * net->np[k]) : net->back[k];
        net->second[2 * net->L + k] = own_back && j->second && j->second[2 * net->L + k] ? TAKE_REALS(a, net->n[k + 1] * net->np[k]) : net->back[k];
    }
    for (int i = 0; i < n_teams; i++) {
        team t;
        EQP_NAME(team_plan)(net, &t, team_rows, n_teams > 1 ? 1 : n_threads, a);
        if (i == 0 || i == thread) net->mine = t;
    }
}

/* ---------------------------------------------------------------- input drive */

/* Nonzeros of data row `row`, as input_activation(x) - rho(0); returns their number. index, value: capacity N[0] + LANES. */
int64_t EQP_NAME(input_row)(const network *net, int64_t row, int32_t *index, real *value) {
    const eqp_layered_job *j = net->job;
    const int64_t n0 = net->n[0];
    int64_t count = 0;
    if (j->indptr) {
        for (int64_t e = j->indptr[row]; e < j->indptr[row + 1]; e++) {
            index[count] = j->indices[e];
            value[count++] = ((const real *)j->data)[e];
        }
    } else {
        const real *x = (const real *)j->x + row * n0;
        int64_t i = 0;
#if defined(EQP_ISA_AVX512) && !defined(EQP_REAL_F64)
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
            index[count] = (int32_t)i;
            value[count] = x[i];
            count += x[i] != 0;
        }
    }
    if (j->input_activation != ACT_IDENTITY) {
        const vec offset = vset(net->input_offset);
#define BODY(ACT) for (int64_t e = 0; e < count; e += VL) vstore(value + e, vsub(act_rho(ACT, vload(value + e)), offset))
        EQP_SWITCH_ACT(j->input_activation, BODY)
#undef BODY
    }
    return count;
}

#define DRIVE_VECS (N_VREGS >= 32 ? 16 : 8)

/* out (NV vectors) = sum of value * row + start, in this order; rows of w are `width` reals apart. */
EQP_INLINE void drive_body(const int NV, const real *w, int64_t width, const int32_t *index, const real *value,
                           int64_t nnz, const real *start, real *out) {
    vec acc[DRIVE_VECS];
#pragma GCC unroll 16
    for (int v = 0; v < NV; v++) acc[v] = vset(0);
    for (int64_t e = 0; e < nnz; e++) {
        const real *row = w + index[e] * width;
        const vec x = vset(value[e]);
#pragma GCC unroll 16
        for (int v = 0; v < NV; v++) acc[v] = vfma(x, vload(row + v * VL), acc[v]);
    }
#pragma GCC unroll 16
    for (int v = 0; v < NV; v++) vstore(out + v * VL, vadd(acc[v], vload(start + v * VL)));
}

/* Columns of chunk `chunk` of one sample's drive (drive: np[1]). */
void EQP_NAME(drive_sparse)(const network *net, int chunk, const int32_t *index, const real *value, int64_t nnz, real *drive) {
    const int64_t width = chunk_width(net, chunk), first = chunk * net->chunk;
    const real *w = chunk_at(net, net->w[0], chunk);
    real start[256];
    const vec offset = vset(net->input_offset);
    for (int64_t v = 0; v < width; v += VL) {
        const vec b = vload(net->bias[0] + first + v);
        vstore(start + v, net->input_offset == 0 ? b : vfma(offset, vload(net->input_colsum + first + v), b));
    }
    int64_t col = 0;
#define BLOCK(NV)                                                                    \
    for (; (NV) <= DRIVE_VECS && col + (NV) * VL <= width; col += (NV) * VL)         \
        drive_body((NV) <= DRIVE_VECS ? (NV) : 1, w + col, width, index, value, nnz, start + col, drive + first + col);
    BLOCK(16) BLOCK(8) BLOCK(4) BLOCK(2) BLOCK(1)
#undef BLOCK
}

/* ---------------------------------------------------------------- one step of one layer */

/* New states of a tile: rows m0.., columns c0.. of layer k, from its total field (rows x PW). */
EQP_INLINE void finish_tile(const int act, const int plain, const network *net, team *t, const step *st, int m0, int mr,
                            int64_t c0, int width, const real *field) {
    const int k = st->k;
    const int64_t np = net->np[k];
    const vec force = vset(st->force);
    const finish f = finish_of(net, k, st->force);
    for (int m = m0; m < m0 + mr; m++) {
        vec worst = st->track ? vload(st->residual + m * LANES) : vset(0);
        for (int v = 0; v < width; v += VL) {
            const int64_t at = m * np + c0 + v;
            const vec old = vload(t->state[k][st->cur] + at), shown = vload(t->shown[k][st->cur] + at);
            vec push = vset(0);
            if (f.nudged) push = vmul(force, vsub(vload(st->y + at), vload(st->prediction + at)));
            vec x = finish_vec(act, plain, &f, vload(field + (m - m0) * PW + v), old, shown, push);
            const int valid = (int)(net->n[k] - c0 - v);
            if (valid < VL) x = vkeep(x, valid > 0 ? valid : 0); /* padding stays zero */
            vstore(t->state[k][st->next] + at, x);
            if (!plain && net->euler) {
                vec r = f.linear ? x : act_rho(act, x);
                if (valid < VL) r = vkeep(r, valid > 0 ? valid : 0);
                vstore(t->shown[k][st->next] + at, r);
            }
            if (st->track) worst = vmaxr(worst, vabs(vsub(x, old)));
        }
        if (st->track) vstore(st->residual + m * LANES, worst);
    }
}

/* Rows row_lo.. of layer k, the panels of `thread`. */
void EQP_NAME(step_layer)(const network *net, team *t, const step *st, int row_lo, int row_hi, int thread, int n_threads) {
    const int k = st->k, L = net->L;
    const int plain = net->plain && st->force == 0;
    const int panels = n_panels(net->n[k]), rows = row_hi - row_lo;
    const int act = k == L ? net->job->out_activation : net->job->activation;
    real field[MR_MAX * PW];
    for (int p = (int)share(panels, thread, n_threads); p < share(panels, thread + 1, n_threads); p++) {
        const int width = panel_width(net->n[k], p);
        const int64_t c0 = (int64_t)p * PW;
        for (int b = 0; b < row_blocks(rows); b++) {
            const int m0 = row_lo + row_start(rows, b), mr = row_lo + row_start(rows, b + 1) - m0;
            operand op[MAX_OPERANDS];
            int n_op = 0;
            if (k > 1)
                op[n_op++] = (operand){t->shown[k - 1][st->cur] + m0 * net->np[k - 1], panel_at(net->w[k - 1], net->n[k - 1], p),
                                       net->np[k - 1], 1, width, net->n[k - 1]};
            if (k < L)
                op[n_op++] = (operand){t->shown[k + 1][st->cur] + m0 * net->np[k + 1], panel_at(net->back[k], net->n[k + 1], p),
                                       net->np[k + 1], 1, width, net->n[k + 1]};
            for (int e = 0; e < st->n_extra; e++, n_op++) {
                op[n_op] = st->extra[e];
                op[n_op].a += m0 * op[n_op].rs;
                op[n_op].b += c0;
            }
            const real *start = k == 1 ? t->drive + m0 * net->np[1] + c0 : net->bias[k - 1] + c0;
            gemm_tile(mr, width, start, k == 1 ? net->np[1] : 0, field, PW, op, n_op);
            for (int m = 0; st->field && m < mr; m++)
                for (int v = 0; v < width; v += VL) vstore(st->field + (m0 + m) * net->np[k] + c0 + v, vload(field + m * PW + v));
#define BODY(ACT)                                                                    \
    if (plain) finish_tile(ACT, 1, net, t, st, m0, mr, c0, width, field);            \
    else finish_tile(ACT, 0, net, t, st, m0, mr, c0, width, field)
            EQP_SWITCH_ACT(act, BODY)
#undef BODY
        }
    }
}

/* ---------------------------------------------------------------- relaxation */

void EQP_NAME(softmax_rows)(const network *net, const real *s, real *p, int rows) {
    const int n = net->n[net->L];
    const int64_t np = net->np[net->L];
    for (int m = 0; m < rows; m++) {
        const real *a = s + m * np;
        real *q = p + m * np, top = a[0], sum = 0;
        for (int i = 1; i < n; i++) top = a[i] > top ? a[i] : top;
        for (int i = 0; i < n; i++) sum += q[i] = (real)exp((double)(a[i] - top));
        for (int i = 0; i < n; i++) q[i] /= sum;
        for (int64_t i = n; i < np; i++) q[i] = 0;
    }
}

void EQP_NAME(show)(const network *net, int k, const real *s, real *shown, int64_t rows) {
    if (!net->euler) return;
    const int is_out = k == net->L, act = is_out ? net->job->out_activation : net->job->activation;
    const int64_t np = net->np[k], n = net->n[k];
    for (int64_t m = 0; m < rows; m++)
        for (int64_t v = 0; v < np; v += VL) {
            vec x = vload(s + m * np + v);
            if (!(is_out && net->job->linear_output)) {
#define BODY(ACT) x = act_rho(ACT, x)
                EQP_SWITCH_ACT(act, BODY)
#undef BODY
            }
            vstore(shown + m * np + v, n - v >= VL ? x : vkeep(x, n > v ? (int)(n - v) : 0));
        }
}

/* Thread 0 of the team writes row m of the current state to its sample's place in out. */
static void emit(const network *net, team *t, const relaxation *r, int cur, int m, int sample) {
    for (int k = 1; k <= net->L; k++)
        memcpy(r->out[k] + sample * net->np[k], t->state[k][cur] + m * net->np[k], (size_t)net->np[k] * sizeof(real));
}

static void move_active(const network *net, team *t, const relaxation *r, int cur, int from, int to) {
    const int L = net->L;
    memcpy(t->drive + to * net->np[1], t->drive + from * net->np[1], (size_t)net->np[1] * sizeof(real));
    if (r->y) memcpy(t->y + to * net->np[L], t->y + from * net->np[L], (size_t)net->np[L] * sizeof(real));
    for (int k = 1; k <= L; k++) {
        const int64_t np = net->np[k];
        memcpy(t->state[k][cur] + to * np, t->state[k][cur] + from * np, (size_t)np * sizeof(real));
        if (net->euler) memcpy(t->shown[k][cur] + to * np, t->shown[k][cur] + from * np, (size_t)np * sizeof(real));
    }
}

/* Relaxes r->rows samples with the team's threads (all call; ends with a barrier). A sample whose state did not
 * change at all in a synchronous or sweep step is at a bitwise fixed point: with tol < 0 (fixed step counts) it is
 * retired as well, since every further step would repeat it exactly; its step count is still n_steps. */
void EQP_NAME(relax)(const network *net, team *t, int thread, int n_threads, const relaxation *r) {
    const eqp_layered_job *j = net->job;
    const int L = net->L, sync = r->order == VISIT_SYNCHRONOUS;
    const real tol = r->tol < 0 ? 0 : (real)(r->tol * j->dt);
    const int fixed = r->tol < 0;
    int rows = r->rows, cur = 0;
    int32_t *origin = t->origin + thread * t->rows;
    if (net->narrow && sync && !r->hold_output) {
        int32_t count = 0;
        const sample_queue queue = {&count, rows, 0, 1};
        EQP_NAME(relax_narrow)(net, t, r, 1, &queue, origin);
        return;
    }
    eqp_barrier *barrier = j->barrier;
    if (thread == 0) {
        memcpy(t->drive, r->drive, (size_t)(rows * net->np[1]) * sizeof(real));
        if (r->y) memcpy(t->y, r->y, (size_t)(rows * net->np[L]) * sizeof(real));
        for (int k = 1; k <= L; k++) {
            const size_t bytes = (size_t)(rows * net->np[k]) * sizeof(real);
            if (r->init) memcpy(t->state[k][0], r->init[k], bytes);
            else memset(t->state[k][0], 0, bytes);
            EQP_NAME(show)(net, k, t->state[k][0], t->shown[k][0], rows);
        }
    }
    for (int m = 0; m < rows; m++) origin[m] = m;
    eqp_wait(barrier, n_threads);

    for (int s = 0; s < r->n_steps && rows > 0; s++) {
        const int last = s + 1 == r->n_steps;
        step st = {.cur = cur, .next = sync ? !cur : cur};
        st.track = !fixed || (r->n_steps > 16 && s >= 6) || (last && r->residual);
        real *residual = t->residual[s & 1];
        st.residual = residual + (int64_t)thread * t->rows * LANES;
        if (st.track) memset(st.residual, 0, (size_t)(rows * LANES) * sizeof(real));
        st.y = t->y;
        for (int p = 0; p < n_passes(r->order, L); p++) {
            const visit v = layers_of(r->order, L, p);
            for (int k = v.first; k <= v.last; k += v.stride) {
                st.k = k;
                if (k == L && r->hold_output) {
                    if (sync && thread == 0) {
                        const size_t bytes = (size_t)(rows * net->np[L]) * sizeof(real);
                        memcpy(t->state[L][st.next], t->state[L][cur], bytes);
                        if (net->euler) memcpy(t->shown[L][st.next], t->shown[L][cur], bytes);
                    }
                    continue;
                }
                st.force = k == L && r->beta != 0 ? (real)(j->cost_factor * r->beta) : 0;
                st.prediction = t->state[L][cur];
                if (st.force != 0 && j->cost == 1) {
                    /* the output may be split over threads: each needs the whole softmax, thread 0 makes it */
                    if (thread == 0) EQP_NAME(softmax_rows)(net, t->state[L][cur], t->prediction, rows);
                    eqp_wait(barrier, n_threads);
                    st.prediction = t->prediction;
                }
                EQP_NAME(step_layer)(net, t, &st, 0, rows, thread, n_threads);
            }
            eqp_wait(barrier, n_threads);
        }
        cur = st.next;
        if (!st.track) continue;
        /* every thread takes the same decisions from the same numbers */
        int moved = 0;
        for (int m = rows - 1; m >= 0; m--) {
            vec worst = vload(residual + m * LANES);
            for (int q = 1; q < n_threads; q++) worst = vmaxr(worst, vload(residual + ((int64_t)q * t->rows + m) * LANES));
            const real change = vhmax(worst);
            const int done = change <= tol;
            if (!done && !last) continue;
            const int sample = origin[m];
            if (thread == 0) {
                if (r->residual) r->residual[sample] = (real)(change / j->dt);
                if (r->steps) r->steps[sample] = fixed ? r->n_steps : s + 1;
            }
            if (last) continue;
            rows--;
            if (thread == 0) {
                emit(net, t, r, cur, m, sample);
                if (m != rows) move_active(net, t, r, cur, rows, m);
            }
            /* rows are scanned downwards: the row moved into m has been judged already */
            origin[m] = origin[rows];
            moved = 1;
        }
        if (moved) eqp_wait(barrier, n_threads);
    }
    if (thread == 0)
        for (int m = 0; m < rows; m++) {
            emit(net, t, r, cur, m, origin[m]);
            if (r->steps && (r->n_steps == 0 || fixed)) r->steps[origin[m]] = r->n_steps;
        }
    eqp_wait(barrier, n_threads);
}

/* ---------------------------------------------------------------- the relax kernel */

typedef struct {
    int32_t *index;
    real *value, *drive, *y, *residual, *state[EQP_MAX_WEIGHTS + 1];
} tile_buffers;

static void tile_plan(const network *net, tile_buffers *b, arena *a) {
    b->index = take(a, net->n[0] + LANES, sizeof(int32_t));
    b->value = TAKE_REALS(a, net->n[0] + LANES);
    b->drive = TAKE_REALS(a, TILE_ROWS * net->np[1]);
    b->y = TAKE_REALS(a, TILE_ROWS * net->np[net->L]);
    b->residual = TAKE_REALS(a, TILE_ROWS);
    for (int k = 1; k <= net->L; k++) b->state[k] = TAKE_REALS(a, TILE_ROWS * net->np[k]);
}

static void relax_plan(network *net, const eqp_layered_job *j, int n_threads, arena *a, tile_buffers *mine, int thread) {
    EQP_NAME(network_plan)(net, j, thread, n_threads, n_threads, TILE_ROWS, a);
    for (int i = 0; i < n_threads; i++) {
        tile_buffers b;
        tile_plan(net, &b, a);
        if (i == thread) *mine = b;
    }
}

/* Writes the scratch bytes that layered_relax needs to job->scratch_size. */
int EQP_NAME(layered_relax_scratch)(eqp_layered_job *j, int thread, int n_threads) {
    (void)thread;
    const int status = EQP_NAME(layered_check)(j);
    if (status) return status;
    network net;
    arena a = {NULL, 0};
    tile_buffers b;
    relax_plan(&net, j, n_threads, &a, &b, 0);
    j->scratch_size = a.used;
    return EQP_OK;
}

int EQP_NAME(layered_relax)(eqp_layered_job *j, int thread, int n_threads) {
    const int status = EQP_NAME(layered_check)(j);
    if (status) return status;
    if (!j->state || !j->steps || !j->residual || !j->scratch || !j->barrier || (j->beta != 0 && !j->y)) return EQP_E_NULL;
    arena a = {j->scratch, 0};
    network net;
    tile_buffers b;
    {
        arena count = {NULL, 0};
        relax_plan(&net, j, n_threads, &count, &b, 0);
        if (count.used > j->scratch_size) return EQP_E_SCRATCH;
    }
    relax_plan(&net, j, n_threads, &a, &b, thread);
    EQP_NAME(network_pack)(&net, thread);
    eqp_wait(j->barrier, n_threads);

    /* from here on each thread works alone on its own tiles */
    eqp_layered_job alone = *j;
    eqp_barrier unused = {0};
    alone.barrier = &unused;
    net.job = &alone;
    const int L = net.L;
    const int64_t n_tiles = (j->n_rows + TILE_ROWS - 1) / TILE_ROWS;
    for (int64_t tile = thread; tile < n_tiles; tile += n_threads) {
        const int64_t first = tile * TILE_ROWS;
        const int rows = (int)(j->n_rows - first < TILE_ROWS ? j->n_rows - first : TILE_ROWS);
        for (int m = 0; m < rows; m++) {
            const int64_t row = j->order ? j->order[first + m] : first + m;
            const int64_t nnz = EQP_NAME(input_row)(&net, row, b.index, b.value);
            for (int c = 0; c < net.n_chunks; c++)
                EQP_NAME(drive_sparse)(&net, c, b.index, b.value, nnz, b.drive + m * net.np[1]);
            if (j->beta != 0) EQP_NAME(copy_row)(b.y + m * net.np[L], (const real *)j->y + row * net.n[L], net.n[L], net.np[L]);
            for (int k = 1; k <= L; k++)
                EQP_NAME(copy_row)(b.state[k] + m * net.np[k], (const real *)j->state[k - 1] + (first + m) * net.n[k], net.n[k], net.np[k]);
        }
        const relaxation r = {rows, b.drive, j->beta != 0 ? b.y : NULL, b.state, b.state, j->beta, j->tol_free,
                              j->n_free_steps, j->schedule, 0, j->steps + first, (real *)j->residual + first};
        for (int m = 0; m < rows; m++) r.residual[m] = 0;
        EQP_NAME(relax)(&net, &net.mine, 0, 1, &r);
        for (int m = 0; m < rows; m++)
            for (int k = 1; k <= L; k++)
                memcpy((real *)j->state[k - 1] + (first + m) * net.n[k], b.state[k] + m * net.np[k], (size_t)net.n[k] * sizeof(real));
    }
    return EQP_OK;
}
