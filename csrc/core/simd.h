/* simd.h - one small vector vocabulary over `real`, once for each instruction set.
 *
 *     vec              VL lanes of `real`
 *     vload, vstore    VL reals from or to memory, aligned or not
 *     vset(a)          a in every lane
 *     vadd, vsub, vmul, vdiv
 *     vfma(a, b, c)    a b + c, rounded once where the set can
 *     vfnma(a, b, c)   c - a b, likewise
 *     vmaxr, vminr     the larger, the smaller; the SECOND operand if either is NaN, as x86 does
 *     vabs, vround     |a|; the nearest integer, ties to even
 *     vscale2(a, n)    a 2^n for whole n
 *     vreciprocal(b)   1 / b, by an estimate and one Newton step where that is cheaper
 *     vwithin(x, lo, hi, a)   a where lo <= x <= hi, else 0
 *     vkeep(a, n)      the first n lanes of a, else 0
 *     vhmax, vhsum     largest lane; sum of the lanes, always in the same order
 *     vequal(a, b)     1 if all lanes are equal
 *     vfraction(a)     a - floor(a), HAVE_FRACTION: the 2^f of activation.h is fitted on [0, 1)
 * then vsqueeze(a, m)   the lanes of the mask first, HAVE_SQUEEZE
 *
 * Products and sums are fused where vfma and vfnma say so and nowhere else (-ffp-contract=off):
 * were it the compiler's choice, two copies of one loop could round differently. NEON's and AVX's
 * are fused; SSE2 has no such instruction and rounds twice.
 *
 * Comparisons are ordered (false on NaN). So vmaxr(limit, x) lets a NaN in x pass, and clipping
 * does not hide a state that has blown up. Kernels that must see a NaN add 0 * x to a vector of
 * zeros and ask vequal whether it still is one.
 *
 * Macros for the kernels: N_VREGS, vector registers of the set, which bounds the accumulators of a
 * loop; HAVE_FRACTION, HAVE_SQUEEZE, HAVE_RECIPROCAL where the set has an instruction of its own.
 */
#ifndef EQP_SIMD_H
#define EQP_SIMD_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "core/real.h"

#define EQP_INLINE static inline __attribute__((always_inline))

#if defined(EQP_ISA_AVX512)
#include <immintrin.h>
#define N_VREGS 32

/* --- AVX-512: lanes are chosen by mask registers, and there is an instruction for every word ---
 */

#if defined(EQP_REAL_F64)
#define VL 8
typedef __m512d vec;
EQP_INLINE vec vload(const real *p) { return _mm512_loadu_pd(p); }
EQP_INLINE void vstore(real *p, vec a) { _mm512_storeu_pd(p, a); }
EQP_INLINE vec vset(real a) { return _mm512_set1_pd(a); }
EQP_INLINE vec vadd(vec a, vec b) { return _mm512_add_pd(a, b); }
EQP_INLINE vec vsub(vec a, vec b) { return _mm512_sub_pd(a, b); }
EQP_INLINE vec vmul(vec a, vec b) { return _mm512_mul_pd(a, b); }
EQP_INLINE vec vdiv(vec a, vec b) { return _mm512_div_pd(a, b); }
EQP_INLINE vec vfma(vec a, vec b, vec c) { return _mm512_fmadd_pd(a, b, c); }
EQP_INLINE vec vfnma(vec a, vec b, vec c) { return _mm512_fnmadd_pd(a, b, c); }
EQP_INLINE vec vmaxr(vec a, vec b) { return _mm512_max_pd(a, b); }
EQP_INLINE vec vminr(vec a, vec b) { return _mm512_min_pd(a, b); }
EQP_INLINE vec vabs(vec a) { return _mm512_abs_pd(a); }
EQP_INLINE vec vround(vec a) { return _mm512_roundscale_pd(a, 8); }
EQP_INLINE vec vscale2(vec a, vec n) { return _mm512_scalef_pd(a, n); }
EQP_INLINE real vhmax(vec a) { return _mm512_reduce_max_pd(a); }
EQP_INLINE vec vwithin(vec x, vec lo, vec hi, vec a) {
    return _mm512_maskz_mov_pd(_mm512_cmp_pd_mask(x, lo, _CMP_GE_OQ) &
                                   _mm512_cmp_pd_mask(x, hi, _CMP_LE_OQ),
                               a);
}
EQP_INLINE vec vkeep(vec a, int n) { return _mm512_maskz_mov_pd((__mmask8)((1u << n) - 1u), a); }
#define HAVE_SQUEEZE
EQP_INLINE vec vsqueeze(vec a, unsigned mask) {
    return _mm512_maskz_compress_pd((__mmask8)mask, a);
}
#else

