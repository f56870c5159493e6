/* test_nodal.c - the nodal kernel alone, for the sanitizers: a ladder of resistors and diodes,
 * dense and sparse, and the update of conductances, on 1 and 3 threads.
 *
 * Build with one instruction set and precision, e.g.
 *   cc -fsanitize=address,undefined -DEQP_ISA=sse2 -DEQP_ISA_SSE2=1 -DEQP_REAL_F64=1 -Icsrc
 * csrc/tests/test_nodal.c -lm
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "nodal/nodal.c"

#define CHECK(ok)                                                    \
    do {                                                             \
        if (!(ok)) {                                                 \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #ok); \
            exit(1);                                                 \
        }                                                            \
    } while (0)

static void *get(size_t bytes) {
    void *p = calloc(bytes ? bytes : 1, 1);
    CHECK(p);
    return p;
}

#define MOST_THREADS 3

typedef struct {
    eqp_nodal_job *newton; /* or */
    eqp_nodal_update_job *update;
    int thread, n_threads, status;
} worker;

static void *work(void *arg) {
    worker *w = arg;
    if (w->newton)
        w->status = EQP_NAME(nodal_newton)(w->newton, w->thread, w->n_threads);
    else
        w->status = EQP_NAME(nodal_update)(w->update, w->thread, w->n_threads);
    return NULL;
}

/* Every thread of one job must return `wanted`. */
static void run_threads(eqp_nodal_job *newton, eqp_nodal_update_job *update, int n_threads,
                        int wanted) {
    worker w[MOST_THREADS];
    pthread_t id[MOST_THREADS];
    for (int t = 0; t < n_threads; t++) w[t] = (worker){newton, update, t, n_threads, -1};
    for (int t = 1; t < n_threads; t++) CHECK(!pthread_create(&id[t], NULL, work, &w[t]));
    work(&w[0]);
    for (int t = 1; t < n_threads; t++) CHECK(!pthread_join(id[t], NULL));
    for (int t = 0; t < n_threads; t++) CHECK(w[t].status == wanted);
}

/* n nodes in a row, 1 mS between neighbours and to ground, a diode from every node to ground; the
 * last one ideal. */
