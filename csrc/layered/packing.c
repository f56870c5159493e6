/* packing.c - the caller's arrays to and from the order in which the layered kernels read them
 * (layered.h, core/gemm.h). Letters: layered.h.
 *
 *     plain        the caller's matrix, rows x cols, row-major
 *     packed       its panels, one after another, or chunks of columns (weight[0])
 *     to_packed    which way things are moved
 */
#include "layered/layered.h"

/* One row of n reals to a padded one; zeros behind. */
void copy_row(real *dst, const real *src, int64_t n, int64_t padded) {
    copy_reals(dst, src, n);
    for (int64_t i = n; i < padded; i++) dst[i] = 0;
}

/* Columns first.. of a matrix (rows x cols), from or to one panel of `width` columns; columns
 * behind the last are zero when packed. */
static void move_panel(real *plain, real *packed, int64_t rows, int64_t cols, int64_t first,
                       int64_t width, int to_packed) {
    /* columns of the matrix that the panel has; the last panel may be wider than what is left */
    const int64_t valid = cols - first < width ? cols - first : width;
    for (int64_t i = 0; i < rows; i++) {
        real *p = plain + i * cols + first, *q = packed + i * width;
        if (to_packed)
            copy_row(q, p, valid, width);
        else
            copy_reals(p, q, valid);
    }
}

/* One array shaped as weight[k], thread's share of its chunks (k = 0) or panels. NULL: not there.
 */
static void move_weight(const network *net, int k, real *plain, real *packed, int thread,
                        int to_packed) {
    if (!plain) return;
    if (k == 0) {
        for (int c = (int)share(net->n_chunks, thread, net->n_threads);
             c < share(net->n_chunks, thread + 1, net->n_threads); c++)
            move_panel(plain, chunk_at(net, packed, c), net->n[0], net->n[1], c * net->chunk,
                       chunk_width(net, c), to_packed);
        return;
    }
    const int panels = n_panels(net->n[k + 1]);
    for (int p = (int)share(panels, thread, net->n_threads);
         p < share(panels, thread + 1, net->n_threads); p++)
        move_panel(plain, panel_at(packed, net->n[k], p), net->n[k], net->n[k + 1], (int64_t)p * PW,
                   panel_width(net->n[k + 1], p), to_packed);
}

/* weight[0] and the biases, and the inner matrices' panels, with their moments: between the
 * caller's arrays and the packed ones, the thread's chunks and panels. */
static void move_all(const network *net, int thread, int to_packed) {
    const eqp_layered_job *job = net->job;
    const int L = net->L;
    for (int k = 0; k < L; k++) {
        move_weight(net, k, job->weight[k], net->w[k], thread, to_packed);
        if (job->velocity)
            move_weight(net, k, job->velocity[k], net->velocity[k], thread, to_packed);
        if (job->second) move_weight(net, k, job->second[k], net->second[k], thread, to_packed);
        if (thread) continue; /* biases are too small to share */
        const int64_t n = net->n[k + 1], np = net->np[k + 1];
        move_panel(job->bias[k], net->bias[k], 1, n, 0, np, to_packed);
        if (job->velocity)
            move_panel(job->velocity[L + k], net->velocity[L + k], 1, n, 0, np, to_packed);
        if (job->second) move_panel(job->second[L + k], net->second[L + k], 1, n, 0, np, to_packed);
    }
}

/* The caller's independent feedback matrix k and its moments, thread's share of the panels. */
static void move_back(const network *net, int k, int thread, int to_packed) {
    const eqp_layered_job *job = net->job;
    const int64_t rows = net->n[k + 1], cols = net->n[k];
    const int panels = n_panels(cols), slot = 2 * net->L + k;
    for (int q = (int)share(panels, thread, net->n_threads);
         q < share(panels, thread + 1, net->n_threads); q++) {
        const int64_t width = panel_width(cols, q), first = (int64_t)q * PW;
        move_panel(job->back[k], panel_at(net->back[k], rows, q), rows, cols, first, width,
                   to_packed);
        if (job->velocity && job->velocity[slot])
            move_panel(job->velocity[slot], panel_at(net->velocity[slot], rows, q), rows, cols,
                       first, width, to_packed);
        if (job->second && job->second[slot])
            move_panel(job->second[slot], panel_at(net->second[slot], rows, q), rows, cols, first,
                       width, to_packed);
    }
}

/* Panels of a (cols x rows) matrix to those of its transpose (rows x cols), the thread's share.
 * Panel by panel of the result, so that what is written stays in the cache. */
void transpose_panels(real *from, real *to, int64_t rows, int64_t cols, int thread, int n_threads) {
    const int panels = n_panels(cols);
    for (int q = (int)share(panels, thread, n_threads); q < share(panels, thread + 1, n_threads);
         q++) {
        const int64_t width = panel_width(cols, q);
        real *dst = panel_at(to, rows, q);
        const int64_t lo = (int64_t)q * PW, valid = cols - lo < width ? cols - lo : width;
        /* a panel of the source is a block of rows of the result */
        for (int p = 0; p < n_panels(rows); p++) {
            const int64_t w = panel_width(rows, p), j0 = (int64_t)p * PW;
            const int64_t jn = rows - j0 < w ? rows - j0 : w;
            const real *src = panel_at(from, cols, p) + lo * w;
            for (int64_t j = 0; j < jn; j++) {
                real *row = dst + (j0 + j) * width;
                for (int64_t i = 0; i < valid; i++) row[i] = src[i * w + j];
                for (int64_t i = valid; i < width; i++) row[i] = 0;
            }
        }
    }
}

/* Feedback panels of weight[k], thread's share: the transpose of the forward panels (nothing to do
 * for the caller's own). */
void pack_back(network *net, int k, int thread) {
    if (net->job->back) return;
    transpose_panels(net->w[k], net->back[k], net->n[k + 1], net->n[k], thread, net->n_threads);
}

/* Column sums of the thread's chunks of weight[0]: through them rho(0) acts, which is taken out of
 * every input. */
static void sum_columns(const network *net, int thread) {
    for (int c = (int)share(net->n_chunks, thread, net->n_threads);
         c < share(net->n_chunks, thread + 1, net->n_threads); c++) {
        const int64_t width = chunk_width(net, c);
        real *sum = net->input_colsum + c * net->chunk;
        const real *w = chunk_at(net, net->w[0], c);
        memset(sum, 0, (size_t)width * sizeof(real));
        for (int64_t i = 0; i < net->n[0]; i++)
            for (int64_t v = 0; v < width; v += VL)
                vstore(sum + v, vadd(vload(sum + v), vload(w + i * width + v)));
    }
}

/* The job's parameters and moments to the packed order, and the transposes. All threads call it;
 * the caller puts a barrier after. */
void network_pack(network *net, int thread) {
    move_all(net, thread, 1);
    if (net->input_offset != 0) sum_columns(net, thread);
    /* the transpose reads every thread's forward panels */
    eqp_wait(net->job->barrier, net->n_threads);
    for (int k = 1; k < net->L; k++) {
        pack_back(net, k, thread);
        if (net->job->back) move_back(net, k, thread, 1);
    }
}

/* The packed parameters and moments back to the caller's arrays: the thread's own. */
void network_unpack(const network *net, int thread) {
    move_all(net, thread, 0);
    if (net->job->back)
        for (int k = 1; k < net->L; k++) move_back(net, k, thread, 0);
}
