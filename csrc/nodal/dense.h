/* dense.h - LU of VL dense matrices at once, one per lane, without pivoting (the caller checks the
 * answer). Letters: nodal.c.
 *
 *     n, nt      unknowns, tiles of TILE of them
 *     w          the matrices, factored in place: tile (I, J) at (I * nt + J), each entry a vector
 *     rdiag      reciprocals of the pivots
 *     a          a tile in registers, row by row
 *     p          a pivot within a tile
 *
 * Left-looking: for k = 0, 1, ... tile row k of U is A's less what the tiles to its left and above
 * contribute, one inner product of tiles each; then tile column k of L likewise. Every tile is read
 * and written once.
 *
 * The inner product of a tile row and a tile column then reads whole cache lines. L is kept
 * negated, so that every inner step is one multiply-add. */
#ifndef EQP_NODAL_DENSE_H
#define EQP_NODAL_DENSE_H

#include "core/simd.h"

/* Rows and columns of a tile: 16 accumulators of 32 registers, 9 of 16. */
#if N_VREGS >= 32
#define TILE 4
#else
#define TILE 3
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
    /* rows and columns behind the last unknown solve 1 x = 0 */
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

/* A tile from and to memory. */
EQP_INLINE void tile_load(vec *a, const real *tile) {
    UNROLL
    for (int i = 0; i < TILE * TILE; i++) a[i] = vload(tile + i * VL);
}
EQP_INLINE void tile_store(real *tile, const vec *a) {
    UNROLL
    for (int i = 0; i < TILE * TILE; i++) vstore(tile + i * VL, a[i]);
}

/* The diagonal tile: its reciprocal pivots into rd, -L below them, U above. */
EQP_INLINE void factor_tile(vec *a, real *rd) {
    UNROLL
    for (int p = 0; p < TILE; p++) {
        const vec inverse = vdiv(vset(1), a[p * TILE + p]);
        vstore(rd + p * VL, inverse);
        UNROLL
        for (int r = p + 1; r < TILE; r++) {
            const vec f = vsub(vset(0), vmul(a[r * TILE + p], inverse));
            a[r * TILE + p] = f;
            UNROLL
            for (int c = p + 1; c < TILE; c++)
                a[r * TILE + c] = vfma(f, a[p * TILE + c], a[r * TILE + c]);
        }
    }
}

/* A tile to the right of the diagonal one, a <- L^-1 a: a tile of U. */
EQP_INLINE void upper_tile(vec *a, const real *diag) {
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

/* A tile below the diagonal one, a <- -(a U^-1): a tile of -L. */
EQP_INLINE void lower_tile(vec *a, const real *diag, const real *rd) {
    UNROLL
    for (int p = 0; p < TILE; p++) {
        const vec inverse = vload(rd + p * VL);
        UNROLL
        for (int r = 0; r < TILE; r++) {
            const vec f = vsub(vset(0), vmul(a[r * TILE + p], inverse));
            a[r * TILE + p] = f;
            UNROLL
            for (int c = p + 1; c < TILE; c++)
                a[r * TILE + c] = vfma(f, vload(diag + (p * TILE + c) * VL), a[r * TILE + c]);
        }
    }
}

/* In place: strict lower part -L, upper part U; reciprocal pivots go to rdiag (nt * TILE vectors).
 * Left-looking, so that a tile is written once: tile row k of U, then tile column k of L. */
static void dense_lu(real *w, real *rdiag, int n) {
    const int nt = tiles_of(n);
    for (int k = 0; k < nt; k++) {
        const real *column = w + (size_t)k * TILE_REALS;
        real *row = w + (size_t)k * nt * TILE_REALS, *diag = row + (size_t)k * TILE_REALS;
        real *rd = rdiag + (size_t)k * TILE * VL;
        /* U: the diagonal tile first, for the others need it */
        for (int j = k; j < nt; j++) {
            real *t = row + (size_t)j * TILE_REALS;
            vec a[TILE * TILE];
            tile_load(a, t);
            tile_product(a, row, w + (size_t)j * TILE_REALS, nt, k);
            if (j == k)
                factor_tile(a, rd);
            else
                upper_tile(a, diag);
            tile_store(t, a);
        }
        /* L, negated, below it */
        for (int i = k + 1; i < nt; i++) {
            real *t = w + ((size_t)i * nt + k) * TILE_REALS;
            vec a[TILE * TILE];
            tile_load(a, t);
            tile_product(a, w + (size_t)i * nt * TILE_REALS, column, nt, k);
            lower_tile(a, diag, rd);
            tile_store(t, a);
        }
    }
}

/* acc += (tile at t) x, TILE vectors each. */
EQP_INLINE void tile_times(vec *acc, const real *t, const vec *x) {
    UNROLL
    for (int p = 0; p < TILE; p++) {
        UNROLL
        for (int r = 0; r < TILE; r++) acc[r] = vfma(vload(t + (r * TILE + p) * VL), x[p], acc[r]);
    }
}

/* Forward substitution, L y = b, in place: L is kept negated, so products add. */
static void dense_forward(const real *w, real *b, int nt) {
    for (int i = 0; i < nt; i++) {
        vec a[TILE], x[TILE];
        UNROLL
        for (int r = 0; r < TILE; r++) a[r] = vload(b + (i * TILE + r) * VL);
        for (int k = 0; k < i; k++) {
            UNROLL
            for (int p = 0; p < TILE; p++) x[p] = vload(b + (k * TILE + p) * VL);
            tile_times(a, w + ((size_t)i * nt + k) * TILE_REALS, x);
        }
        /* within the diagonal tile, a pivot after another */
        const real *diag = w + ((size_t)i * nt + i) * TILE_REALS;
        UNROLL
        for (int p = 0; p < TILE; p++) {
            UNROLL
            for (int r = p + 1; r < TILE; r++)
                a[r] = vfma(vload(diag + (r * TILE + p) * VL), a[p], a[r]);
        }
        UNROLL
        for (int r = 0; r < TILE; r++) vstore(b + (i * TILE + r) * VL, a[r]);
    }
}

/* Back substitution, U x = y, in place, from the last tile up. */
static void dense_backward(const real *w, const real *rdiag, real *b, int nt) {
    const vec zero = vset(0);
    for (int i = nt - 1; i >= 0; i--) {
        vec a[TILE], x[TILE];
        UNROLL
        for (int r = 0; r < TILE; r++) a[r] = vload(b + (i * TILE + r) * VL);
        for (int k = i + 1; k < nt; k++) {
            UNROLL
            for (int p = 0; p < TILE; p++) x[p] = vsub(zero, vload(b + (k * TILE + p) * VL));
            tile_times(a, w + ((size_t)i * nt + k) * TILE_REALS, x);
        }
        /* within the diagonal tile, from its last pivot up */
        const real *diag = w + ((size_t)i * nt + i) * TILE_REALS;
        UNROLL
        for (int r = TILE - 1; r >= 0; r--) {
            UNROLL
            for (int c = r + 1; c < TILE; c++)
                a[r] = vfma(vload(diag + (r * TILE + c) * VL), vsub(zero, a[c]), a[r]);
            a[r] = vmul(a[r], vload(rdiag + (i * TILE + r) * VL));
        }
        UNROLL
        for (int r = 0; r < TILE; r++) vstore(b + (i * TILE + r) * VL, a[r]);
    }
}

/* b (nt * TILE vectors, zero in the padding) becomes the solution. */
static void dense_solve(const real *w, const real *rdiag, real *b, int n) {
    dense_forward(w, b, tiles_of(n));
    dense_backward(w, rdiag, b, tiles_of(n));
}
#endif
