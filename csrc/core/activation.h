/* activation.h - activations rho, rho' and rho'' on vectors (equations 1.1).
 *
 * Letters: x argument, s state of a unit, r = rho(s), a what is multiplied by rho'(s).
 *
 * Absolute error of the sigmoids and tanh: below 2.5e-7 (f32), 5e-16 (f64). `act` is a compile-
 * time constant wherever these are called (EQP_WITH_ACT), so each switch folds away. */
#ifndef EQP_ACTIVATION_H
#define EQP_ACTIVATION_H

#include "core/simd.h"

/* The codes of the jobs (out_activation, input_activation too); kernels/spec.py has the same. */
enum {
    ACT_IDENTITY,
    ACT_SHIFTED_SIGMOID,
    ACT_HARD_SIGMOID,
    ACT_TANH,
    ACT_SIGMOID,
    ACT_RELU,
    ACT_HALF_HARD_SIGMOID,
    ACT_CENTERED_HARD_SIGMOID,
    ACT_WIDE_HARD_SIGMOID,
    ACT_RELU6,
    N_ACTIVATIONS
};

/* 2^t. With t = n + f, n whole: 2^f by a polynomial, 2^n by the exponent's bits. Clamped so that
 * neither 2^t nor 1 + 2^t overflows, unless t is known to be `small`; a NaN stays NaN. */
EQP_INLINE vec vexp2(const int small, vec t) {
#if defined(EQP_REAL_F64)
    const real limit = 1000, c[] = {1.0,
                                    6.9314718055994530942e-1,
                                    2.4022650695910071233e-1,
                                    5.5504108664821579953e-2,
                                    9.6181291076284771619e-3,
                                    1.3333558146428443423e-3,
                                    1.5403530393381609954e-4,
                                    1.5252733804059840280e-5,
                                    1.3215486790144309488e-6,
                                    1.0178086009239699728e-7,
                                    7.0549116208011233299e-9,
                                    4.4455382718708114976e-10,
                                    2.5678435993488205142e-11}; /* ln(2)^k / k! */
    enum { DEGREE = 12 };
#elif defined(HAVE_FRACTION)
    /* minimax fit of 2^f on [0, 1), relative error 7.6e-8 */
    const real limit = 125, c[] = {0.999999924526f,  0.693153082739f,   0.24015357678f,
                                   0.0558263718174f, 0.00898932969577f, 0.00187756348401f};
    enum { DEGREE = 5 };
#else
    /* Chebyshev fit of 2^f on [-1/2, 1/2], relative error 1.0e-7 */
    const real limit = 125, c[] = {1.00000007545f,  0.69314718803f,  0.24022107485f,
                                   0.055503571142f, 0.009676031918f, 0.0013390863365f};
    enum { DEGREE = 5 };
#endif
#ifdef HAVE_FRACTION
    /* scalef takes the floor of its exponent, and underflows and saturates by itself */
    if (!small) t = vminr(vset(limit), t);
    const vec f = vfraction(t), n = t;
#else
    if (!small) t = vmaxr(vset(-limit), vminr(vset(limit), t));
    const vec n = vround(t), f = vsub(t, n);
#endif
    vec p = vset(c[DEGREE]);
#pragma GCC unroll 12
    for (int i = DEGREE - 1; i >= 0; i--) p = vfma(p, f, vset(c[i]));
    return vscale2(p, n);
}

#define EQP_LOG2E 1.4426950408889634074

/* 1 / (1 + exp(-(slope x + offset))); `small`: x is within [0, 1] */
EQP_INLINE vec vlogistic(const int small, vec x, double slope, double offset) {
    const vec t = vfma(x, vset((real)(-slope * EQP_LOG2E)), vset((real)(-offset * EQP_LOG2E)));
    return vreciprocal(vadd(vset(1), vexp2(small, t)));
}

/* x within [low, high]; a NaN passes. */
EQP_INLINE vec vclip(vec x, real low, real high) { return vmaxr(vset(low), vminr(vset(high), x)); }

/* rho(x). `small`: x is within [0, 1], where the exponential cannot overflow. */
EQP_INLINE vec act_rho_of(const int act, const int small, vec x) {
    switch (act) {
    case ACT_SHIFTED_SIGMOID: return vlogistic(small, x, 4, -2);
    case ACT_HARD_SIGMOID: return vclip(x, 0, 1);
    case ACT_TANH: return vfma(vset(2), vlogistic(small, x, 2, 0), vset(-1));
    case ACT_SIGMOID: return vlogistic(small, x, 1, 0);
    case ACT_RELU: return vmaxr(vset(0), x);
    case ACT_HALF_HARD_SIGMOID: return vclip(vmul(vset((real)0.5), x), 0, 1);
    case ACT_CENTERED_HARD_SIGMOID: return vclip(x, (real)-0.5, (real)0.5);
    case ACT_WIDE_HARD_SIGMOID: return vclip(x, -1, 2);
    case ACT_RELU6: return vclip(x, 0, 6);
    default: return x;
    }
}

