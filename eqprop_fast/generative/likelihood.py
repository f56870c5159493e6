"""log Z of a machine: enumerated, or by annealed importance sampling (Neal 2001; Salakhutdinov and
Murray 2008), forwards and backwards.
"""

from __future__ import annotations

import itertools
import warnings
from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp
from sklearn.exceptions import ConvergenceWarning

from ..kernels import Sweeps

MOST_ENUMERATED = 20  # units
CHUNK = 4096
SIGMAS = 3


@dataclass(frozen=True)
class LogPartition:
    """An estimate of log Z, never without its error.

    Attributes
    ----------
    value : float
    low, high : float
        Three standard errors of the mean weight to either side; -inf where the mean is not known to
        be above 0. Equal to `value` if enumerated.
    effective_chains : float
        (sum w)^2 / sum w^2; near 1 one chain decides, and the error is not to be believed.
    n_chains, n_temperatures : int
        0 if enumerated.
    upper : LogPartition or None
        The estimate of the reverse run, from the machine's own samples to the base: in expectation
        above log Z where the forward one is below, as far as the samples are the machine's.
    """

    value: float
    low: float
    high: float
    effective_chains: float
    n_chains: int
    n_temperatures: int
    upper: LogPartition | None = None

    def __str__(self):
        if not self.n_chains:
            return f"log Z = {self.value:.4f} (enumerated)"
        text = (
            f"log Z = {self.value:.2f} [{self.low:.2f}, {self.high:.2f}] ({self.n_chains} chains, "
            f"{self.effective_chains:.0f} effective, {self.n_temperatures} temperatures)"
        )
        return text if self.upper is None else f"{text}; reverse: {self.upper}"


def sides(machine):
    """Layers of even number, and of odd."""
    n = len(machine.biases)
    return range(0, n, 2), range(1, n, 2)


def _bits(n, start, stop):
    return (np.arange(start, stop)[:, None] >> np.arange(n) & 1).astype(np.float64)


def enumerable(machine):
    """The parity of layers with at most MOST_ENUMERATED units, the fewest; or None."""
    units = [sum(len(machine.biases[k]) for k in side) for side in sides(machine)]
    parity = int(np.argmin(units))
    return parity if units[parity] <= MOST_ENUMERATED else None


def _enumerated_states(machine, parity):
    """Chunks of all states of the layers of one parity: {layer: (M, N[k])}."""
    kept = sides(machine)[parity]
    top = len(machine.weights)
    one_hot = machine.labelled and top in kept
    binary = [k for k in kept if not (one_hot and k == top)]
    sizes = [len(machine.biases[k]) for k in binary]
    labels = np.eye(len(machine.biases[top])) if one_hot else [None]
    n = sum(sizes)
    for label, start in itertools.product(labels, range(0, 2**n, CHUNK)):
        bits = _bits(n, start, min(start + CHUNK, 2**n))
        states = dict(zip(binary, np.split(bits, np.cumsum(sizes)[:-1], axis=1)))
        if one_hot:
            states[top] = np.broadcast_to(label, (len(bits), len(label)))
        yield states


def _log_states(machine, k, field):
    """log of the sum over the states of layer k, given its fields (..., N[k])."""
    if machine.is_categorical(k):
        return logsumexp(field, axis=-1)
    return np.logaddexp(0, field).sum(axis=-1)


def _log_summed(machine, states):
    """log p* of states of one parity, the other layers summed over; and the fields of those."""
    value = sum(s @ machine.biases[k] for k, s in states.items())
    fields = {}
    for k in range(len(machine.biases)):
        if k in states:
            continue
        field = machine.biases[k].astype(np.float64)
        if k - 1 in states:
            field = field + states[k - 1] @ machine.weights[k - 1]
        if k + 1 in states:
            field = field + states[k + 1] @ machine.weights[k].T
        value = value + _log_states(machine, k, field)
        fields[k] = field
    return value, fields


def enumerated(machine):
    """log Z over all states.

    Raises
    ------
    ValueError
        Both parities of layers have more than MOST_ENUMERATED units.
    """
    parity = enumerable(machine)
    if parity is None:
        raise ValueError(
            f"method='exact' enumerates at most {MOST_ENUMERATED} units, and neither the layers of "
            "odd number nor those of even number are so few"
        )
    parts = [_log_summed(machine, states)[0] for states in _enumerated_states(machine, parity)]
    value = float(logsumexp([logsumexp(p) for p in parts]))
    return LogPartition(value, value, value, np.inf, 0, 0)