/* The same in single precision, and what only it has: an estimate of 1 / b, and a - floor(a). */
#define VL 16
typedef __m512 vec;
EQP_INLINE vec vload(const real *p) { return _mm512_loadu_ps(p); }
EQP_INLINE void vstore(real *p, vec a) { _mm512_storeu_ps(p, a); }
EQP_INLINE vec vset(real a) { return _mm512_set1_ps(a); }
EQP_INLINE vec vadd(vec a, vec b) { return _mm512_add_ps(a, b); }
EQP_INLINE vec vsub(vec a, vec b) { return _mm512_sub_ps(a, b); }
EQP_INLINE vec vmul(vec a, vec b) { return _mm512_mul_ps(a, b); }
EQP_INLINE vec vdiv(vec a, vec b) { return _mm512_div_ps(a, b); }
/* The sigmoids divide once for each unit and step: here the division is the dearest of their
 * parts. */
#define HAVE_RECIPROCAL
EQP_INLINE vec vreciprocal(vec b) {
    /* 14-bit reciprocal and one Newton step: within 1.5 ulp, a third of the cost of vdivps. */
    const vec r = _mm512_rcp14_ps(b);
    return _mm512_mul_ps(r, _mm512_fnmadd_ps(b, r, _mm512_set1_ps(2.0f)));
}
#define HAVE_FRACTION
EQP_INLINE vec vfraction(vec a) { return _mm512_reduce_ps(a, 1); }
EQP_INLINE vec vfma(vec a, vec b, vec c) { return _mm512_fmadd_ps(a, b, c); }
EQP_INLINE vec vfnma(vec a, vec b, vec c) { return _mm512_fnmadd_ps(a, b, c); }
EQP_INLINE vec vmaxr(vec a, vec b) { return _mm512_max_ps(a, b); }
EQP_INLINE vec vminr(vec a, vec b) { return _mm512_min_ps(a, b); }
EQP_INLINE vec vabs(vec a) { return _mm512_abs_ps(a); }
EQP_INLINE vec vround(vec a) { return _mm512_roundscale_ps(a, 8); }
EQP_INLINE vec vscale2(vec a, vec n) { return _mm512_scalef_ps(a, n); }
EQP_INLINE real vhmax(vec a) { return _mm512_reduce_max_ps(a); }
EQP_INLINE vec vwithin(vec x, vec lo, vec hi, vec a) {
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, lo, _CMP_GE_OQ) &
                                   _mm512_cmp_ps_mask(x, hi, _CMP_LE_OQ),
                               a);
}
EQP_INLINE vec vkeep(vec a, int n) { return _mm512_maskz_mov_ps((__mmask16)((1u << n) - 1u), a); }
#define HAVE_SQUEEZE
EQP_INLINE vec vsqueeze(vec a, unsigned mask) {
    return _mm512_maskz_compress_ps((__mmask16)mask, a);
}
#endif

#elif defined(EQP_ISA_AVX2)
#include <immintrin.h>
#define N_VREGS 16

/* --- AVX2 with FMA: masks are vectors of all ones or zeros, so lanes are chosen by `and` --- */

