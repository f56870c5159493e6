/* conv.c - connections between layers of a graph, up and down (equations 1.7): implicit matrix
 * products and runs (graph.h), with pooling and unpooling.
 *
 *     up (lift)     above += pool(conv(below; W))          dense: below W
 *     down (drop)   below += conv'(unpool(above); W)       dense: above W'
 *
 * Letters: graph.h, and
 *     z           what a convolution makes of one row of squares, (window, OW, PW): before pooling
 *     p, first    a panel of weights, its first channel above;  valid: channels it really has
 *     y, x        a pixel of the layer above;  yy, xx: of the map below
 *     dy          a row in a pooled square
 *     apart       from one place of the kernel to the next in a row of the map: stride C
 *
 * A sample's result does not depend on the samples beside it. */
#include "graph/graph.h"

/* `map`, (H, W, C), with its padding, which is zero, as (PH_, PW_, C) in `padded`; or itself if
 * there is none. */
const real *pad_map(const edge *link, const real *map, real *padded) {
    if (!link->padding) return map;
    const int64_t row = (int64_t)link->PW_ * link->C, inner = (int64_t)link->W * link->C;
    memset(padded, 0, (size_t)(link->PH_ * row) * sizeof(real));
    for (int y = 0; y < link->H; y++)
        copy_reals(padded + (y + link->padding) * row + (int64_t)link->padding * link->C,
                   map + y * inner, inner);
    return padded;
}

/* c (mr x width, rows PW apart) = sum over the runs of a_r W_r: row m of a_r begins at a + m rs + r
 * next_run, W_r (run x width) are rows of the panel b. One chain for each output, though a tile
 * takes but MAX_OPERANDS runs at a time: the next ones go on from c. */
static void products(const edge *link, const real *a, int64_t rs, int64_t next_run, const real *b,
                     int width, int mr, real *c) {
    static const real zeros[PW];
    operand terms[MAX_OPERANDS];
    int64_t done = 0;
    while (done < link->runs) {
        int n = 0;
        for (; n < MAX_OPERANDS && done < link->runs; n++, done++)
            terms[n] = (operand){a + done * next_run, b + done * link->run * width, rs, 1, width,
                                 (int)link->run};
        /* start at 0, and not at `above`: the convolution is pooled before it is added */
        const int first = done <= MAX_OPERANDS;
        gemm_tile(mr, width, first ? zeros : c, first ? 0 : PW, c, PW, terms, n);
    }
}

/* above[j] += v[j], n numbers. */
static void add_to(real *above, const real *v, int n) {
    for (int j = 0; j < n; j++) above[j] += v[j];
}

/* One pooled pixel, up to PW channels: above[j] += max or mean of the square's entries z[.][j],
 * where[j] = q of the maximum. Neighbours in a row of the square lie PW apart, its rows `row`
 * apart. The first of equal entries is the maximum, as in the NumPy twin. n channels are kept; the
 * lanes past them are computed for nothing, which lets loops have constant length. `above` NULL:
 * the places only. */
static void pool_pixel(const edge *link, const real *z, int64_t row, int n, real *above,
                       int32_t *where) {
    const int window = link->window;
    real best[PW];
    if (link->pool == POOL_AVERAGE) {
        memset(best, 0, sizeof best);
        for (int q = 0; q < window * window; q++)
            add_to(best, z + q / window * row + (int64_t)(q % window) * PW, PW);
        /* the factor of drop_unit and correlate_unit, 1 / places, is the same */
        const real share_ = 1 / (real)(window * window);
        for (int j = 0; j < PW; j++) best[j] *= share_;
        add_to(above, best, n);
        return;
    }
    int32_t place[PW];
    copy_reals(best, z, PW);
    memset(place, 0, sizeof place);
    for (int q = 1; q < window * window; q++) {
        const real *entry = z + q / window * row + (int64_t)(q % window) * PW;
        for (int j = 0; j < PW; j++) {
            /* also over a number: what is none must reach the states, which are judged */
            const int over = !(entry[j] <= best[j]) && best[j] == best[j];
            place[j] = over ? q : place[j];
            best[j] = over ? entry[j] : best[j];
        }
    }
    if (above) add_to(above, best, n);
    memcpy(where, place, (size_t)n * sizeof *where);
}

/* A dense connection: above (rows x n above) += below (rows x n below) W. */
static void lift_dense(const edge *link, const real *below, int64_t ld_below, real *above,
                       int64_t ld_above, int rows, real *z) {
    for (int p = 0; p < n_panels(link->O); p++) {
        const int width = panel_width(link->O, p), first = p * PW;
        const int valid = link->O - first < width ? link->O - first : width;
        for (int i = 0; i < row_blocks(rows); i++) {
            const int m0 = row_start(rows, i), m1 = row_start(rows, i + 1);
            products(link, below + m0 * ld_below, ld_below, 0, panel_at(link->up, link->run, p),
                     width, m1 - m0, z);
            for (int m = m0; m < m1; m++)
                add_to(above + m * ld_above + first, z + (m - m0) * PW, valid);
        }
    }
}

/* above += what comes up the link from `below`, `rows` samples (equations 1.7), and where[unit] = q
 * of the maxima, with the stride of `above`. `above` NULL: the places only, of a link that pools
 * maxima. `padded`, `z`: the thread's buffers (tile_plan). */