static void ladder(int n, int m, int sparse, int n_threads) {
    const int total = n + 1,
              nnz = 3 * n + 1; /* tridiagonal, plus the ideal diode's row and column */
    real *dense = get(sizeof(real) * (size_t)total * total), *csr = get(sizeof(real) * (size_t)nnz);
    int32_t *indptr = get(4 * (size_t)(total + 1)), *indices = get(4 * (size_t)nnz);
    int32_t *id = get(4 * (size_t)total), *a_ptr = get(4 * (size_t)(total + 1)),
            *a_row = get(4 * (size_t)nnz);
    int32_t *a_src = get(4 * (size_t)nnz), *l_ptr = get(4 * (size_t)(total + 1)),
            *l_row = get(4 * (size_t)total);
    int32_t *u_row = get(4 * (size_t)total), *anode = get(4 * (size_t)n),
            *cathode = get(4 * (size_t)n);
    int32_t *branch = get(4 * (size_t)n), *stamp = get(36 * (size_t)n);
    real *par = get(sizeof(real) * 7 * (size_t)n);
    int at = 0;
    for (int r = 0; r < total; r++) {
        indptr[r] = at;
        a_ptr[r] = at;
        id[r] = r;
        for (int c = r - 1; c <= r + 1; c++) {
            if (c < 0 || c >= total) continue;
            const real g = r == n || c == n
                               ? (real)(r == n - 1 && c == n) /* KCL of the ideal diode */
                               : (r == c ? (real)3e-3 : (real)-1e-3);
            dense[(size_t)r * total + c] = g;
            csr[at] = g;
            indices[at] = c;
            a_row[at] =
                c; /* the pattern is symmetric: column r holds the rows c, from places (c, r) */
            at++;
        }
        l_ptr[r + 1] = r + 1 < total ? r + 1 : r;
        if (r + 1 < total) l_row[r] = r + 1;
        if (r > 0) u_row[r - 1] = r - 1;
    }
    CHECK(at == nnz);
    indptr[total] = a_ptr[total] = at;
    int32_t *u_ptr = get(4 * (size_t)(total + 1));
    for (int r = 1; r <= total; r++) u_ptr[r] = r - 1;
    for (int r = 0; r < total; r++)
        for (int p = a_ptr[r]; p < a_ptr[r + 1]; p++)
            for (int q = indptr[a_row[p]]; q < indptr[a_row[p] + 1]; q++)
                if (indices[q] == r) a_src[p] = q;
    for (int d = 0; d < n; d++) {
        const int ideal = d == n - 1;
        anode[d] = d;
        cathode[d] = -1;
        branch[d] = ideal ? n : -1;
        for (int k = 0; k < 9; k++) stamp[9 * d + k] = -1;
        const real row[7] = {
            (real)1e-14,    (real)0.02585, d % 2 ? 10 : 0, (real)0.73, (real)(ideal ? 0 : 1e-12),
            (real)INFINITY, (real)0.02585};
        memcpy(par + 7 * d, row, sizeof row);
        for (int p = indptr[ideal ? n : d]; p < indptr[(ideal ? n : d) + 1]; p++) {
            if (!ideal && indices[p] == d) stamp[9 * d] = sparse ? p : d * total + d;
            if (ideal && indices[p] == d) stamp[9 * d + 6] = sparse ? p : n * total + d;
            if (ideal && indices[p] == n) stamp[9 * d + 8] = sparse ? p : n * total + n;
        }
    }
    real *rhs = get(sizeof(real) * (size_t)m * total), *offset = get(sizeof(real) * (size_t)m * n);
    real *x = get(sizeof(real) * (size_t)m * total), *junction = get(sizeof(real) * (size_t)m * n);
    for (int s = 0; s < m; s++)
        for (int d = 0; d < n; d++) {
            rhs[(size_t)s * total + d] = (real)(1e-2 * ((s + d) % 5 - 2));
            junction[(size_t)s * n + d] = d == n - 1 ? 0 : (real)0.73;
        }
    int32_t *iterations = get(4 * (size_t)m), *status = get(4 * (size_t)m),
            *worst = get(4 * (size_t)m);
    double *step = get(8 * (size_t)m);
    eqp_nodal_job job = {.n = total,
                         .n_diodes = n,
                         .n_samples = m,
                         .base = sparse ? csr : dense,
                         .indptr = sparse ? indptr : NULL,
                         .indices = indices,
                         .row_of = id,
                         .col_of = id,
                         .a_ptr = a_ptr,
                         .a_row = a_row,
                         .a_src = a_src,
                         .l_ptr = l_ptr,
                         .l_row = l_row,
                         .u_ptr = u_ptr,
                         .u_row = u_row,
                         .anode = anode,
                         .cathode = cathode,
                         .branch = branch,
                         .stamp = stamp,
                         .parameters = par,
                         .rhs = rhs,
                         .offset = offset,
                         .x = x,
                         .junction = junction,
                         .vtol = 1e-10,
                         .rtol = 1e-9,
                         .max_iter = 100,
                         .single_after = 40,
                         .iterations = iterations,
                         .sample_status = status,
                         .step = step,
                         .worst = worst};
    CHECK(EQP_NAME(nodal_newton)(&job, 0, n_threads) == EQP_E_NULL);
    CHECK(EQP_NAME(nodal_newton_scratch)(&job, 0, n_threads) == EQP_OK);
    const int64_t need = job.scratch_size;
    CHECK(posix_memalign(&job.scratch, 64, (size_t)need) == 0);
    job.scratch_size = need - 1;
    CHECK(EQP_NAME(nodal_newton)(&job, 0, n_threads) == EQP_E_SCRATCH);
    job.scratch_size = need;
    run_threads(&job, NULL, n_threads, EQP_OK);
    for (int s = 0; s < m; s++) {
        const real *v = x + (size_t)s * total;
        if (sizeof(real) < sizeof(double)) { /* single precision need not settle on a Shockley
                                                diode: only stay sane */
            for (int d = 0; d < total; d++) CHECK(isfinite((double)v[d]));
            continue;
        }
        CHECK(status[s] == CONVERGED && iterations[s] < 60);
        CHECK(v[n] >= -1e-15 && v[n - 1] <= 1e-11 && fabs((double)(v[n] * v[n - 1])) < 1e-13);
        for (int d = 0; d < n;
             d++) { /* Kirchhoff at every node, diode currents from their own equation */
            const double left = d ? v[d - 1] : 0, right = d + 1 < n ? v[d + 1] : 0;
            double sum = 3e-3 * v[d] - 1e-3 * (left + right) - rhs[(size_t)s * total + d];
            const double vj = junction[(size_t)s * n + d];
            const double cube = pow(3 * 0.02585 / (vj * exp(1.0)), 3);
            sum += d == n - 1
                       ? v[n]
                       : (vj >= -3 * 0.02585 ? 1e-14 * expm1(vj / 0.02585) : -1e-14 * (1 + cube)) +
                             1e-12 * vj;
            CHECK(fabs(sum) < 1e-12);
        }
    }
    void *all[] = {dense,  csr,   indptr,   indices,    id,      a_ptr,  a_row, a_src,      l_ptr,
                   l_row,  u_ptr, u_row,    anode,      cathode, branch, stamp, par,        rhs,
                   offset, x,     junction, iterations, status,  worst,  step,  job.scratch};
    for (size_t k = 0; k < sizeof all / sizeof *all; k++) free(all[k]);
}