#if defined(EQP_REAL_F64)
#define VL 4
typedef __m256d vec;
EQP_INLINE vec vload(const real *p) { return _mm256_loadu_pd(p); }
EQP_INLINE void vstore(real *p, vec a) { _mm256_storeu_pd(p, a); }
EQP_INLINE vec vset(real a) { return _mm256_set1_pd(a); }
EQP_INLINE vec vadd(vec a, vec b) { return _mm256_add_pd(a, b); }
EQP_INLINE vec vsub(vec a, vec b) { return _mm256_sub_pd(a, b); }
EQP_INLINE vec vmul(vec a, vec b) { return _mm256_mul_pd(a, b); }
EQP_INLINE vec vdiv(vec a, vec b) { return _mm256_div_pd(a, b); }
EQP_INLINE vec vfma(vec a, vec b, vec c) { return _mm256_fmadd_pd(a, b, c); }
EQP_INLINE vec vfnma(vec a, vec b, vec c) { return _mm256_fnmadd_pd(a, b, c); }
EQP_INLINE vec vmaxr(vec a, vec b) { return _mm256_max_pd(a, b); }
EQP_INLINE vec vminr(vec a, vec b) { return _mm256_min_pd(a, b); }
EQP_INLINE vec vabs(vec a) { return _mm256_andnot_pd(_mm256_set1_pd(-0.0), a); }
EQP_INLINE vec vround(vec a) { return _mm256_round_pd(a, 8); }
/* 2^n as IEEE 754 has it: n + 1023 in the bits above the fraction; |n| < 1000. */
EQP_INLINE vec vscale2(vec a, vec n) {
    __m256i i = _mm256_cvtepi32_epi64(_mm256_cvtpd_epi32(n));
    i = _mm256_slli_epi64(_mm256_add_epi64(i, _mm256_set1_epi64x(1023)), 52);
    return _mm256_mul_pd(a, _mm256_castsi256_pd(i));
}
EQP_INLINE real vhmax(vec a) {
    real t[VL];
    _mm256_storeu_pd(t, a);
    real m = t[0];
    for (int i = 1; i < VL; i++) m = t[i] > m ? t[i] : m;
    return m;
}
EQP_INLINE vec vwithin(vec x, vec lo, vec hi, vec a) {
    return _mm256_and_pd(_mm256_and_pd(_mm256_cmp_pd(x, lo, _CMP_GE_OQ),
                                       _mm256_cmp_pd(x, hi, _CMP_LE_OQ)),
                         a);
}
EQP_INLINE vec vkeep(vec a, int n) {
    /* all ones where the lane's number is below n */
    const __m256i lane = _mm256_setr_epi64x(0, 1, 2, 3);
    return _mm256_and_pd(a, _mm256_castsi256_pd(_mm256_cmpgt_epi64(_mm256_set1_epi64x(n), lane)));
}
#else