void lift(const edge *link, const real *below, int64_t ld_below, real *above, int64_t ld_above,
          int32_t *where, int rows, real *padded, real *z) {
    if (link->dense) {
        lift_dense(link, below, ld_below, above, ld_above, rows, z);
        return;
    }
    const int64_t line = (int64_t)link->PW_ * link->C, apart = (int64_t)link->stride * link->C;
    const int64_t row = (int64_t)link->OW * PW, K = link->runs * link->run;
    const int window = link->window, panels = n_panels(link->O);
    /* A panel of weights serves all samples before the next one is read, where their maps need no
     * copy for the padding: that copy is made once a sample, so there samples go outside. */
    const int outer = link->padding ? rows : 1, inner = link->padding ? 1 : rows;
    for (int s0 = 0; s0 < outer; s0++) {
        const real *padded_map = pad_map(link, below + s0 * ld_below, padded);
        for (int p = 0; p < panels; p++) {
            const int width = panel_width(link->O, p), first = p * PW;
            const int valid = link->O - first < width ? link->O - first : width;
            const real *b = panel_at(link->up, K, p);
            for (int s = s0; s < s0 + inner; s++) {
                const real *map = link->padding ? padded_map : below + s * ld_below;
                for (int y = 0; y < link->h; y++) {
                    /* the map's `window` rows that pool into row y, by register tiles of pixels */
                    for (int dy = 0; dy < window; dy++)
                        for (int i = 0; i < row_blocks(link->OW); i++) {
                            const int x0 = row_start(link->OW, i), x1 = row_start(link->OW, i + 1);
                            products(link,
                                     map + (int64_t)(y * window + dy) * link->stride * line +
                                         x0 * apart,
                                     apart, line, b, width, x1 - x0,
                                     z + dy * row + (int64_t)x0 * PW);
                        }
                    for (int x = 0; x < link->w; x++) {
                        const int64_t unit = (int64_t)(y * link->w + x) * link->O + first;
                        real *to = above ? above + s * ld_above + unit : NULL;
                        /* z is pooled, by PW channels, before the next row of squares overwrites
                         * it */
                        if (window == 1)
                            add_to(to, z + (int64_t)x * PW, valid);
                        else
                            pool_pixel(link, z + (int64_t)x * window * PW, row, valid, to,
                                       where ? where + s * ld_above + unit : NULL);
                    }
                }
            }
        }
    }
}

/* to += v w, the runs of `w` ld apart, those of `to` `line` apart. Whole vectors: lanes past a run
 * have w = 0, so what lies behind it in `to`, the next pixels or a row's padding, keeps its
 * value. */
EQP_INLINE void add_runs(const edge *link, real v, const real *w, real *to, int64_t line) {
    const vec a = vset(v);
    for (int64_t r = 0; r < link->runs; r++, w += link->ld, to += line)
        for (int64_t i = 0; i < link->ld; i += VL)
            vstore(to + i, vfma(a, vload(w + i), vload(to + i)));
}

/* Sends channel o of one sample's map above (h, w, O) down to the padded map `to` below: each unit
 * to the place of its maximum, or a part of it to all places of its square. */
static void drop_unit(const edge *link, int o, const real *above, const int32_t *where, real *to) {
    const int64_t line = (int64_t)link->PW_ * link->C;
    const int window = link->window, places = link->pool == POOL_MAX ? 1 : window * window;
    const real *w = link->down + o * link->runs * link->ld, part = 1 / (real)places;
    for (int y = 0; y < link->h; y++)
        for (int x = 0; x < link->w; x++) {
            const int64_t unit = (int64_t)(y * link->w + x) * link->O + o;
            const real v = above[unit] * part;
            /* adds nothing; under hard activations many units are at 0 */
            if (v == 0) continue;
            for (int i = 0; i < places; i++) {
                const int q = link->pool == POOL_MAX ? where[unit] : i;
                const int64_t yy = (int64_t)(y * window + q / window) * link->stride,
                              xx = (int64_t)(x * window + q % window) * link->stride;
                add_runs(link, v, w, to + yy * line + xx * link->C, line);
            }
        }
}

/* below += what comes down the link from `above`, `rows` samples (equations 1.7). `below` is a
 * field and must not be `above`. Rows of `below` may be written up to a vector beyond their end,
 * which adds zeros there. */
void drop(const edge *link, const real *above, int64_t ld_above, const int32_t *where, real *below,
          int64_t ld_below, int rows, real *padded) {
    if (link->dense) {
        const int64_t n = link->run;
        for (int p = 0; p < n_panels(n); p++) {
            const int width = panel_width(n, p);
            for (int i = 0; i < row_blocks(rows); i++) {
                const int m0 = row_start(rows, i), m1 = row_start(rows, i + 1);
                const operand term = {above + m0 * ld_above,
                                      panel_at(link->down, link->O, p),
                                      ld_above,
                                      1,
                                      width,
                                      link->O};
                real *c = below + m0 * ld_below + (int64_t)p * PW;
                /* in place: a tile is read before it is written */
                gemm_tile(m1 - m0, width, c, ld_below, c, ld_below, &term, 1);
            }
        }
        return;
    }
    const int64_t row = (int64_t)link->PW_ * link->C, inner = (int64_t)link->W * link->C;
    for (int s = 0; s < rows; s++) {
        real *map = below + s * ld_below, *to = map;
        /* with padding, sums are made in a map that has it, and its inner part is added */
        if (link->padding) {
            to = padded;
            memset(to, 0, (size_t)(link->PH_ * row) * sizeof(real));
        }
        /* channel by channel: their k k C weights stay in the cache for all pixels */
        for (int o = 0; o < link->O; o++)
            drop_unit(link, o, above + s * ld_above, where ? where + s * ld_above : NULL, to);
        if (link->padding)
            for (int y = 0; y < link->H; y++)
                add_to(map + y * inner,
                       to + (y + link->padding) * row + (int64_t)link->padding * link->C,
                       (int)inner);
    }
}
