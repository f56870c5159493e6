/* dense.h - LU of VL dense matrices at once, one per lane, without pivoting (the caller checks the
 * answer).
 *
 *     n, nt      unknowns, tiles of TILE of them
 *     w          the matrices, factored in place: tile (I, J) at (I * nt + J), each a vector an
 * entry rdiag      reciprocals of the pivots
 *
 * The inner product of a tile row and a tile column then reads whole cache lines. L is kept
 * negated, so that every inner step is one multiply-add. */
#ifndef EQP_NODAL_DENSE_H
#define EQP_NODAL_DENSE_H

#include "core/simd.h"

#if N_VREGS >= 32
#define TILE 4 /* 16 accumulators */
#else
#define TILE 3 /* 9 accumulators of 16 registers */
#endif
/* The accumulators must become registers: every loop over a tile is unrolled whole. */
#define UNROLL     _Pragma("GCC unroll 16")
#define TILE_REALS (TILE * TILE * VL)

/* Tiles of n unknowns. */
static inline int tiles_of(int n) { return (n + TILE - 1) / TILE; }

/* Where entry (r, c) begins. */
EQP_INLINE real *dense_at(real *w, int nt, int r, int c) {
    return w + ((size_t)(r / TILE) * nt + c / TILE) * TILE_REALS +
           ((r % TILE) * TILE + c % TILE) * VL;
}

/* Every lane starts from the shared base (n, n); the padding is an identity. */
static void dense_fill(real *w, const real *base, int n) {
    const int nt = tiles_of(n);
    for (int r = 0; r < nt * TILE; r++)
        for (int c = 0; c < nt * TILE; c++)
            vstore(dense_at(w, nt, r, c),
                   vset(r < n && c < n ? base[(size_t)r * n + c] : (real)(r == c)));
}

/* acc += sum_K (-L)(I, K) U(K, J), K < upto */
EQP_INLINE void tile_product(vec *acc, const real *l, const real *u, int nt, int upto) {
    for (int k = 0; k < upto; k++, l += TILE_REALS, u += (size_t)nt * TILE_REALS) UNROLL
    for (int p = 0; p < TILE; p++) {
        vec row[TILE];
        UNROLL
        for (int c = 0; c < TILE; c++) row[c] = vload(u + (p * TILE + c) * VL);
        UNROLL
        for (int r = 0; r < TILE; r++) {
            const vec f = vload(l + (r * TILE + p) * VL);
            UNROLL
            for (int c = 0; c < TILE; c++) acc[r * TILE + c] = vfma(f, row[c], acc[r * TILE + c]);
        }
    }
}

/* In place: strict lower part -L, upper part U; reciprocal pivots go to rdiag (nt * TILE vectors).
 */
