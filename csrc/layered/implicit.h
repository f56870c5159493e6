/* implicit.h - implicit differentiation of one sample: the linear system of its equilibrium, every other layer eliminated, and its
 * dense solve. For gradients.c alone, which defines send_back. */
#ifndef EQP_IMPLICIT_H
#define EQP_IMPLICIT_H

/* Solves the (n x n) system whose right-hand side is its column n, by LU with partial pivoting, in blocks of PAD columns; n is
 * a multiple of PAD. The multipliers are kept negative, for the products add. Returns 0 if a pivot is exactly 0. */
static int solve(real *a, int64_t n, int64_t ld, real *z) {
    for (int64_t j0 = 0; j0 < n; j0 += PAD) {
        for (int64_t j = j0; j < j0 + PAD; j++) {
            int64_t best = j;
            for (int64_t i = j + 1; i < n; i++)
                if (fabs((double)a[i * ld + j]) > fabs((double)a[best * ld + j])) best = i;
            if (a[best * ld + j] == 0) return 0;
            if (best != j)
                for (int64_t c = j0; c < ld; c += VL) {
                    const vec t = vload(a + j * ld + c);
                    vstore(a + j * ld + c, vload(a + best * ld + c));
                    vstore(a + best * ld + c, t);
                }
            const real *row = a + j * ld, pivot = row[j];
            for (int64_t i = j + 1; i < n; i++) {
                real *other = a + i * ld;
                const real l = -other[j] / pivot;
                other[j] = l;
                for (int64_t c = j + 1; c < j0 + PAD; c++) other[c] += l * row[c];
            }
        }
        const int64_t right = j0 + PAD;
        for (int64_t i = j0 + 1; i < right; i++)
            for (int64_t q = j0; q < i; q++) {
                const vec l = vset(a[i * ld + q]);
                for (int64_t c = right; c < ld; c += VL) vstore(a + i * ld + c, vfma(l, vload(a + q * ld + c), vload(a + i * ld + c)));
            }
        const int below = (int)(n - right);
        for (int64_t c = right; c < ld; c += PW)
            for (int t = 0; t < row_blocks(below); t++) {
                const int64_t i0 = right + row_start(below, t);
                real *tile = a + i0 * ld + c;
                const operand op = {a + i0 * ld + j0, a + j0 * ld + c, ld, 1, ld, PAD};
                gemm_tile(row_start(below, t + 1) - row_start(below, t), (int)(ld - c < PW ? ld - c : PW), tile, ld, tile, ld, &op, 1);
            }
    }
    memset(z, 0, (size_t)n * sizeof(real));
    for (int64_t i = n - 1; i >= 0; i--) { /* z is still 0 up to i */
        vec sum = vset(0);
        for (int64_t c = i / PAD * PAD; c < n; c += VL) sum = vfma(vload(a + i * ld + c), vload(z + c), sum);
        z[i] = (a[i * ld + n] - vhsum(sum)) / a[i * ld + i];
    }
    return 1;
}

/* Layer k as the linear system of one sample sees it. */
typedef struct {
    const real *gain, *keep, *lean; /* np[k]; keep, lean NULL: discrete */
    real *bar, *flow, *scale;       /* np[k]; scale of an eliminated layer: gain lean / own */
    int gone;                       /* eliminated */
    int64_t at;                     /* else: its first row in the system */
} part;

EQP_INLINE real own_pivot(const network *net, const part *c, int64_t i) {
    return 1 - (c->keep ? c->keep[i] : 1 - (real)net->job->dt);
}

/* The weights that carry flow of layer b to layer a: panels of n[a] rows. */
EQP_INLINE real *between(const network *net, int a, int b) { return b > a ? net->w[a] : net->back[b]; }