def exact_samples(machine, n, rng):
    """n independent states of an enumerable machine's layers of the enumerated parity, others 0."""
    parity = enumerable(machine)
    chunks = list(_enumerated_states(machine, parity))
    logs = np.concatenate([_log_summed(machine, states)[0] for states in chunks])
    p = np.exp(logs - logsumexp(logs))
    chosen = rng.choice(len(p), n, p=p / p.sum())
    states = [np.zeros((n, len(b)), machine.dtype) for b in machine.biases]
    for k in chunks[0]:
        states[k][...] = np.concatenate([c[k] for c in chunks])[chosen]
    return states, parity


def _base_log_z(machine, base):
    return float(sum(_log_states(machine, k, b.astype(np.float64)) for k, b in enumerate(base)))


def _base_states(machine, base, n, rng):
    """Independent states of the machine without weights."""
    states = [
        (rng.uniform(size=(n, len(b))) < 1 / (1 + np.exp(-b.astype(np.float64)))).astype(b.dtype)
        for b in base
    ]
    if machine.labelled:
        p = np.exp(base[-1] - logsumexp(base[-1])).astype(np.float64)
        chosen = rng.choice(len(p), n, p=p / p.sum())
        states[-1][...] = np.eye(len(p), dtype=states[-1].dtype)[chosen]
    return states


def _estimate(log_weight, start, n_temperatures, sign):
    """LogPartition from log weights: log Z = start + sign log(mean weight)."""
    n = len(log_weight)
    top = log_weight.max()
    w = np.exp(log_weight - top)
    mean, error = w.mean(), w.std(ddof=1) / np.sqrt(n) if n > 1 else np.inf
    ends = []
    for side in (-SIGMAS, SIGMAS):
        value = mean + side * error
        ends.append(start + sign * (top + np.log(value)) if value > 0 else -sign * np.inf)
    effective = float(w.sum() ** 2 / (w**2).sum())
    value = float(start + sign * (top + np.log(mean)))
    low, high = sorted(map(float, ends))
    return LogPartition(value, low, high, effective, n, n_temperatures)


def annealed(machine, base, *, n_chains, n_temperatures, seed, rng, even_first):
    """log Z from runs that begin at the machine without weights."""
    states = _base_states(machine, base, n_chains, rng)
    betas = np.linspace(0, 1, n_temperatures)
    return _annealing(machine, base, states, betas, seed, even_first, 1)


def reverse_annealed(machine, base, states, *, n_temperatures, seed, even_first):
    """log Z from runs that begin at samples of the machine, and end without weights."""
    states = [s.copy() for s in states]
    betas = np.linspace(1, 0, n_temperatures)
    return _annealing(machine, base, states, betas, seed, even_first, -1)


def _annealing(machine, base, states, betas, seed, even_first, sign):
    """log Z from chains that go through the inverse temperatures `betas`, `states` in place."""
    weight = np.zeros(len(states[0]))
    sweeps = Sweeps(len(betas) - 1, even_first=even_first, seed=seed)
    clamped = [False] * len(states)
    machine.sweep(states, sweeps, clamped, base=base, betas=betas, log_weight=weight)
    return _estimate(weight, _base_log_z(machine, base), len(betas), sign)


def say_if_unreliable(estimate, stacklevel):
    """Warn of an estimate that few chains decide."""
    for run, name in ((estimate, "forward"), (estimate.upper, "reverse")):
        if run is None or not run.n_chains:
            continue
        if run.effective_chains < max(2, 0.1 * run.n_chains) or not np.isfinite(run.low + run.high):
            warnings.warn(
                f"log Z: {run.effective_chains:.1f} of {run.n_chains} chains decide the {name} "
                f"estimate {run.value:.2f} [{run.low:.2f}, {run.high:.2f}]; more n_temperatures "
                f"(now {run.n_temperatures}) help",
                ConvergenceWarning,
                stacklevel=stacklevel,
            )
