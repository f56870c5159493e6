/* diode.h - the diode equation over the lanes of a vector (equations 12), and SPICE's junction
 * limiting for one lane.
 *
 *     v, i, g    junction voltage, current, slope di/dv
 *     par        parameters of the diode: P_*
 *     vte        n V_T;  vcrit: where the current bends most, beyond which steps are cut
 */
#ifndef EQP_NODAL_DIODE_H
#define EQP_NODAL_DIODE_H

#include "core/simd.h"

#if defined(EQP_REAL_F64)
#define EXP_TOP 600.0
#else
#define EXP_TOP 80.0
#endif
/* columns of a diode's parameter row */
enum { P_IS, P_VTE, P_RS, P_VCRIT, P_GMIN, P_BV, P_VTB, N_PARAMS };

/* exp(x) for -4 <= x <= EXP_TOP, within 2 ulp: x = n ln2 + r, Taylor to the 13th power on |r| <=
 * ln2 / 2. */
EQP_INLINE vec vexp_narrow(vec x) {
    static const double inverse_factorial[] = {1.0 / 6227020800.0,
                                               1.0 / 479001600.0,
                                               1.0 / 39916800.0,
                                               1.0 / 3628800.0,
                                               1.0 / 362880.0,
                                               1.0 / 40320.0,
                                               1.0 / 5040.0,
                                               1.0 / 720.0,
                                               1.0 / 120.0,
                                               1.0 / 24.0,
                                               1.0 / 6.0,
                                               0.5,
                                               1.0,
                                               1.0};
#if defined(EQP_REAL_F64)
    const vec hi = vset(-0.693147180369123816490), lo = vset(-1.90821492927058770002e-10);
#else
    const vec hi = vset(-0.693359375f), lo = vset(2.12194440e-4f);
#endif
    const vec n = vround(vmul(x, vset((real)1.4426950408889634074)));
    const vec r = vfma(n, lo, vfma(n, hi, x));
    vec p = vset((real)inverse_factorial[0]);
    for (int k = 1; k < 14; k++) p = vfma(p, r, vset((real)inverse_factorial[k]));
    return vscale2(p, n);
}

/* Junction current and slope at junction voltage v (equations of ngspice; see
 * kernels/reference/nodal.py). */
EQP_INLINE void diode_lanes(const real *par, vec v, vec *current, vec *slope) {
    const vec i_sat = vset(par[P_IS]), vte = vset(par[P_VTE]), gmin = vset(par[P_GMIN]);
    /* SPICE's diode: I_s (exp(v / vte) - 1) above -3 vte; below, a cubic that leads over to -I_s */
    const vec edge = vset((real)-3 * par[P_VTE]), one = vset(1);
    const vec e = vexp_narrow(vmaxr(vminr(vdiv(v, vte), vset((real)EXP_TOP)), vset(-4)));
    const vec vr = vminr(v, edge);
    const vec third = vdiv(vset((real)(3 / 2.718281828459045235) * par[P_VTE]), vr);
    const vec cube = vmul(vmul(third, third), third);
    /* 1 in the lanes of that part, else 0: both are computed, one is taken */
    const vec forward = vwithin(v, edge, vset((real)INFINITY), one), reverse = vsub(one, forward);
    vec i = vadd(vmul(forward, vmul(i_sat, vsub(e, one))),
                 vmul(reverse, vmul(vsub(vset(0), i_sat), vadd(one, cube))));
    vec g = vadd(vmul(forward, vdiv(vmul(i_sat, e), vte)),
                 vmul(reverse, vdiv(vmul(vmul(i_sat, vset(3)), cube), vr)));
    /* some lane beyond breakdown: rare, one lane at a time */
    if (vhmax(vsub(vset(-par[P_BV]), v)) > 0) {
        real vv[VL], ii[VL], gg[VL];
        vstore(vv, v);
        vstore(ii, i);
        vstore(gg, g);
        for (int l = 0; l < VL; l++) {
            if (!(vv[l] < -par[P_BV])) continue;
            double up = -((double)par[P_BV] + vv[l]) / par[P_VTB];
            const double rise = exp(up < EXP_TOP ? up : EXP_TOP);
            ii[l] = (real)(-par[P_IS] * rise);
            gg[l] = (real)(par[P_IS] * rise / par[P_VTB]);
        }
        i = vload(ii);
        g = vload(gg);
    }
    /* a small conductance beside the diode, so that no node hangs free */
    *current = vfma(gmin, v, i);
    *slope = vadd(g, gmin);
}

/* The voltage a junction may take after a Newton step; *cut is set if that is not the one proposed.
 */
EQP_INLINE real limit_one(real fresh, real old, real vte, real vcrit, int *cut) {
    if (!(fresh > vcrit && fabs((double)(fresh - old)) > 2 * (double)vte)) return fresh;
    *cut = 1;
    if (old > 0) {
        const double arg = 1 + ((double)fresh - old) / vte;
        return arg > 0 ? (real)(old + vte * log(arg)) : vcrit;
    }
    return (real)(vte * log((double)fresh / vte));
}

/* The same for a diode that may break down: in breakdown the exponential runs the other way. */
EQP_INLINE real limit_junction(real fresh, real old, const real *par, int *cut) {
    const real knee = -par[P_BV] + 10 * par[P_VTB];
    /* in or near breakdown: limit from the other side */
    if (fresh < (knee < 0 ? knee : 0))
        return -(
            limit_one(-(fresh + par[P_BV]), -(old + par[P_BV]), par[P_VTB], par[P_VCRIT], cut) +
            par[P_BV]);
    return limit_one(fresh, old, par[P_VTE], par[P_VCRIT], cut);
}
#endif
