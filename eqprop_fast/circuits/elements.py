"""Element kinds and the diode model, with the direct-current equations of ngspice."""

import math
import numbers
from dataclasses import dataclass

from .errors import ElementError

# The constants of ngspice 39; a later CODATA set would move diode currents by 7e-6, more than our
# tolerance.
BOLTZMANN = 1.38064852e-23
CHARGE = 1.6021766208e-19
KELVIN = 273.15
LEAST_IS = 1e-28  # ampere; ngspice's epsmin

#: Kinds of element, in the order of their first letters in SPICE.
RESISTOR, DIODE, VSOURCE, ISOURCE, VCVS, CCCS, VCCS, CCVS, AMPLIFIER = range(9)
KIND_NAMES = (
    "resistor",
    "diode",
    "voltage source",
    "current source",
    "VCVS",
    "CCCS",
    "VCCS",
    "CCVS",
    "amplifier",
)

#: The model name that stands for the ideal diode: no forward voltage, no reverse current.
IDEAL = "ideal"

# Columns of a diode's parameter row, as the nodal kernels read it.
P_IS, P_VTE, P_RS, P_VCRIT, P_GMIN, P_BV, P_VTB = range(7)
N_PARAMS = 7


@dataclass(frozen=True)
class DiodeModel:
    """Shockley diode of a SPICE `.model` card (direct current only).

    Parameters
    ----------
    name : str
    IS : float
        Saturation current at `TNOM`, ampere per unit area; less than 1e-28 A counts as that, as in
        ngspice.
    N : float
        Emission coefficient.
    RS : float
        Series resistance, ohm (divided by the area).
    EG : float
        Activation energy, electron volt.
    XTI : float
        Temperature exponent of the saturation current.
    TNOM : float or None
        Temperature at which the parameters hold, degree Celsius; None: the circuit's `tnom`.
    BV : float or None
        Reverse breakdown voltage, volt; None: no breakdown.
    IBV : float
        Current at breakdown, ampere (not scaled by the area, as in ngspice).

    Notes
    -----
    Same equations as ngspice: with vte = N k T / q the current is IS (exp(v/vte) - 1) for v >= -3
    vte,
    -IS (1 + (3 vte / (e v))^3) below, -IS exp(-(BV + v)/vte) below -BV, each plus gmin v.
    """

    name: str = "d"
    IS: float = 1e-14
    N: float = 1.0
    RS: float = 0.0
    EG: float = 1.11
    XTI: float = 3.0
    TNOM: float | None = None
    BV: float | None = None
    IBV: float = 1e-3

    def __post_init__(self):
        def need(ok, key, what):
            value = getattr(self, key)
            real = isinstance(value, numbers.Real) and not isinstance(value, bool)
            if not (real and math.isfinite(value) and ok(value)):
                raise ElementError(
                    f"diode model {self.name!r}: {key} must be {what}, got {value!r}"
                )

        if not str(self.name) or str(self.name).lower() == IDEAL:
            raise ElementError(f"diode model name {self.name!r} is empty or reserved")
        need(lambda v: 1e-300 < v < 1e3, "IS", "positive and below 1000 A")
        need(lambda v: 1e-3 <= v <= 1e3, "N", "between 0.001 and 1000")
        need(lambda v: v >= 0, "RS", "zero or positive")
        need(lambda v: v >= 0.1, "EG", "at least 0.1 eV")
        need(lambda v: abs(v) < 1e3, "XTI", "a number below 1000")
        need(lambda v: v > 0, "IBV", "positive")
        if self.TNOM is not None:
            need(lambda v: v > -KELVIN + 1, "TNOM", "a temperature in degree Celsius")
        if self.BV is not None:
            need(lambda v: v > 0, "BV", "positive")

    def parameters(self, area, temperature, tnom, gmin):
        """The kernel's row of `N_PARAMS` numbers at a temperature (degree Celsius)."""
        t = temperature + KELVIN
        t0 = (tnom if self.TNOM is None else self.TNOM) + KELVIN
        vt = BOLTZMANN * t / CHARGE
        vte = self.N * vt
        exponent = (t / t0 - 1) * self.EG / vte + self.XTI / self.N * math.log(t / t0)
        try:
            i_sat = max(self.IS, LEAST_IS) * area * math.exp(exponent)
            vcrit = vte * math.log(vte / (math.sqrt(2) * i_sat))
        except (OverflowError, ValueError, ZeroDivisionError):
            raise ElementError(
                f"diode model {self.name!r}: saturation current out of range at {temperature} degree Celsius"
            ) from None
        bv = math.inf if self.BV is None else self._breakdown(i_sat, vt, vte)
        return (i_sat, vte, self.RS / area, vcrit, gmin, bv, vte)

    def _breakdown(self, i_sat, vt, vte):
        """The knee that puts IBV (whatever the area) at -BV, found by ngspice's own fixed-point
        iteration.
        """
        current = self.IBV
        if current < i_sat * self.BV / vt:
            return self.BV
        knee = self.BV - vte * math.log1p(current / i_sat)
        for _ in range(25):
            inside = current / i_sat + 1 - knee / vt
            if inside <= 0:
                break
            knee = self.BV - vte * math.log(inside)
            found = i_sat * (math.exp(min((self.BV - knee) / vte, 700.0)) - 1 + knee / vt)
            if abs(found - current) <= 1e-9 * current:
                break
        return knee


#: The silicon signal diode that the third-party reproductions of 2006.01981 use.
D1N4148 = DiodeModel("d1n4148", IS=4.352e-9, N=1.906, RS=0.6458, BV=110.0, IBV=1e-4)
