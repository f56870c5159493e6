/* head.h - elimination of the pivots of a symmetric sparse matrix that cause little fill, one
 * matrix at a time.
 *
 * A = L D L^T for the first n_head pivots. What they do to the others lands, by precomputed
 * places, in later columns of the same buffer or in the dense tail that a library factors. The
 * pattern and places are made once for a topology.
 *
 *     c      a pivot, and its column of the strict lower factor: entries ptr[c]..ptr[c + 1]
 *     b      right-hand sides, n_rows of them side by side
 */
#ifndef EQP_NODAL_HEAD_H
#define EQP_NODAL_HEAD_H

#include "core/eqprop.h"
#include "core/real.h"

/* Factors the head. Places: target >= 0 is an entry of `value`, target = -1 - k the diagonal of
 * head pivot k. EQP_E_SINGULAR at a pivot that is not positive. */
static int head_factor(const eqp_nodal_head_job *job) {
    real *value = job->value, *pivot = job->pivot;
    const int64_t *target = job->target;
    if (!target) return EQP_E_NULL;
    for (int32_t c = 0; c < job->n_head; c++) {
        const int64_t first = job->ptr[c], end = job->ptr[c + 1];
        if (!(pivot[c] > 0)) return EQP_E_SINGULAR;
        const real inverse = 1 / pivot[c];
        /* what column c takes off the entries to its right and below, each once: A is symmetric */
        for (int64_t k = first; k < end; k++) {
            const real f = value[k] * inverse;
            for (int64_t i = k; i < end; i++, target++) {
                const real change = value[i] * f;
                if (*target >= 0)
                    value[*target] -= change;
                else
                    pivot[-1 - *target] -= change;
            }
        }
        for (int64_t k = first; k < end; k++) value[k] *= inverse;
    }
    return EQP_OK;
}

/* b <- L^-1 b over the head's columns; the tail's rows of b change too. */
static void head_forward(const eqp_nodal_head_job *job) {
    const real *value = job->value;
    real *b = job->b;
    const size_t w = (size_t)job->n_rows;
    for (int32_t c = 0; c < job->n_head; c++)
        for (int64_t k = job->ptr[c]; k < job->ptr[c + 1]; k++)
            for (size_t r = 0; r < w; r++)
                b[(size_t)job->row[k] * w + r] -= value[k] * b[(size_t)c * w + r];
}

/* b <- L^-T D^-1 b over the head, once the tail's rows hold their solution. */
static void head_backward(const eqp_nodal_head_job *job) {
    const real *value = job->value, *pivot = job->pivot;
    real *b = job->b;
    const size_t w = (size_t)job->n_rows;
    for (int32_t c = job->n_head - 1; c >= 0; c--) {
        const real inverse = 1 / pivot[c];
        for (size_t r = 0; r < w; r++) b[(size_t)c * w + r] *= inverse;
        for (int64_t k = job->ptr[c]; k < job->ptr[c + 1]; k++)
            for (size_t r = 0; r < w; r++)
                b[(size_t)c * w + r] -= value[k] * b[(size_t)job->row[k] * w + r];
    }
}
#endif