/* Rows i0.. (mr of them) of kept layer a in the system of the kept layers. */
static void system_rows(const network *net, const part *parts, int a, int i0, int mr, real *system, int64_t n, real *scaled, int64_t widest) {
    static const real zeros[PW];
    const int L = net->L;
    const int64_t ld = n + PAD;
    const part *own = &parts[a];
    real tile[MR_MAX * PW], right[MR_MAX] = {0};
    for (int side = 0; side < 2; side++) { /* weights to the eliminated layers beside a, times their scale */
        const int e = side ? a + 1 : a - 1;
        if (e < 1 || e > L || !parts[e].gone) continue;
        for (int m = 0; m < mr; m++) {
            vec sum = vset(0);
            for (int p = 0; p < n_panels(net->n[e]); p++) {
                const int width = panel_width(net->n[e], p);
                const real *w = panel_at(between(net, a, e), net->n[a], p) + (int64_t)(i0 + m) * width;
                real *to = scaled + (side * MR_MAX + m) * widest + (int64_t)p * PW;
                for (int v = 0; v < width; v += VL) vstore(to + v, vmul(vload(w + v), vload(parts[e].scale + (int64_t)p * PW + v)));
            }
            if (e != L) continue; /* only the output has a bar: here bar / lean of what its elimination leaves */
            for (int p = 0; p < n_panels(net->n[e]); p++) {
                const int width = panel_width(net->n[e], p);
                const real *w = panel_at(between(net, a, e), net->n[a], p) + (int64_t)(i0 + m) * width;
                for (int v = 0; v < width; v += VL) {
                    real push[VL];
                    for (int l = 0; l < VL; l++) {
                        const int64_t i = (int64_t)p * PW + v + l;
                        push[l] = parts[e].gain[i] / own_pivot(net, &parts[e], i) * parts[e].bar[i];
                    }
                    sum = vfma(vload(w + v), vload(push), sum);
                }
            }
            right[m] = vhsum(sum);
        }
    }
    for (int m = 0; m < mr; m++) memset(system + (own->at + i0 + m) * ld, 0, (size_t)ld * sizeof(real));
    for (int c = 1; c <= L; c++) {
        if (parts[c].gone || c > a + 2 || c < a - 2) continue;
        for (int p = 0; p < n_panels(net->n[c]); p++) {
            const int width = panel_width(net->n[c], p);
            operand op[2];
            int n_op = 0;
            for (int side = 0; side < 2; side++) {
                const int e = side ? a + 1 : a - 1;
                if (e < 1 || e > L || !parts[e].gone || (c != e - 1 && c != e + 1)) continue;
                op[n_op++] = (operand){scaled + side * MR_MAX * widest, panel_at(between(net, e, c), net->n[e], p), widest, 1, width, net->n[e]};
            }
            gemm_tile(mr, width, zeros, 0, tile, PW, op, n_op);
            for (int m = 0; m < mr; m++) {
                const vec lean = vset(own->lean ? -own->lean[i0 + m] : -1);
                const int beside = c == a - 1 || c == a + 1;
                const real *w = beside ? panel_at(between(net, a, c), net->n[a], p) + (int64_t)(i0 + m) * width : NULL;
                for (int v = 0; v < width; v += VL) {
                    const int64_t column = (int64_t)p * PW + v;
                    const vec sum = beside ? vload(w + v) : vload(tile + m * PW + v);
                    vstore(system + (own->at + i0 + m) * ld + parts[c].at + column, vmul(lean, vmul(sum, vload(parts[c].gain + column))));
                }
            }
        }
    }
    for (int m = 0; m < mr; m++) {
        real *row = system + (own->at + i0 + m) * ld;
        row[own->at + i0 + m] += own_pivot(net, own, i0 + m);
        row[n] = (own->lean ? own->lean[i0 + m] : 1) * right[m] + own->bar[i0 + m];
    }
}

/* (I - J') z = bar of one sample, where J is the Jacobian of a synchronous step. Units of a layer do not meet in it but through
 * the layers beside: every other layer is eliminated through its diagonal, the larger half if no pivot of it is small, and a
 * dense system of the other layers is left. Returns 0 if that is singular. */
static int implicit_sample(const network *net, batch_buffers *b, int s, int thread) {
    gradient_buffers *g = &b->gradient;
    const int L = net->L;
    const real small = (real)(net->job->dt / 8);
    part parts[EQP_MAX_WEIGHTS + 1];
    int64_t half[2] = {0, 0}, n = 0, widest = 0;
    for (int k = 1; k <= L; k++) {
        const int64_t at = s * net->np[k];
        parts[k] = (part){g->gain[k] + at, net->euler ? g->keep[k] + at : NULL, net->euler ? g->lean[k] + at : NULL,
                          g->bar[k] + at, g->flow[k] + at, g->sum[k] + at, 0, 0};
        half[k & 1] += net->np[k];
        if (net->np[k] > widest) widest = net->np[k];
    }
    for (int k = 1; k <= L; k++) {
        part *c = &parts[k];
        if ((k & 1) == (half[1] >= half[0])) {
            c->gone = 1;
            for (int i = 0; i < net->n[k]; i++) {
                const real own = own_pivot(net, c, i);
                if (!(own >= small || own <= -small)) c->gone = 0;
            }
        }
        for (int64_t i = 0; c->gone && i < net->np[k]; i++)
            c->scale[i] = i < net->n[k] ? c->gain[i] * (c->lean ? c->lean[i] : 1) / own_pivot(net, c, i) : 0;
        if (!c->gone) c->at = n, n += net->np[k];
    }
    real *system = g->system + thread * g->system_size, *z = g->solution;
    real *scaled = g->scaled + (int64_t)thread * 2 * MR_MAX * widest;
    int64_t all = 0;
    for (int k = 1; k <= L; k++) all += net->np[k];
    z += thread * (all + PAD);
    for (int k = 1; k <= L; k++) {
        if (parts[k].gone) continue;
        for (int t = 0; t < row_blocks(net->n[k]); t++) {
            const int i0 = row_start(net->n[k], t);
            system_rows(net, parts, k, i0, row_start(net->n[k], t + 1) - i0, system, n, scaled, widest);
        }
        for (int64_t i = net->n[k]; i < net->np[k]; i++) { /* padding: equations of their own */
            real *row = system + (parts[k].at + i) * (n + PAD);
            memset(row, 0, (size_t)(n + PAD) * sizeof(real));
            row[parts[k].at + i] = 1;
        }
    }
    if (n > 0 && !solve(system, n, n + PAD, z)) return 0;
    real *flow[EQP_MAX_WEIGHTS + 1];
    for (int k = 1; k <= L; k++) {
        flow[k] = g->flow[k];
        for (int64_t v = 0; !parts[k].gone && v < net->np[k]; v += VL)
            vstore(parts[k].flow + v, vmul(vload(parts[k].gain + v), vload(z + parts[k].at + v)));
    }
    for (int k = 1; k <= L; k++) {
        const part *c = &parts[k];
        if (!c->gone) continue;
        send_back(net, g, k, flow, g->lean[k], s, s + 1);
        for (int64_t i = 0; i < net->np[k]; i++) c->flow[i] = i < net->n[k] ? c->gain[i] / own_pivot(net, c, i) * c->bar[i] : 0;
    }
    return 1;
}

#endif