/* n conductances between the nodes of a ring, m samples: against sums in plain C, and refused when
 * not a number. */
static void update(int n, int m, int n_threads) {
    real *d = get(sizeof(real) * (size_t)(n + 1) * m), *t = get(sizeof(real) * (size_t)(n + 1) * m);
    real *vectors = get(sizeof(real) * 6 * (size_t)(n + 1));
    real *scale = vectors, *low = scale + n, *high = low + n, *g = high + n, *velocity = g + n,
         *gradient = velocity + n;
    int32_t *pairs = get(8 * (size_t)(n + 1));
    for (int k = 0; k < (n + 1) * m; k++) d[k] = (real)(k % 7 - 3) / 8, t[k] = (real)(k % 5) / 4;
    for (int k = 0; k < n; k++) {
        pairs[2 * k] = k < n / 2 ? k : 0,
                  pairs[2 * k + 1] = (k + 1) % (n + 1); /* the second half leaves one node */
        scale[k] = 2, low[k] = -1, high[k] = 1, velocity[k] = (real)0.5;
    }
    eqp_nodal_update_job job = {.n_pairs = n,
                                .n_samples = m,
                                .difference = d,
                                .total = t,
                                .pairs = pairs,
                                .scale = scale,
                                .velocity = velocity,
                                .conductance = g,
                                .low = low,
                                .high = high,
                                .gradient = gradient,
                                .learning_rate = 0.25,
                                .momentum = 0.5};
    for (int bad = 0; bad < 2; bad++) {
        eqp_barrier barrier = {0};
        job.barrier = &barrier, job.not_finite = 0;
        if (bad) d[m - 1] = (real)INFINITY;
        run_threads(NULL, &job, n_threads, bad ? EQP_E_DIVERGED : EQP_OK);
        for (int k = 0; k < n; k++) {
            double sum = 0;
            if (bad) break;
            for (int s = 0; s < m; s++) {
                const size_t a = (size_t)pairs[2 * k] * m + s, b = (size_t)pairs[2 * k + 1] * m + s;
                sum += (double)(d[a] - d[b]) * (double)(t[a] - t[b]);
            }
            const double v = 0.25 - 0.5 * sum; /* momentum 0.5, rate 0.25, scale 2 */
            CHECK(fabs((double)gradient[k] - 2 * sum) < 1e-4 &&
                  fabs((double)velocity[k] - v) < 1e-4);
            CHECK(fabs((double)g[k] - (v < -1 ? -1 : v > 1 ? 1 : v)) < 1e-4);
        }
    }
    void *all[] = {d, t, vectors, pairs};
    for (size_t k = 0; k < sizeof all / sizeof *all; k++) free(all[k]);
}