/* The same in single precision. */
#define VL 8
typedef __m256 vec;
EQP_INLINE vec vload(const real *p) { return _mm256_loadu_ps(p); }
EQP_INLINE void vstore(real *p, vec a) { _mm256_storeu_ps(p, a); }
EQP_INLINE vec vset(real a) { return _mm256_set1_ps(a); }
EQP_INLINE vec vadd(vec a, vec b) { return _mm256_add_ps(a, b); }
EQP_INLINE vec vsub(vec a, vec b) { return _mm256_sub_ps(a, b); }
EQP_INLINE vec vmul(vec a, vec b) { return _mm256_mul_ps(a, b); }
EQP_INLINE vec vdiv(vec a, vec b) { return _mm256_div_ps(a, b); }
EQP_INLINE vec vfma(vec a, vec b, vec c) { return _mm256_fmadd_ps(a, b, c); }
EQP_INLINE vec vfnma(vec a, vec b, vec c) { return _mm256_fnmadd_ps(a, b, c); }
EQP_INLINE vec vmaxr(vec a, vec b) { return _mm256_max_ps(a, b); }
EQP_INLINE vec vminr(vec a, vec b) { return _mm256_min_ps(a, b); }
EQP_INLINE vec vabs(vec a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
EQP_INLINE vec vround(vec a) { return _mm256_round_ps(a, 8); }
/* 2^n likewise: n + 127; |n| < 126. */
EQP_INLINE vec vscale2(vec a, vec n) {
    __m256i i =
        _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
    return _mm256_mul_ps(a, _mm256_castsi256_ps(i));
}
EQP_INLINE real vhmax(vec a) {
    real t[VL];
    _mm256_storeu_ps(t, a);
    real m = t[0];
    for (int i = 1; i < VL; i++) m = t[i] > m ? t[i] : m;
    return m;
}
EQP_INLINE vec vwithin(vec x, vec lo, vec hi, vec a) {
    return _mm256_and_ps(_mm256_and_ps(_mm256_cmp_ps(x, lo, _CMP_GE_OQ),
                                       _mm256_cmp_ps(x, hi, _CMP_LE_OQ)),
                         a);
}
EQP_INLINE vec vkeep(vec a, int n) {
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_and_ps(a, _mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_set1_epi32(n), lane)));
}
#endif

#elif defined(__GNUC__) && (defined(EQP_ISA_SSE2) || defined(EQP_ISA_NEON))
/* 128-bit baseline through the compiler's own vector types: SSE2 and NEON from one text, but for
 * the fused products. */
#ifdef EQP_ISA_NEON
#include <arm_neon.h>
#endif
#define N_VREGS 16
/* veci: integers as wide as the reals; VROUND_MAGIC, VEXP_*: see vround and vscale2. */
#if defined(EQP_REAL_F64)
#define VL           2
typedef int64_t veci __attribute__((vector_size(16)));
#define VROUND_MAGIC 6755399441055744.0
#define VEXP_BIAS    1023
#define VEXP_SHIFT   52
#else
#define VL           4
typedef int32_t veci __attribute__((vector_size(16)));
#define VROUND_MAGIC 12582912.0f
#define VEXP_BIAS    127
#define VEXP_SHIFT   23
#endif
typedef real vec __attribute__((vector_size(16)));
EQP_INLINE vec vload(const real *p) {
    vec a;
    memcpy(&a, p, sizeof a);
    return a;
}
EQP_INLINE void vstore(real *p, vec a) { memcpy(p, &a, sizeof a); }
/* a - 0 in every lane: -0 and NaN come through, too. */
EQP_INLINE vec vset(real a) { return a - (vec){0}; }
EQP_INLINE vec vadd(vec a, vec b) { return a + b; }
EQP_INLINE vec vsub(vec a, vec b) { return a - b; }
EQP_INLINE vec vmul(vec a, vec b) { return a * b; }
EQP_INLINE vec vdiv(vec a, vec b) { return a / b; }
#if defined(EQP_ISA_NEON) && defined(EQP_REAL_F64)
EQP_INLINE vec vfma(vec a, vec b, vec c) {
    return (vec)vfmaq_f64((float64x2_t)c, (float64x2_t)a, (float64x2_t)b);
}
EQP_INLINE vec vfnma(vec a, vec b, vec c) {
    return (vec)vfmsq_f64((float64x2_t)c, (float64x2_t)a, (float64x2_t)b);
}
#elif defined(EQP_ISA_NEON)
EQP_INLINE vec vfma(vec a, vec b, vec c) {
    return (vec)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
}
EQP_INLINE vec vfnma(vec a, vec b, vec c) {
    return (vec)vfmsq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
}
#else
EQP_INLINE vec vfma(vec a, vec b, vec c) { return a * b + c; }
EQP_INLINE vec vfnma(vec a, vec b, vec c) { return c - a * b; }
#endif
/* a in the lanes where m is all ones, b where it is zero. */
EQP_INLINE vec vpick(veci m, vec a, vec b) { return (vec)((m & (veci)a) | (~m & (veci)b)); }
EQP_INLINE vec vmaxr(vec a, vec b) { return vpick((veci)(a > b), a, b); }
EQP_INLINE vec vminr(vec a, vec b) { return vpick((veci)(a < b), a, b); }
EQP_INLINE vec vabs(vec a) { return vpick((veci)(a < vset(0)), -a, a); }
EQP_INLINE vec vround(vec a) {
    /* 1.5 * 2^23 (2^52) has ulp 1: adding it rounds; |a| < 2^22 */
    const vec magic = vset((real)VROUND_MAGIC);
    return (a + magic) - magic;
}
EQP_INLINE vec vscale2(vec a, vec n) { /* 2^n by its exponent's bits */
    veci i = __builtin_convertvector(n, veci);
    return a * (vec)((i + VEXP_BIAS) << VEXP_SHIFT);
}
EQP_INLINE real vhmax(vec a) {
    real m = a[0];
    for (int i = 1; i < VL; i++) m = a[i] > m ? a[i] : m;
    return m;
}
EQP_INLINE vec vwithin(vec x, vec lo, vec hi, vec a) {
    return (vec)((veci)(x >= lo) & (veci)(x <= hi) & (veci)a);
}
EQP_INLINE vec vkeep(vec a, int n) {
#if VL == 2
    const veci lane = {0, 1};
#else
    const veci lane = {0, 1, 2, 3};
#endif
    return (vec)((veci)a & (lane < (veci){0} + n));
}

