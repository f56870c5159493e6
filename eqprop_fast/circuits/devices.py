"""What real programmable conductances do to the numbers written to them."""

from __future__ import annotations

from numbers import Real

import numpy as np

from ..parts import Part
from . import checks
from .errors import ElementError


class DeviceModel(Part):
    """A kind of programmable conductance (memristor) in a crossbar; the defaults are an ideal one.

    Parameters
    ----------
    g_on : float or None
        Largest conductance of a device, in siemens; None: the largest one of the array's first
        write.
    on_off_ratio : float
        Largest over smallest conductance, >= 1; inf: a device can be switched off.
    n_levels : int or None
        Distinct conductances a device can hold, >= 2; None: any in its range.
    nonlinearity : float
        Shape v >= 0 of the pulse response ``g(p) = g_off + (g_on - g_off) (1 - exp(-v p)) / (1 -
        exp(-v))``. Levels are equal steps of the pulse count p, so v > 0 crowds them towards g_on.
        Of no effect without `n_levels`.
    write_noise : float
        Standard deviation of a write, as a fraction of ``g_on - g_off``.
    variability : float
        Standard deviation of the logarithm of a factor that each device has on all its
        conductances.
    stuck_off, stuck_on : float
        Fractions of devices that always hold their smallest, their largest conductance.
    wire_resistance : float
        Of each wire segment between two neighbouring devices, in ohm. Row i drives from its left
        end, column j is read at its lower end: the device at (i, j) of an R x C array has j + 1 + R
        - i segments in series. Currents of other devices through the same wires are neglected: good
        to first order in ``wire_resistance * g * (R + C)``.

    Raises
    ------
    ValueError
        A parameter is no number, or out of range.
    """

    def __init__(
        self,
        g_on=None,
        on_off_ratio=np.inf,
        n_levels=None,
        nonlinearity=0.0,
        write_noise=0.0,
        variability=0.0,
        stuck_off=0.0,
        stuck_on=0.0,
        wire_resistance=0.0,
    ):
        self._keep(locals())
        self.validate()

    def validate(self):
        """Raise a ValueError that names the first parameter that is no number or out of range."""
        values = self.get_params()
        for name, value in values.items():
            if value is None and name in ("g_on", "n_levels"):
                continue
            if isinstance(value, (bool, np.bool_)) or not isinstance(value, Real):
                raise ValueError(f"device parameter {name} must be a number, got {value!r}")
        ok = {
            "g_on": self.g_on is None or 0 < self.g_on < np.inf,
            "on_off_ratio": self.on_off_ratio >= 1,
            "n_levels": self.n_levels is None
            or (self.n_levels >= 2 and self.n_levels == int(self.n_levels)),
            "stuck_off": 0 <= self.stuck_off <= 1,
            "stuck_on": 0 <= self.stuck_on <= 1 - self.stuck_off,
        }
        for name, value in values.items():
            if not ok.get(name, True) or (name not in ok and not 0 <= value < np.inf):
                raise ValueError(f"device parameter {name} is out of range: {value!r}")

    @classmethod
    def of(cls, parameters):
        """`parameters` if they are a `DeviceModel`, else the model of a dict of them.

        Raises
        ------
        ValueError
            A bad or an unknown parameter, with its name.
        """
        if isinstance(parameters, cls):
            return parameters
        known = cls._get_param_names()
        unknown = [name for name in parameters if name not in known]
        if unknown:
            raise ValueError(f"device has no parameter {unknown[0]!r}; it has {', '.join(known)}")
        return cls(**parameters)

    def array(self, shape, random_state=None):
        """A `DeviceArray` of this kind: its variability and stuck devices are drawn here, once.

        What its devices can hold does not change from write to write either.
        """
        return DeviceArray(self, shape, checks.generator(random_state))

    def program(self, conductances, random_state=None):
        """Write `conductances` (R, C) to a fresh array without looking; returns what `write` does."""
        rng = checks.generator(random_state)
        return self.array(np.shape(conductances), rng).write(conductances, rng)


class DeviceArray:
    """One crossbar of devices; make it with `DeviceModel.array`.

    Attributes
    ----------
    g_on : float or None
        Largest conductance of a device apart from its factor, siemens; None before the first write
        of a model that leaves it open.
    """

    def __init__(self, model, shape, rng):
        self.model, self.g_on = model, model.g_on
        self.factor = np.exp(model.variability * rng.standard_normal(shape))
        draw = rng.random(shape)
        self.stuck_off = draw < model.stuck_off
        self.stuck_on = (draw >= model.stuck_off) & (draw < model.stuck_off + model.stuck_on)

    def write(self, conductances, random_state=None, *, verify=False):
        """What the circuit sees after writing `conductances`, siemens, of the array's shape.

        Parameters
        ----------
        conductances : ndarray (R, C)
            Finite and not negative.
        random_state : int, Generator or None
            Of the write noise.
        verify : bool
            The writer reads back and so knows each device's factor and the wires: both only limit
            the range. With n wire segments no device can look larger than ``1 / (wire_resistance *
            n)``. False: it writes blindly, and they scale what was meant.

        Returns
        -------
        ndarray (R, C), dtype of `conductances` if that is a floating-point type, else float64
        """
        m, rng = self.model, checks.generator(random_state)
        wanted = checks.array("conductances", conductances)
        if wanted.shape != self.factor.shape:
            raise ValueError(
                f"conductances must have shape {self.factor.shape}, got {wanted.shape}"
            )
        if (wanted < 0).any():
            raise ElementError(f"conductances must not be negative, got {wanted.min():g}")
        if self.g_on is None:  # once: later writes hold what these devices made of earlier ones
            self.g_on = float(wanted.max(initial=0))
        g_on = self.g_on
        g_off = g_on / m.on_off_ratio
        wires = self._wires(wanted.shape) if m.wire_resistance else 0.0
        aim = wanted
        if verify:  # beyond the reach of any device: as much as it can hold
            aim = (
                np.divide(
                    wanted,
                    1 - wires * wanted,
                    out=np.full(wanted.shape, np.inf),
                    where=wires * wanted < 1,
                )
                / self.factor
            )
        held = _nearest_level(aim, g_off, g_on, m)
        if m.write_noise:
            held = np.clip(
                held + m.write_noise * (g_on - g_off) * rng.standard_normal(held.shape), g_off, g_on
            )
        held = np.where(self.stuck_off, g_off, np.where(self.stuck_on, g_on, held)) * self.factor
        held = held / (1 + wires * held)
        dtype = getattr(conductances, "dtype", wanted.dtype)
        return held.astype(dtype if dtype.kind == "f" else np.float64)

    def _wires(self, shape):
        """Ohm in series with each device."""
        rows, columns = np.ogrid[: shape[0], : shape[1]]
        return self.model.wire_resistance * (columns + 1 + shape[0] - rows)


def _nearest_level(wanted, g_off, g_on, model):
    clipped = np.clip(wanted, g_off, g_on)
    if model.n_levels is None or g_on <= g_off:
        return clipped
    steps = int(model.n_levels) - 1
    pulses = np.arange(steps + 1) / steps
    if model.nonlinearity:
        pulses = np.expm1(-model.nonlinearity * pulses) / np.expm1(-model.nonlinearity)
    levels = g_off + (g_on - g_off) * pulses
    return levels[np.searchsorted((levels[1:] + levels[:-1]) / 2, clipped)]
