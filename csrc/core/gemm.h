/* gemm.h - the one matrix micro-kernel: C[MR x width] += sum of products A_i B_i, B in vector-wide panels.
 *
 * Every output element is one chain of fused multiply-adds over k in order, whatever MR is: so a sample's result
 * does not depend on the samples it shares a tile with, nor on the number of threads.
 */
#ifndef EQP_GEMM_H
#define EQP_GEMM_H

#include "core/simd.h"

#define PAD 16                                /* rows of states are padded to this many reals, for any VL */
#define PW (2 * VL > PAD ? 2 * VL : PAD)      /* columns of a packed panel */
#define MR_MAX (N_VREGS >= 32 ? 12 : 6)       /* rows of a register tile of two vectors */

EQP_INLINE int64_t pad_up(int64_t n) { return (n + PAD - 1) / PAD * PAD; }

/* Element (m, k) of A is a[m*rs + k*ks]; row k of B is b + k*ldb. */
typedef struct {
    const real *a, *b;
    int64_t rs, ks, ldb;
    int k;
} operand;
#define MAX_OPERANDS 6

/* c: MR x (NV vectors), out; c_in its start values (row stride 0: one row, the bias, for all). */
EQP_INLINE void tile_body(const int MR, const int NV, const real *c_in, int64_t ld_in, real *c, int64_t ldc,
                          const operand *op, int n_op) {
    vec acc[MR_MAX][2];
#pragma GCC unroll 12
    for (int m = 0; m < MR; m++)
#pragma GCC unroll 2
        for (int v = 0; v < NV; v++) acc[m][v] = vload(c_in + m * ld_in + v * VL);
    for (int i = 0; i < n_op; i++) {
        const real *a = op[i].a, *b = op[i].b;
        const int64_t rs = op[i].rs, ks = op[i].ks, ldb = op[i].ldb;
        for (int k = 0; k < op[i].k; k++, a += ks, b += ldb) {
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

#define TILE_CASE(n) case n: tile_body(n, NV, c_in, ld_in, c, ldc, op, n_op); break;
EQP_INLINE void tile_rows(const int NV, int mr, const real *c_in, int64_t ld_in, real *c, int64_t ldc,
                          const operand *op, int n_op) {
    switch (mr) {
        TILE_CASE(1) TILE_CASE(2) TILE_CASE(3) TILE_CASE(4) TILE_CASE(5) TILE_CASE(6)
#if N_VREGS >= 32
        TILE_CASE(7) TILE_CASE(8) TILE_CASE(9) TILE_CASE(10) TILE_CASE(11) TILE_CASE(12)
#endif
    default: break;
    }
}

/* One tile, mr <= MR_MAX rows, width <= PW columns (a multiple of VL). */
static inline void gemm_tile(int mr, int width, const real *c_in, int64_t ld_in, real *c, int64_t ldc,
                             const operand *op, int n_op) {
    operand moved[MAX_OPERANDS];
    for (int q = 0; q < n_op; q++) moved[q] = op[q];
    for (int col = 0; col < width;) {
        const int nv = col + 2 * VL <= width ? 2 : 1;
        if (nv == 2) tile_rows(2, mr, c_in + col, ld_in, c + col, ldc, moved, n_op);
        else tile_rows(1, mr, c_in + col, ld_in, c + col, ldc, moved, n_op);
        col += nv * VL;
        for (int q = 0; q < n_op; q++) moved[q].b += nv * VL;
    }
}

/* Rows m are cut into even blocks of at most MR_MAX: block i of row_blocks(m) starts at row_start(m, i). */
EQP_INLINE int row_blocks(int m) { return (m + MR_MAX - 1) / MR_MAX; }
EQP_INLINE int row_start(int m, int i) { return (int)((int64_t)m * i / row_blocks(m)); }

/* Packed panels of a (rows x cols) matrix: panel p holds columns p*PW.., its rows contiguous. */
EQP_INLINE int panel_width(int64_t cols, int p) {
    const int64_t left = pad_up(cols) - (int64_t)p * PW;
    return (int)(left < PW ? left : PW);
}
EQP_INLINE int n_panels(int64_t cols) { return (int)((pad_up(cols) + PW - 1) / PW); }
EQP_INLINE real *panel_at(real *packed, int64_t rows, int p) { return packed + (int64_t)p * PW * rows; }

#endif
