"""The free phase goes down the energy (1602.05179, docs/equations.md 1.4)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..gradients.record import check_count
from .checks import as_numbers, check_has_energy, check_layered, subject
from .models import LayeredModel
from .results import TheoryResult, new_figure
from .values import check_positive, check_sizes


@dataclass(frozen=True, eq=False)
class EnergyDescent(TheoryResult):
    """Result of `energy_descent`; the verdict is the largest rise of the energy in one step,
    relative to the whole descent of that sample.

    Attributes
    ----------
    energy : dict of str to ndarray (n_steps + 1, M)
        By the name of the run, "dt 0.1" or "even/odd sweeps".
    rise : dict of str to float
        Largest rise of each run.
    """

    energy: dict
    rise: dict

    def plot(self):
        figure, (left, right) = new_figure(1, 2)
        lowest = min(e[:, 0].min() for e in self.energy.values())
        for name, e in self.energy.items():
            left.plot(e[:, 0], label=f"{name}: rise {self.rise[name]:.1e}")
            right.semilogy(np.maximum(e[:, 0] - lowest, 1e-17), label=name)
        left.set(xlabel="step", ylabel="energy", title="Energy of the first sample")
        right.set(xlabel="step", title="above the lowest")
        left.legend(fontsize=7)
        return figure


def energy_descent(
    *,
    model=None,
    x=None,
    sizes=(8, 16, 12, 5),
    n_samples=8,
    n_steps=200,
    dt=(0.05, 0.1, 0.2, 0.4),
    random_state=0,
    dtype=np.float64,
):
    """Energy along the free relaxation, from a random state.

    Parameters
    ----------
    model, x : optional
        A symmetric `LayeredModel` with an energy, and its inputs; a random smooth one of `sizes`
        without.
    sizes, n_samples : tuple of int, int
        Of the random network and its data.
    n_steps : int
    dt : float or tuple of float
        Euler steps to try, for continuous dynamics. The discrete map is run in even/odd sweeps,
        each of which minimises the energy exactly by its layers.
    random_state : int or None
        Seed; None draws one, which the settings name.
    dtype : float32 or float64

    Returns
    -------
    EnergyDescent
        Verdict: largest rise in one step relative to the descent, target 1e-12 (float64) or 1e-5.

    Raises
    ------
    ValueError
        The dynamics descend no energy (its message says why), or a parameter is out of range.
    """
    check_count(n_steps, "n_steps")
    unused = None
    if model is not None:
        check_layered(model)
        sizes = model.spec.sizes
        dtype = model.dtype
        if x is None:
            raise ValueError("x is needed with a model")
    if x is not None:
        x, sizes = as_numbers("x", x, dtype), check_sizes(sizes)
        unused = np.zeros((len(x), sizes[-1]))  # a free phase has no targets
    model, x, _, of_subject = subject(model, x, unused, sizes, n_samples, random_state, dtype)
    if model.back is not None:
        raise ValueError("model: independent backward weights have no energy")
    check_has_energy(model.spec)
    if model.spec.dynamics == "discrete":
        runs = {"even/odd sweeps": replace(model.spec, schedule="asynchronous", dt=1.0)}
    else:
        dt = dt if isinstance(dt, (tuple, list)) or np.ndim(dt) == 1 else (dt,)
        dt = tuple(float(check_positive(d, "dt")) for d in dt)
        if not dt or max(dt) > 1:
            raise ValueError(f"dt must hold steps in (0, 1], got {dt!r}")
        runs = {f"dt {d:g}": replace(model.spec, dt=float(d)) for d in dt}
    rng = np.random.default_rng(of_subject["random_state"])
    start = [rng.uniform(0, 1, s.shape).astype(model.dtype) for s in model.zeros(len(x))]
    energies = {name: _track(model, spec, x, start, n_steps) for name, spec in runs.items()}
    rises = {name: _largest_rise(track) for name, track in energies.items()}
    return EnergyDescent(
        verdict=float(np.max(list(rises.values()))),
        target=1e-12 if model.dtype == np.float64 else 1e-5,
        settings=dict(of_subject, n_steps=n_steps, dt=tuple(dt)),
        energy=energies,
        rise=rises,
    )


def _track(model, spec, x, start, n_steps):
    """Energy of each sample before and after every step of the model under another spec."""
    moving = LayeredModel(spec, model.weights, model.biases)
    drive, states = moving.drive(x), start
    track = [moving.energy(x, states)]
    for _ in range(n_steps):
        states = moving.step(drive, states)
        track.append(moving.energy(x, states))
    return np.array(track)


def _largest_rise(track):
    """Largest rise in one step over the whole descent, worst sample; infinite for one that only
    climbs.
    """
    rise, descent = np.diff(track, axis=0).max(axis=0), track[0] - track.min(axis=0)
    never = np.where(rise > 0, np.inf, 0.0)
    never[~np.isfinite(track).all(axis=0)] = np.nan
    return float(np.divide(rise, descent, out=never.astype(track.dtype), where=descent > 0).max())