static void dense_lu(real *w, real *rdiag, int n) {
    const int nt = tiles_of(n);
    const vec zero = vset(0), one = vset(1);
    for (int k = 0; k < nt; k++) {
        /* tile row k of U, then tile column k of L: left-looking, so that a tile is written once */
        const real *column = w + (size_t)k * TILE_REALS;
        real *row = w + (size_t)k * nt * TILE_REALS, *diag = row + (size_t)k * TILE_REALS;
        real *rd = rdiag + (size_t)k * TILE * VL;
        for (int j = k; j < nt; j++) {
            real *t = row + (size_t)j * TILE_REALS;
            vec a[TILE * TILE];
            UNROLL
            for (int i = 0; i < TILE * TILE; i++) a[i] = vload(t + i * VL);
            tile_product(a, row, w + (size_t)j * TILE_REALS, nt, k);
            if (j == k) { /* the diagonal tile: its pivots, and -L below them */
                UNROLL
                for (int p = 0; p < TILE; p++) {
                    const vec inverse = vdiv(one, a[p * TILE + p]);
                    vstore(rd + p * VL, inverse);
                    UNROLL
                    for (int r = p + 1; r < TILE; r++) {
                        const vec f = vsub(zero, vmul(a[r * TILE + p], inverse));
                        a[r * TILE + p] = f;
                        UNROLL
                        for (int c = p + 1; c < TILE; c++)
                            a[r * TILE + c] = vfma(f, a[p * TILE + c], a[r * TILE + c]);
                    }
                }
            } else { /* to its right: L^-1 of the diagonal tile */
                UNROLL
                for (int p = 0; p < TILE; p++) {
                    UNROLL
                    for (int r = p + 1; r < TILE; r++) {
                        const vec f = vload(diag + (r * TILE + p) * VL);
                        UNROLL
                        for (int c = 0; c < TILE; c++)
                            a[r * TILE + c] = vfma(f, a[p * TILE + c], a[r * TILE + c]);
                    }
                }
            }
            UNROLL
            for (int i = 0; i < TILE * TILE; i++) vstore(t + i * VL, a[i]);
        }
        for (int i = k + 1; i < nt; i++) {
            real *t = w + ((size_t)i * nt + k) * TILE_REALS;
            vec a[TILE * TILE];
            UNROLL
            for (int q = 0; q < TILE * TILE; q++) a[q] = vload(t + q * VL);
            tile_product(a, w + (size_t)i * nt * TILE_REALS, column, nt, k);
            UNROLL
            for (int p = 0; p < TILE; p++) { /* -L = -(a U^-1) */
                const vec inverse = vload(rd + p * VL);
                UNROLL
                for (int r = 0; r < TILE; r++) {
                    const vec f = vsub(zero, vmul(a[r * TILE + p], inverse));
                    a[r * TILE + p] = f;
                    UNROLL
                    for (int c = p + 1; c < TILE; c++)
                        a[r * TILE + c] =
                            vfma(f, vload(diag + (p * TILE + c) * VL), a[r * TILE + c]);
                }
            }
            UNROLL
            for (int q = 0; q < TILE * TILE; q++) vstore(t + q * VL, a[q]);
        }
    }
}

/* b (nt * TILE vectors, zero in the padding) becomes the solution. */
static void dense_solve(const real *w, const real *rdiag, real *b, int n) {
    const int nt = tiles_of(n);
    const vec zero = vset(0);
    for (int i = 0; i < nt; i++) {
        vec a[TILE];
        UNROLL
        for (int r = 0; r < TILE; r++) a[r] = vload(b + (i * TILE + r) * VL);
        for (int k = 0; k < i; k++) {
            const real *t = w + ((size_t)i * nt + k) * TILE_REALS;
            UNROLL
            for (int p = 0; p < TILE; p++) {
                const vec x = vload(b + (k * TILE + p) * VL);
                UNROLL
                for (int r = 0; r < TILE; r++) a[r] = vfma(vload(t + (r * TILE + p) * VL), x, a[r]);
            }
        }
        const real *d = w + ((size_t)i * nt + i) * TILE_REALS;
        UNROLL
        for (int p = 0; p < TILE; p++) {
            UNROLL
            for (int r = p + 1; r < TILE; r++)
                a[r] = vfma(vload(d + (r * TILE + p) * VL), a[p], a[r]);
        }
        UNROLL
        for (int r = 0; r < TILE; r++) vstore(b + (i * TILE + r) * VL, a[r]);
    }
    /* back substitution with U */
    for (int i = nt - 1; i >= 0; i--) {
        vec a[TILE];
        UNROLL
        for (int r = 0; r < TILE; r++) a[r] = vload(b + (i * TILE + r) * VL);
        for (int k = i + 1; k < nt; k++) {
            const real *t = w + ((size_t)i * nt + k) * TILE_REALS;
            UNROLL
            for (int p = 0; p < TILE; p++) {
                const vec x = vsub(zero, vload(b + (k * TILE + p) * VL));
                UNROLL
                for (int r = 0; r < TILE; r++) a[r] = vfma(vload(t + (r * TILE + p) * VL), x, a[r]);
            }
        }
        const real *d = w + ((size_t)i * nt + i) * TILE_REALS;
        UNROLL
        for (int r = TILE - 1; r >= 0; r--) {
            UNROLL
            for (int c = r + 1; c < TILE; c++)
                a[r] = vfma(vload(d + (r * TILE + c) * VL), vsub(zero, a[c]), a[r]);
            a[r] = vmul(a[r], vload(rdiag + (i * TILE + r) * VL));
        }
        UNROLL
        for (int r = 0; r < TILE; r++) vstore(b + (i * TILE + r) * VL, a[r]);
    }
}
#endif