#else

/* --- plain C99: one lane, for any compiler and processor --- */

#define N_VREGS 16
#define VL      1
typedef real vec;
EQP_INLINE vec vload(const real *p) { return *p; }
EQP_INLINE void vstore(real *p, vec a) { *p = a; }
EQP_INLINE vec vset(real a) { return a; }
EQP_INLINE vec vadd(vec a, vec b) { return a + b; }
EQP_INLINE vec vsub(vec a, vec b) { return a - b; }
EQP_INLINE vec vmul(vec a, vec b) { return a * b; }
EQP_INLINE vec vdiv(vec a, vec b) { return a / b; }
EQP_INLINE vec vfma(vec a, vec b, vec c) { return a * b + c; }
EQP_INLINE vec vfnma(vec a, vec b, vec c) { return c - a * b; }
EQP_INLINE vec vmaxr(vec a, vec b) { return a > b ? a : b; }
EQP_INLINE vec vminr(vec a, vec b) { return a < b ? a : b; }
EQP_INLINE vec vabs(vec a) { return (real)fabs((double)a); }
EQP_INLINE vec vround(vec a) { return (real)nearbyint((double)a); }
EQP_INLINE vec vscale2(vec a, vec n) { return (real)ldexp((double)a, (int)n); }
EQP_INLINE real vhmax(vec a) { return a; }
EQP_INLINE vec vwithin(vec x, vec lo, vec hi, vec a) { return x >= lo && x <= hi ? a : (real)0; }
EQP_INLINE vec vkeep(vec a, int n) { return n > 0 ? a : (real)0; }
#endif

/* The larger; NaN if either is, so that a maximum keeps what is no number. */
EQP_INLINE real larger(real most, real x) { return x <= most || most != most ? most : x; }

/* Sum of the lanes, always in the same order. */
EQP_INLINE real vhsum(vec a) {
#if defined(EQP_ISA_AVX512) && defined(EQP_REAL_F64)
    return _mm512_reduce_add_pd(a);
#elif defined(EQP_ISA_AVX512)
    return _mm512_reduce_add_ps(a);
#else
    real lanes[VL], total = 0;
    vstore(lanes, a);
    for (int i = 0; i < VL; i++) total += lanes[i];
    return total;
#endif
}

