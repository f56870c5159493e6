"""Random calls of the kernels of Boltzmann machines. tests/random_calls.py compares them.

Where states are drawn the dtype is float64: a probability that is off by one rounding of float32
may turn a draw over, and then nothing is alike.
"""

import numpy as np
from eqprop_fast.kernels import Boltzmann, BoltzmannPlan, Sweeps

from . import random_calls as calls


def _units(rng, rows, sizes, dtype, drawn, categorical):
    """States, binary or probabilities; of a categorical layer one unit a row."""
    states = [rng.random((rows, n)) for n in sizes]
    states = [(s < 0.5 if drawn else s).astype(dtype) for s in states]
    if categorical:
        states[-1] = np.eye(sizes[-1], dtype=dtype)[rng.integers(0, sizes[-1], rows)]
    return states


def _machine(rng, sizes, dtype, categorical):
    weights = [rng.normal(size=s) / np.sqrt(s[0]) for s in zip(sizes, sizes[1:])]
    return Boltzmann(
        [w.astype(dtype) for w in weights], calls._arrays(rng, sizes, dtype, -0.5, 0.5), categorical
    )


SWEEPS = {
    "n": calls.integer(0, 6),
    "draw": calls.one_of(calls.BOOL),
    "even_first": calls.one_of(calls.BOOL),
    "upward": lambda rng, seen: bool(not seen["draw"] and rng.random() < 0.5),
    "tol": calls.rarely(calls.constant(1e-2), 0.4, calls.constant(-1.0)),
    "seed": calls.one_of([0, 1, 2**40 + 3, 2**63 - 1]),
    "first_sweep": calls.one_of([0, 1, 2**33]),
}
PLAN = {
    "batch_size": calls.integer(1, 17),
    "n_mean_field": calls.integer(0, 6),
    "n_sweeps": calls.integer(1, 4),
    "rate": calls.between(0.01, 0.3),
    "tol": SWEEPS["tol"],
    "draw": calls.one_of(calls.BOOL),
    "momentum": calls.rarely(calls.constant(0.0), 0.4, calls.between(0, 0.9)),
    "weight_decay": calls.rarely(calls.constant(0.0), 0.4, calls.between(0, 0.1)),
    "offset_rate": calls.between(0, 1),
    "seed": SWEEPS["seed"],
    "first_sweep": SWEEPS["first_sweep"],
}


def machine_call(rng):
    """A call of boltzmann_sweep or boltzmann_train."""
    sizes = tuple(int(n) for n in rng.choice(calls.WIDTHS, rng.choice([2, 2, 3, 4])))
    categorical, rows, trains = (
        bool(rng.random() < 0.4),
        int(rng.integers(1, 80)),
        rng.random() < 0.5,
    )
    options = calls._options(PLAN if trains else SWEEPS, rng, {})
    draw = options["draw"]
    dtype = "float64" if draw else str(rng.choice(calls.DTYPES))
    machine = _machine(rng, sizes, dtype, categorical)
    n_threads, tags = int(rng.integers(1, 4)), {"draw"} if draw else set()
    if trains:
        x = rng.random((rows, sizes[0])).astype(dtype)
        chains = _units(rng, int(rng.integers(1, 20)), sizes, dtype, True, categorical)
        learned = [*machine.weights, *machine.biases]
        arguments = dict(
            machine=machine,
            x=(x > 0.5).astype(dtype) if rng.random() < 0.5 else x,
            y=_units(rng, rows, sizes, dtype, True, categorical)[-1] if categorical else None,
            order=calls._order(rng, rows, tags),
            plan=BoltzmannPlan(**options),
            particles=chains,
            offsets=calls._arrays(rng, sizes, dtype, 0, 1) if rng.random() < 0.7 else None,
            velocity=calls._arrays(rng, [a.shape for a in learned], dtype, -0.01, 0.01),
            n_threads=n_threads,
        )
        changes = ("machine.weights", "machine.biases", "particles", "offsets", "velocity")
        return calls.Call("boltzmann_train", dtype, arguments, changes, tags)
    mask = (rng.random((rows, sizes[0])) < 0.5).astype(np.int8) if rng.random() < 0.3 else None
    cooled, weighed = rng.random() < 0.4, False
    clamped = [bool(rng.random() < 0.3) for _ in sizes]
    if cooled and mask is None:
        weighed = bool(rng.random() < 0.7)
        clamped = [c and not weighed for c in clamped]
    arguments = dict(
        machine=machine,
        states=_units(rng, rows, sizes, dtype, draw, categorical),
        sweeps=Sweeps(**options),
        clamped=clamped,
        mask=mask,
        means=calls._arrays(rng, [(rows, n) for n in sizes], dtype) if rng.random() < 0.5 else None,
        base=calls._arrays(rng, sizes, dtype, -0.5, 0.5) if cooled else None,
        betas=np.linspace(0, 1, options["n"] + 1) if cooled else None,
        log_weight=rng.normal(size=rows) if weighed else None,
        n_threads=n_threads,
    )
    changes = ("states", "means", "log_weight")
    return calls.Call("boltzmann_sweep", dtype, arguments, changes, tags)
