/* pass.h - the inner loops of crossbar.c: two small matrix products over a strip of rows, and the
 * pass over the input conductances that learns, sums and drives the next batch at once. Letters:
 * crossbar.c.
 *
 *     g, ld       rows of conductances, ld apart;  nr: how many rows
 *     v, ldv      voltages of the samples, ldv apart;  n: columns
 *     nv          vectors of columns in a register tile;  mb: samples in it
 *     acc, lda    currents into the column layer
 *     first       0: add to what is there, 1: begin
 *
 * The counts are constants where these are called, so that the accumulators stay in registers. */
#ifndef EQP_CROSSBAR_PASS_H
#define EQP_CROSSBAR_PASS_H

#include "core/simd.h"

/* Samples of a register tile. */
#define MB (N_VREGS >= 32 ? 4 : 2)
/* Columns of a strip handled at a time: the vectors of 8 samples over them, and those of 16 rows,
 * fit the first cache. */
#define STRIP_COLUMNS (16 * 64 / (int)sizeof(real))

/* part[m][r] (+)= lanes of g[r] . v[m] for nr rows and mb samples over n columns. Every (row,
 * sample) has one running vector, so that the result does not depend on how samples or columns are
 * grouped.
 * Currents into row nodes: nr x mb running vectors, q over the columns. */
EQP_INLINE void dots_tile(const real *g, int64_t ld, const real *v, int64_t ldv, int n, real *part,
                          int64_t ldp, int first, int mb, int nr) {
    /* running vectors of the rows and samples: constants nr and mb keep them in registers */
    vec a[8][4];
    for (int r = 0; r < nr; r++)
        for (int m = 0; m < mb; m++) a[r][m] = first ? vset(0) : vload(part + m * ldp + r * VL);
    for (int q = 0; q < n; q += VL) {
        vec x[4];
        for (int m = 0; m < mb; m++) x[m] = vload(v + m * ldv + q);
        for (int r = 0; r < nr; r++) {
            const vec w = vload(g + r * ld + q);
            for (int m = 0; m < mb; m++) a[r][m] = vfma(w, x[m], a[r][m]);
        }
    }
    for (int r = 0; r < nr; r++)
        for (int m = 0; m < mb; m++) vstore(part + m * ldp + r * VL, a[r][m]);
}

/* out[m][r] = g[r] . v[m] for nr rows (a multiple of 4) and n_samples samples; part: n_samples x nr
 * x VL scratch.
 * A current into node r of the row layer is g[r] . v, v the column layer's voltages of sample m. */
static void strip_dots(const real *g, int64_t ld, int nr, const real *v, int64_t ldv, int n,
                       real *part, real *out, int64_t ldo, int n_samples) {
    const int64_t ldp = (int64_t)nr * VL;
    /* columns of a strip that stay in the first cache while all samples use them */
    const int block = n_samples > MB ? STRIP_COLUMNS : n; /* or all, where none reads them again */
    for (int q = 0; q < n; q += block) {
        const int width = n - q < block ? n - q : block, first = q == 0;
        int r = 0;
        /* one running vector a row: many rows, lest each addition wait for the last */
        if (n_samples == 1)
            for (; r + 8 <= nr; r += 8)
                dots_tile(g + r * ld + q, ld, v + q, ldv, width, part + r * VL, ldp, first, 1, 8);
        for (; r < nr; r += 4) {
            const real *row = g + r * ld + q;
            int m = 0;
            for (; m + MB <= n_samples; m += MB)
                dots_tile(row, ld, v + m * ldv + q, ldv, width, part + m * ldp + r * VL, ldp, first,
                          MB, 4);
            if (MB > 2 && n_samples - m >= 2) {
                dots_tile(row, ld, v + m * ldv + q, ldv, width, part + m * ldp + r * VL, ldp, first,
                          2, 4);
                m += 2;
            }
            if (m < n_samples)
                dots_tile(row, ld, v + m * ldv + q, ldv, width, part + m * ldp + r * VL, ldp, first,
                          1, 4);
        }
    }
    for (int m = 0; m < n_samples; m++) vhsums(part + m * ldp, nr, out + m * ldo);
}

/* acc[m] (+)= sum_r v[m][r] g[r] over nv vectors of columns and the nr rows listed: currents into
 * column nodes, each row of g being loaded once for all samples of the tile. */
EQP_INLINE void add_rows_tile(const real *g, int64_t ld, const int *rows, int nr, const real *v,
                              int64_t ldv, real *acc, int64_t lda, int first, int mb, int nv) {
    vec a[4][4];
    for (int m = 0; m < mb; m++)
        for (int i = 0; i < nv; i++) a[m][i] = first ? vset(0) : vload(acc + m * lda + i * VL);
    for (int k = 0; k < nr; k++) {
        const int64_t r = rows[k];
        vec w[4];
        for (int i = 0; i < nv; i++) w[i] = vload(g + r * ld + i * VL);
        for (int m = 0; m < mb; m++) {
            const vec x = vset(v[m * ldv + r]);
            for (int i = 0; i < nv; i++) a[m][i] = vfma(w[i], x, a[m][i]);
        }
    }
    for (int m = 0; m < mb; m++)
        for (int i = 0; i < nv; i++) vstore(acc + m * lda + i * VL, a[m][i]);
}