/* L D L^T of a tridiagonal matrix of n pivots, all in the head, and a solution with it. Its arrays
 * are on the heap and exactly as long as they must be. */
static void head(int n) {
    int64_t *ptr = get(((size_t)n + 1) * sizeof *ptr), *target = get((size_t)n * sizeof *target);
    int32_t *row = get(((size_t)n - 1) * sizeof *row);
    real *value = get(((size_t)n - 1) * sizeof *value), *pivot = get((size_t)n * sizeof *pivot),
         *b = get((size_t)n * sizeof *b);
    for (int k = 0; k < n; k++) {
        ptr[k + 1] = k + 1 < n ? k + 1 : n - 1;
        pivot[k] = 4, b[k] = 1;
        if (k + 1 < n) row[k] = k + 1, value[k] = 1, target[k] = -2 - k;
    }
    eqp_nodal_head_job job = {.n_head = n,
                              .n = n,
                              .ptr = ptr,
                              .row = row,
                              .target = target,
                              .value = value,
                              .pivot = pivot,
                              .b = b,
                              .n_rows = 1};
    for (job.task = 0; job.task < 3; job.task++) CHECK(EQP_NAME(nodal_head)(&job, 0, 1) == EQP_OK);
    for (int k = 0; k < n; k++) {
        const double left = k ? (double)b[k - 1] : 0, right = k + 1 < n ? (double)b[k + 1] : 0;
        CHECK(fabs(left + 4 * (double)b[k] + right - 1) < 1e-5);
    }
    pivot[n - 1] = 0, job.task = 0;
    CHECK(EQP_NAME(nodal_head)(&job, 0, 1) == EQP_E_SINGULAR);
    void *all[] = {ptr, target, row, value, pivot, b};
    for (size_t k = 0; k < sizeof all / sizeof *all; k++) free(all[k]);
}

int main(void) {
    static const int sizes[] = {1, 2, 7, 8, 9, 15, 16, 17, 33};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
        for (int sparse = 0; sparse < 2; sparse++) {
            ladder(sizes[k], 5, sparse, 1);
            ladder(5, sizes[k], sparse, 3);
        }
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
        for (int n_threads = 1; n_threads <= MOST_THREADS; n_threads += 2) {
            update(sizes[k], 9, n_threads);
            update(5, sizes[k], n_threads);
        }
    eqp_nodal_update_job empty = {.n_pairs = 1};
    CHECK(EQP_NAME(nodal_update)(&empty, 0, 1) == EQP_E_NULL);
    CHECK(EQP_NAME(nodal_update)(&empty, 1, 1) == EQP_E_SIZE);
    empty.n_pairs = -1;
    CHECK(EQP_NAME(nodal_update)(&empty, 0, 1) == EQP_E_SIZE);
    for (int n = 2; n < 9; n++) head(n);
    eqp_nodal_head_job none = {.task = 3};
    real nothing = 1;
    int64_t zero = 0;
    CHECK(EQP_NAME(nodal_head)(&none, 0, 1) == EQP_E_NULL);
    none.ptr = &zero, none.value = &nothing, none.pivot = &nothing;
    CHECK(EQP_NAME(nodal_head)(&none, 0, 1) == EQP_E_OPTION);
    none.n_head = -1;
    CHECK(EQP_NAME(nodal_head)(&none, 0, 1) == EQP_E_SIZE);
    puts("test_nodal: ok");
    return 0;
}
