/* sparse.h - numeric refactorisation of VL sparse matrices of one pattern at once, one per lane.
 *
 * Left-looking by columns in a given pivot order (Gilbert and Peierls 1988 without the symbolic
 * part, which SuperLU did once for the topology). No pivoting: the caller checks the answer.
 *
 *     c, k       a column, an earlier column that it meets
 *     p, q       an entry of a factor
 *     work       the column being made, by pivot row
 */
#ifndef EQP_NODAL_SPARSE_H
#define EQP_NODAL_SPARSE_H

#include "core/eqprop.h"
#include "core/simd.h"

/* Factors value (nnz vectors) into l and u (vectors of the strict factors) and rdiag (n reciprocal
 * pivots); work: (n) vectors. */
static void sparse_lu(const eqp_nodal_job *job, const real *value, real *l, real *u, real *rdiag,
                      real *work) {
    const vec zero = vset(0), one = vset(1);
    for (int c = 0; c < job->n; c++) {
        /* column c of A, spread out over the rows that its factors have */
        for (int32_t p = job->u_ptr[c]; p < job->u_ptr[c + 1]; p++)
            vstore(work + (size_t)job->u_row[p] * VL, zero);
        for (int32_t p = job->l_ptr[c]; p < job->l_ptr[c + 1]; p++)
            vstore(work + (size_t)job->l_row[p] * VL, zero);
        vstore(work + (size_t)c * VL, zero);
        for (int32_t p = job->a_ptr[c]; p < job->a_ptr[c + 1]; p++)
            vstore(work + (size_t)job->a_row[p] * VL, vload(value + (size_t)job->a_src[p] * VL));
        for (int32_t p = job->u_ptr[c]; p < job->u_ptr[c + 1]; p++) {
            /* every earlier column that it meets, in order: u_kc is done, take l_k u_kc off the
             * rest */
            const int32_t k = job->u_row[p];
            const vec f = vload(work + (size_t)k * VL), minus = vsub(zero, f);
            vstore(u + (size_t)p * VL, f);
            for (int32_t q = job->l_ptr[k]; q < job->l_ptr[k + 1]; q++) {
                real *t = work + (size_t)job->l_row[q] * VL;
                vstore(t, vfma(vload(l + (size_t)q * VL), minus, vload(t)));
            }
        }
        /* the pivot; what is left below it is l_c, but for the pivot */
        const vec inverse = vdiv(one, vload(work + (size_t)c * VL));
        vstore(rdiag + (size_t)c * VL, inverse);
        for (int32_t p = job->l_ptr[c]; p < job->l_ptr[c + 1]; p++)
            vstore(l + (size_t)p * VL, vmul(vload(work + (size_t)job->l_row[p] * VL), inverse));
    }
}

/* b (n vectors, by equation) becomes the solution (by unknown); y: (n) vectors of work. */
static void sparse_solve(const eqp_nodal_job *job, const real *l, const real *u, const real *rdiag,
                         real *b, real *y) {
    for (int c = 0; c < job->n; c++)
        vstore(y + (size_t)c * VL, vload(b + (size_t)job->row_of[c] * VL));
    for (int c = 0; c < job->n; c++) {
        /* L y = b, column by column */
        const vec minus = vsub(vset(0), vload(y + (size_t)c * VL));
        for (int32_t q = job->l_ptr[c]; q < job->l_ptr[c + 1]; q++) {
            real *t = y + (size_t)job->l_row[q] * VL;
            vstore(t, vfma(vload(l + (size_t)q * VL), minus, vload(t)));
        }
    }
    for (int c = job->n - 1; c >= 0; c--) {
        /* U x = y, from the last column on; x goes to where its unknown is */
        const vec x = vmul(vload(y + (size_t)c * VL), vload(rdiag + (size_t)c * VL)),
                  minus = vsub(vset(0), x);
        vstore(b + (size_t)job->col_of[c] * VL, x);
        for (int32_t q = job->u_ptr[c]; q < job->u_ptr[c + 1]; q++) {
            real *t = y + (size_t)job->u_row[q] * VL;
            vstore(t, vfma(vload(u + (size_t)q * VL), minus, vload(t)));
        }
    }
}
#endif