#if defined(EQP_ISA_AVX512) && defined(EQP_REAL_F32)
/* In each 128-bit quarter: the sums of that quarter's lanes of x, y, z and w. */
EQP_INLINE vec vquarters(vec x, vec y, vec z, vec w) {
    const vec p = _mm512_add_ps(_mm512_unpacklo_ps(x, y), _mm512_unpackhi_ps(x, y));
    const vec q = _mm512_add_ps(_mm512_unpacklo_ps(z, w), _mm512_unpackhi_ps(z, w));
    const __m512d r = _mm512_castps_pd(p), t = _mm512_castps_pd(q);
    return _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(r, t)),
                         _mm512_castpd_ps(_mm512_unpackhi_pd(r, t)));
}
#endif

/* out[i] = sum of the lanes of vector i of `a`, n of them (a multiple of 4); each as vhsum or in
 * another fixed order. */
EQP_INLINE void vhsums(const real *a, int n, real *out) {
#if defined(EQP_ISA_AVX512) && defined(EQP_REAL_F32)
    for (; n >= 4; n -= 4, a += 4 * VL, out += 4) {
        const vec s = vquarters(vload(a), vload(a + VL), vload(a + 2 * VL), vload(a + 3 * VL));
        const __m256 h = _mm256_add_ps(_mm512_castps512_ps256(s), _mm512_extractf32x8_ps(s, 1));
        _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1)));
    }
#endif
    for (int i = 0; i < n; i++) out[i] = vhsum(vload(a + i * VL));
}

/* 1 if all lanes are equal (a NaN equals nothing). */
EQP_INLINE int vequal(vec a, vec b) {
#if defined(EQP_ISA_AVX512) && defined(EQP_REAL_F64)
    return _mm512_cmp_pd_mask(a, b, _CMP_NEQ_UQ) == 0;
#elif defined(EQP_ISA_AVX512)
    return _mm512_cmp_ps_mask(a, b, _CMP_NEQ_UQ) == 0;
#else
    real p[VL], q[VL];
    int same = 1;
    vstore(p, a);
    vstore(q, b);
    for (int i = 0; i < VL; i++) same &= p[i] == q[i];
    return same;
#endif
}

/* Elsewhere an estimate gains nothing: a division it is. */
#ifndef HAVE_RECIPROCAL
EQP_INLINE vec vreciprocal(vec b) { return vdiv(vset(1), b); }
#endif

/* to = from, n reals; they must not overlap. */
EQP_INLINE void copy_reals(real *to, const real *from, int64_t n) {
    memcpy(to, from, (size_t)n * sizeof(real));
}

/* Cuts columns [0, width) (width: a multiple of VL) into blocks of NV vectors, NV = 16, 8, 4, 2, 1
 * but at most `most`, and calls a function for each, with NV constant and `col` the block's first
 * column: the accumulators of a block have to fit the registers. For example:
 *
 *     int64_t col = 0;
 *     EQP_FOR_BLOCKS(col, width, DRIVE_VECS, drive_body(NV, w + col, ...));
 */
#define EQP_FOR_BLOCKS(col, width, most, ...)        \
    EQP_BLOCKS_OF(16, col, width, most, __VA_ARGS__) \
    EQP_BLOCKS_OF(8, col, width, most, __VA_ARGS__)  \
    EQP_BLOCKS_OF(4, col, width, most, __VA_ARGS__)  \
    EQP_BLOCKS_OF(2, col, width, most, __VA_ARGS__)  \
    EQP_BLOCKS_OF(1, col, width, most, __VA_ARGS__)
/* The blocks of n vectors among them. A block larger than `most` is never run, but its text is
 * still compiled: hence the 1. */
#define EQP_BLOCKS_OF(n, col, width, most, ...)                           \
    for (; (n) <= (most) && (col) + (n)*VL <= (width); (col) += (n)*VL) { \
        enum { NV = (n) <= (most) ? (n) : 1 };                            \
        __VA_ARGS__;                                                      \
    }

#endif