/* One tile of columns for all samples, MB of them at a time: the strip's columns stay in the first
 * cache. */
EQP_INLINE void add_rows_columns(const real *g, int64_t ld, const int *rows, int nr, const real *v,
                                 int64_t ldv, real *acc, int64_t lda, int first, int n_samples,
                                 int nv) {
    int m = 0;
    for (; m + MB <= n_samples; m += MB)
        add_rows_tile(g, ld, rows, nr, v + m * ldv, ldv, acc + m * lda, lda, first, MB, nv);
    if (MB > 2 && n_samples - m >= 2) {
        add_rows_tile(g, ld, rows, nr, v + m * ldv, ldv, acc + m * lda, lda, first, 2, nv);
        m += 2;
    }
    if (m < n_samples)
        add_rows_tile(g, ld, rows, nr, v + m * ldv, ldv, acc + m * lda, lda, first, 1, nv);
}

/* acc[m] (+)= sum_r v[m][r] g[r]; rows whose node is at 0 V in every sample (a diode conducts) are
 * skipped.
 * In a network of diodes that is half of the rows of a single sample. */
static void strip_add_rows(const real *g, int64_t ld, int nr, const real *v, int64_t ldv, int n,
                           real *acc, int64_t lda, int first, int n_samples) {
    for (int r0 = 0; r0 < nr; r0 += EQP_X_SUB) {
        int rows[EQP_X_SUB], used = 0, q = 0;
        for (int r = r0; r < nr && r < r0 + EQP_X_SUB; r++) {
            /* does any sample have a voltage at this row? */
            int live = 0;
            for (int m = 0; m < n_samples; m++) live |= v[m * ldv + r] != 0;
            rows[used] = r;
            used += live;
        }
        for (; q + 4 * VL <= n; q += 4 * VL)
            add_rows_columns(g + q, ld, rows, used, v, ldv, acc + q, lda, first, n_samples, 4);
        for (; q < n; q += VL)
            add_rows_columns(g + q, ld, rows, used, v, ldv, acc + q, lda, first, n_samples, 1);
        first = 0;
    }
}

/* Momentum: v <- momentum v + gradient, then a step along v (Nesterov: along gradient + momentum
 * v). */
typedef struct {
    real rate, momentum;
    int nesterov;
} mover;

/* New conductances (VL) along the velocity, which is in/out. */
EQP_INLINE vec vmove(const mover *mover, vec w, vec gradient, real *velocity) {
    const vec mu = vset(mover->momentum), v = vfma(mu, vload(velocity), gradient);
    vstore(velocity, v);
    return vsub(w, vmul(vset(mover->rate), mover->nesterov ? vfma(mu, v, gradient) : v));
}

/* One row of an inner matrix. bracket = from + pj - sum_b (d_b mc_b + m_b dc_b) over nb samples;
 * without g it is stored in `to`, else g <- clip(g - kappa bracket, lo, hi), added to col, and the
 * sum of the new row is returned. With a velocity, kappa bracket is the gradient that `mover`
 * follows.
 *     d, m        d and m of the row's node, one number a sample, ldr apart
 *     dc, mc      d and m of the column nodes, one row a sample, ldc apart
 *     pj          sum_b d m of the row's node; from: that of the columns
 *     col         running column sums of the new conductances
 */
EQP_INLINE real learn_row(real *g, real *to, const real *from, real pj, const real *d,
                          const real *m, int64_t ldr, const real *dc, const real *mc, int64_t ldc,
                          int n_cols, real kappa, real lo, real hi, real *col, int nb,
                          const mover *mover, real *velocity) {
    /* bracket = from + pj - sum_b (d m_c + m d_c), in two chains (s, u) that add at the end */
    const vec vlo = vset(lo), vhi = vset(hi), vk = vset(-kappa), vp = vset(pj);
    vec db[4], mb[4], total = vset(0);
    for (int b = 0; b < nb; b++) db[b] = vset(-d[b * ldr]), mb[b] = vset(-m[b * ldr]);
    for (int i = 0; i < ldc; i += VL) {
        vec s = vadd(vp, vload(from + i)), u = vset(0);
        for (int b = 0; b < nb; b++) {
            s = vfma(db[b], vload(mc + b * ldc + i), s);
            u = vfma(mb[b], vload(dc + b * ldc + i), u);
        }
        s = vadd(s, u);
        if (!g) {
            vstore(to + i, s);
            continue;
        }
        vec w = velocity ? vmove(mover, vload(g + i), vmul(vset(kappa), s), velocity + i)
                         : vfma(vk, s, vload(g + i));
        w = vminr(vhi, vmaxr(vlo, w));
        if (i + VL > n_cols) w = vkeep(w, n_cols - i > 0 ? n_cols - i : 0);
        vstore(g + i, w);
        total = vadd(total, w);
        vstore(col + i, vadd(vload(col + i), w));
    }
    return vhsum(total);
}

