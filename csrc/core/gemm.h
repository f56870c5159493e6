/* gemm.h - the one matrix micro-kernel: C[MR x width] = C_in + sum of products A_i B_i, with B in
 * vector-wide panels.
 *
 *     MR       rows of a tile (samples; in updates: units below)
 *     NV       vectors of a tile, 1 or 2; VL reals each
 *     PW       columns of a packed panel
 *     PAD      what rows of states are padded to
 *     terms    the products that are summed, one after the other
 *
 * Every output element is one chain of fused multiply-adds over k in order, whatever MR is: so a
 * sample's result does not depend on the samples it shares a tile with, nor on the number of
 * threads. This is where bit-equality for any number of threads comes from.
 *
 * The layers above and below a layer are two terms of one tile: the total field never goes through
 * memory between them. */
#ifndef EQP_GEMM_H
#define EQP_GEMM_H

#include "core/simd.h"

/* 16 whatever VL is: the layout of states does not depend on the instruction set. */
#define PAD 16 /* rows of states are padded to this many reals, for any VL */
#define PW  (2 * VL > PAD ? 2 * VL : PAD) /* columns of a packed panel */
/* 12 x 2 accumulators, 2 vectors of B and one of A fill 27 of 32 registers; 6 x 2, 15 of 16. */
#define MR_MAX (N_VREGS >= 32 ? 12 : 6) /* rows of a register tile of two vectors */

/* n rounded up to a multiple of PAD. */
EQP_INLINE int64_t pad_up(int64_t n) { return (n + PAD - 1) / PAD * PAD; }

/* One product: element (m, k) of A is a[m*rs + k*ks]; row k of B is b + k*ldb. Strides in both
 * directions, so that A may be read down its columns (the updates' transposed states). */
typedef struct {
    const real *a, *b;
    int64_t rs, ks, ldb;
    int k;
} operand;
/* Layers above and below, and four of the continual rules (layered/continual.c). */
#define MAX_OPERANDS 6

/* c: MR x (NV vectors), out; c_in its start values (row stride 0: one row, the bias, for all). */
EQP_INLINE void tile_body(const int MR, const int NV, const real *c_in, int64_t ld_in, real *c,
                          int64_t ldc, const operand *terms, int n_terms) {
    vec acc[MR_MAX][2];
#pragma GCC unroll 12
    for (int m = 0; m < MR; m++)
#pragma GCC unroll 2
        for (int v = 0; v < NV; v++) acc[m][v] = vload(c_in + m * ld_in + v * VL);
    for (int i = 0; i < n_terms; i++) {
        const real *a = terms[i].a, *b = terms[i].b;
        const int64_t rs = terms[i].rs, ks = terms[i].ks, ldb = terms[i].ldb;
        for (int k = 0; k < terms[i].k; k++, a += ks, b += ldb) {
            vec bv[2];
#pragma GCC unroll 2
            for (int v = 0; v < NV; v++) bv[v] = vload(b + v * VL);
#pragma GCC unroll 12
            for (int m = 0; m < MR; m++) {
                const vec av = vset(a[m * rs]);
#pragma GCC unroll 2
                for (int v = 0; v < NV; v++) acc[m][v] = vfma(av, bv[v], acc[m][v]);
            }
        }
    }
#pragma GCC unroll 12
    for (int m = 0; m < MR; m++)
#pragma GCC unroll 2
        for (int v = 0; v < NV; v++) vstore(c + m * ldc + v * VL, acc[m][v]);
}

/* tile_body with the number of rows made a constant. */
EQP_INLINE void tile_rows(const int NV, int mr, const real *c_in, int64_t ld_in, real *c,
                          int64_t ldc, const operand *terms, int n_terms) {
#define TILE_CASE(n) \
    case n: tile_body(n, NV, c_in, ld_in, c, ldc, terms, n_terms); break
    switch (mr) {
        TILE_CASE(1);
        TILE_CASE(2);
        TILE_CASE(3);
        TILE_CASE(4);
        TILE_CASE(5);
        TILE_CASE(6);
#if N_VREGS >= 32
        TILE_CASE(7);
        TILE_CASE(8);
        TILE_CASE(9);
        TILE_CASE(10);
        TILE_CASE(11);
        TILE_CASE(12);
#endif
    default: break;
    }
#undef TILE_CASE
}

/* One tile, mr <= MR_MAX rows, width <= PW columns (a multiple of VL). */
static inline void gemm_tile(int mr, int width, const real *c_in, int64_t ld_in, real *c,
                             int64_t ldc, const operand *terms, int n_terms) {
    operand moved[MAX_OPERANDS];
    for (int q = 0; q < n_terms; q++) moved[q] = terms[q];
    for (int col = 0; col < width;) {
        const int nv = col + 2 * VL <= width ? 2 : 1;
        if (nv == 2)
            tile_rows(2, mr, c_in + col, ld_in, c + col, ldc, moved, n_terms);
        else
            tile_rows(1, mr, c_in + col, ld_in, c + col, ldc, moved, n_terms);
        col += nv * VL;
        for (int q = 0; q < n_terms; q++) moved[q].b += nv * VL;
    }
}

/* Rows m are cut into even blocks of at most MR_MAX: block i of row_blocks(m) starts at
 * row_start(m, i). */
EQP_INLINE int row_blocks(int m) { return (m + MR_MAX - 1) / MR_MAX; }
/* Even blocks: with 13 rows 6 and 7, not 12 and 1, for a tile of one row wastes the loads of B. */
EQP_INLINE int row_start(int m, int i) { return (int)((int64_t)m * i / row_blocks(m)); }

/* Packed panels of a (rows x cols) matrix: panel p holds columns p*PW.., its rows contiguous. */
EQP_INLINE int panel_width(int64_t cols, int p) {
    const int64_t left = pad_up(cols) - (int64_t)p * PW;
    return (int)(left < PW ? left : PW);
}
/* Panels of a matrix with that many columns. */
EQP_INLINE int n_panels(int64_t cols) { return (int)((pad_up(cols) + PW - 1) / PW); }
/* Where panel p of a packed matrix of `rows` rows begins: all panels before it are PW wide. */
EQP_INLINE real *panel_at(real *packed, int64_t rows, int p) {
    return packed + (int64_t)p * PW * rows;
}

#endif
