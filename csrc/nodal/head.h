/* nodal_head.h - elimination of the pivots of a symmetric sparse matrix that cause little fill, one matrix at a time.
 *
 * A = L D L^T for the first n_head pivots. What they do to the others lands, by precomputed places, in later columns of
 * the same buffer or in the dense tail that a library factors. The pattern and places are made once for a topology.
 */
#ifndef EQP_NODAL_HEAD_H
#define EQP_NODAL_HEAD_H

#include "core/eqprop.h"
#include "core/real.h"

/* Places: target >= 0 is an entry of `value`, target = -1 - k the diagonal of head pivot k. */
static int head_factor(const eqp_nodal_head_job *j) {
    real *value = j->value, *pivot = j->pivot;
    const int64_t *target = j->target;
    if (!target) return EQP_E_NULL;
    for (int32_t c = 0; c < j->n_head; c++) {
        const int64_t first = j->ptr[c], end = j->ptr[c + 1];
        if (!(pivot[c] > 0)) return EQP_E_SINGULAR;
        const real inverse = 1 / pivot[c];
        for (int64_t k = first; k < end; k++) {
            const real f = value[k] * inverse;
            for (int64_t i = k; i < end; i++, target++) {
                const real change = value[i] * f;
                if (*target >= 0) value[*target] -= change;
                else pivot[-1 - *target] -= change;
            }
        }
        for (int64_t k = first; k < end; k++) value[k] *= inverse;
    }
    return EQP_OK;
}

/* b <- L^-1 b over the head's columns; the tail's rows of b change too. */
static void head_forward(const eqp_nodal_head_job *j) {
    const real *value = j->value;
    real *b = j->b;
    const size_t w = (size_t)j->n_rows;
    for (int32_t c = 0; c < j->n_head; c++)
        for (int64_t k = j->ptr[c]; k < j->ptr[c + 1]; k++)
            for (size_t r = 0; r < w; r++) b[(size_t)j->row[k] * w + r] -= value[k] * b[(size_t)c * w + r];
}

/* b <- L^-T D^-1 b over the head, once the tail's rows hold their solution. */
static void head_backward(const eqp_nodal_head_job *j) {
    const real *value = j->value, *pivot = j->pivot;
    real *b = j->b;
    const size_t w = (size_t)j->n_rows;
    for (int32_t c = j->n_head - 1; c >= 0; c--) {
        const real inverse = 1 / pivot[c];
        for (size_t r = 0; r < w; r++) b[(size_t)c * w + r] *= inverse;
        for (int64_t k = j->ptr[c]; k < j->ptr[c + 1]; k++)
            for (size_t r = 0; r < w; r++) b[(size_t)c * w + r] -= value[k] * b[(size_t)j->row[k] * w + r];
    }
}
#endif