/* Non-zero inputs of a batch, by input node j: samples entry[start[j]..start[j+1]) with voltages
 * value[]. */
typedef struct {
    int32_t *start, *entry;
    real *value;
} sparse_batch;

/* One sweep over the input conductances of a block of columns, g as [node][sign][block]:
 *     learn   g <- clip(g - shift +- 2 kappa sum_m value_m diff[m], lo, hi)
 *             (shift, diff, now: the batch just relaxed)
 *     sum     sum <- column sums of the new g, both signs
 *     drive   drive[m] <- sum_j value_m (g+ - g-)            (next: the batch to come)
 *
 * The drop over an input conductance is v_j - v_k with v_j the same in both nudged states, so all
 * that depends on j is linear in v_j: nodes at 0 V in the whole batch get `shift` alone. With a
 * velocity, laid out as g, what is taken off g above is the gradient that `mover` follows.
 *
 *     p, n        conductances to the sources at +A x and -A x
 *     c, w        what is taken off both, and what differs between them
 *     s           column sums of both
 */
EQP_INLINE void input_sweep(real *g, int n_nodes, int block, int learn, const sparse_batch *now,
                            const real *shift, const real *diff, real two_kappa, real lo, real hi,
                            const sparse_batch *next, real *sum, real *drive, int64_t ld,
                            int n_samples, int nv, const mover *mover, real *velocity) {
    const vec vlo = vset(lo), vhi = vset(hi), v2k = vset(two_kappa);
    vec s[4], c[4];
    for (int i = 0; i < nv; i++) s[i] = vset(0), c[i] = learn ? vload(shift + i * VL) : vset(0);
    for (int m = 0; m < n_samples; m++)
        for (int i = 0; i < nv; i++) vstore(drive + m * ld + i * VL, vset(0));
    for (int j = 0; j < n_nodes; j++) {
        /* both conductances stay in registers from the step to the drive */
        real *gp = g + (int64_t)j * 2 * block, *gm = gp + block;
        vec p[4], n[4];
        for (int i = 0; i < nv; i++) p[i] = vload(gp + i * VL), n[i] = vload(gm + i * VL);
        if (learn) {
            vec w[4];
            for (int i = 0; i < nv; i++) {
                w[i] = vset(0);
                if (!velocity) p[i] = vsub(p[i], c[i]), n[i] = vsub(n[i], c[i]);
            }
            /* samples in which node j is not at 0 V */
            int e = now->start[j];
            const int e1 = now->start[j + 1];
            if (e < e1) {
                for (; e < e1; e++) {
                    const vec x = vset(now->value[e]);
                    const real *d = diff + now->entry[e] * ld;
                    for (int i = 0; i < nv; i++) w[i] = vfma(x, vload(d + i * VL), w[i]);
                }
                for (int i = 0; i < nv; i++) {
                    w[i] = vmul(w[i], v2k);
                    if (!velocity) p[i] = vadd(p[i], w[i]), n[i] = vsub(n[i], w[i]);
                }
            }
            /* what is taken off is a gradient: the velocity takes it up, and moves both signs */
            for (int i = 0; velocity && i < nv; i++) {
                real *vp = velocity + (gp - g) + i * VL;
                p[i] = vmove(mover, p[i], vsub(c[i], w[i]), vp),
                n[i] = vmove(mover, n[i], vadd(c[i], w[i]), vp + block);
            }
            for (int i = 0; i < nv; i++) {
                p[i] = vminr(vhi, vmaxr(vlo, p[i])), n[i] = vminr(vhi, vmaxr(vlo, n[i]));
                vstore(gp + i * VL, p[i]), vstore(gm + i * VL, n[i]);
            }
        }
        /* column sums of both signs; drive of the coming batch by their difference */
        for (int i = 0; i < nv; i++) s[i] = vadd(s[i], vadd(p[i], n[i]));
        const int e1 = next->start[j + 1];
        int e = next->start[j];
        if (e < e1) {
            for (int i = 0; i < nv; i++) p[i] = vsub(p[i], n[i]);
            for (; e < e1; e++) {
                const vec x = vset(next->value[e]);
                real *a = drive + next->entry[e] * ld;
                for (int i = 0; i < nv; i++) vstore(a + i * VL, vfma(x, p[i], vload(a + i * VL)));
            }
        }
    }
    for (int i = 0; i < nv; i++) vstore(sum + i * VL, s[i]);
}
#endif