/* rho(x) of any x, and of x within [0, 1]. */
EQP_INLINE vec act_rho(const int act, vec x) { return act_rho_of(act, 0, x); }
EQP_INLINE vec act_rho_unit(const int act, vec x) { return act_rho_of(act, 1, x); }

/* rho'(s) a, given r = rho(s), but for the factor act_prime_scale. rho' of the hard ones is not
 * zero on the closed interval, so that a unit can leave an edge (equations 1.1). */
EQP_INLINE vec act_prime_shape(const int act, vec s, vec r, vec a) {
    switch (act) {
    case ACT_SHIFTED_SIGMOID: return vmul(a, vfnma(r, r, r));
    case ACT_HARD_SIGMOID: return vwithin(s, vset(0), vset(1), a);
    case ACT_TANH: return vmul(a, vfnma(r, r, vset(1)));
    case ACT_SIGMOID: return vmul(a, vfnma(r, r, r));
    case ACT_RELU: return vwithin(s, vset(0), vset((real)INFINITY), a);
    case ACT_HALF_HARD_SIGMOID: return vwithin(s, vset(0), vset(2), a);
    case ACT_CENTERED_HARD_SIGMOID: return vwithin(s, vset((real)-0.5), vset((real)0.5), a);
    case ACT_WIDE_HARD_SIGMOID: return vwithin(s, vset(-1), vset(2), a);
    case ACT_RELU6: return vwithin(s, vset(0), vset(6), a);
    default: return a;
    }
}

/* The constant factor of rho', kept apart so that a caller can put it together with its own. */
EQP_INLINE double act_prime_scale(const int act) {
    return act == ACT_SHIFTED_SIGMOID ? 4 : act == ACT_HALF_HARD_SIGMOID ? 0.5 : 1;
}

/* rho'(s) a, given r = rho(s). */
EQP_INLINE vec act_prime_times(const int act, vec s, vec r, vec a) {
    const vec shape = act_prime_shape(act, s, r, a);
    return act_prime_scale(act) == 1 ? shape : vmul(vset((real)act_prime_scale(act)), shape);
}

/* rho''(s), given r = rho(s); 0 where rho is piecewise linear. For the reverse pass through Euler
 * steps (layered/gradients.c). */
EQP_INLINE vec act_second(const int act, vec r) {
    const vec one = vset(1), bend = vmul(r, vsub(one, r));
    switch (act) {
    case ACT_SHIFTED_SIGMOID: return vmul(vmul(vset(16), bend), vsub(one, vadd(r, r)));
    case ACT_TANH: return vmul(vmul(vset(-2), r), vsub(one, vmul(r, r)));
    case ACT_SIGMOID: return vmul(bend, vsub(one, vadd(r, r)));
    default: return vset(0);
    }
}

/* Calls a function with ACT, the activation `value` as a constant: each case is compiled on its
 * own, and the switches of the functions above fold away in it. For example:
 *
 *     EQP_WITH_ACT(act, finish_tile(ACT, plain, ...));
 */
#define EQP_WITH_ACT(value, ...)                             \
    switch (value) {                                         \
        EQP_ACT_CASE(ACT_SHIFTED_SIGMOID, __VA_ARGS__)       \
        EQP_ACT_CASE(ACT_HARD_SIGMOID, __VA_ARGS__)          \
        EQP_ACT_CASE(ACT_TANH, __VA_ARGS__)                  \
        EQP_ACT_CASE(ACT_SIGMOID, __VA_ARGS__)               \
        EQP_ACT_CASE(ACT_RELU, __VA_ARGS__)                  \
        EQP_ACT_CASE(ACT_HALF_HARD_SIGMOID, __VA_ARGS__)     \
        EQP_ACT_CASE(ACT_CENTERED_HARD_SIGMOID, __VA_ARGS__) \
        EQP_ACT_CASE(ACT_WIDE_HARD_SIGMOID, __VA_ARGS__)     \
        EQP_ACT_CASE(ACT_RELU6, __VA_ARGS__)                 \
    default: EQP_ACT_BODY(ACT_IDENTITY, __VA_ARGS__)         \
    }
#define EQP_ACT_CASE(constant, ...) \
    case constant:                  \
        EQP_ACT_BODY(constant, __VA_ARGS__)
#define EQP_ACT_BODY(constant, ...) \
    {                               \
        enum { ACT = constant };    \
        __VA_ARGS__;                \
        break;                      \
    }

/* out = rho(s), n reals; both are read and written in whole vectors. */
EQP_INLINE void act_rho_row(const int act, const real *s, int64_t n, real *out) {
    for (int64_t v = 0; v < n; v += VL) vstore(out + v, act_rho(act, vload(s + v)));
}

/* x <- rho(x) - less, n reals in whole vectors: an input as it acts, less the rho(0) that zeros
 * have. */
EQP_INLINE void act_rho_less(const int act, vec less, int64_t n, real *x) {
    for (int64_t v = 0; v < n; v += VL) vstore(x + v, vsub(act_rho(act, vload(x + v)), less));
}

#endif
