"""The papers' figure settings for `gradient_match`, and the data they use (docs/equations.md 10)."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from ..dynamics import Continuous, Discrete
from ..rules import EP, ContinualEP, ContinualVectorField

CONVENTIONS = ("consistent", "as_coded")
_ONE, _TWO, _THREE = (784, 512, 10), (784, 512, 512, 10), (784, 512, 512, 512, 10)


def _entry(kind, sizes, beta, n_free_steps, n_nudged_steps, batch, rule=EP, rate=0.0, **of_rule):
    if issubclass(rule, EP):
        of_rule["tol"] = None
    return dict(
        kind=kind,
        sizes=sizes,
        rule=rule(beta=beta, nudging="positive", n_steps=n_nudged_steps, **of_rule),
        rate=rate,
        n_free_steps=n_free_steps,
        batch=batch,
    )


# kind: "toy", "conv" (discrete, hard sigmoid), "energy" (continuous, tanh, no clamp, dt 0.08),
# "prototypical" (discrete, tanh), "leaky" (VF, no rho')
PRESETS = {
    "1905.13633/fig2-toy": _entry("toy", (5, 50, 10), 0.01, 5000, 80, 1),
    "1905.13633/fig3-EB-1h": _entry("energy", _ONE, 0.001, 800, 80, 20),
    "1905.13633/fig8-EB-1h": _entry("energy", _ONE, 0.001, 800, 80, 1),
    "1905.13633/fig3-EB-2h": _entry("energy", _TWO, 0.01, 5000, 150, 20),
    "1905.13633/fig9-EB-2h": _entry("energy", _TWO, 0.01, 5000, 150, 1),
    "1905.13633/fig3-EB-3h": _entry("energy", _THREE, 0.02, 30000, 200, 20),
    "1905.13633/fig10-EB-3h": _entry("energy", _THREE, 0.02, 30000, 200, 1),
    "1905.13633/fig3-P-1h": _entry("prototypical", _ONE, 0.01, 150, 10, 20),
    "1905.13633/fig11-P-1h": _entry("prototypical", _ONE, 0.01, 150, 10, 1),
    "1905.13633/fig12-P-2h": _entry("prototypical", _TWO, 0.01, 1500, 40, 1),
    "1905.13633/fig13-P-3h": _entry("prototypical", _THREE, 0.015, 5000, 40, 1),
    "1905.13633/fig4-conv": _entry("conv", (1, 32, 64), 0.02, 5000, 10, 1),
    "1905.13633/fig16-conv": _entry("conv", (1, 32, 64), 0.02, 5000, 10, 20),
    "2005.04168/toy": _entry("toy", (5, 50, 10), 0.01, 5000, 80, 1, rule=ContinualEP, rate=2e-5),
}
for _rate, _suffix in [(0.0, "eta0"), (2e-5, "eta2e-5")]:
    _ep = dict(rule=ContinualEP, rate=_rate)
    _vf = dict(rule=ContinualVectorField, rate=_rate, feedback_angle=45.0)
    PRESETS.update(
        {
            f"2005.04168/discrete-C-EP-{_suffix}": _entry(
                "prototypical", _ONE, 0.01, 150, 10, 1, **_ep
            ),
            f"2005.04168/real-time-C-EP-{_suffix}": _entry(
                "energy", _ONE, 0.005, 800, 80, 1, **_ep
            ),
            f"2005.04168/discrete-C-VF-{_suffix}": _entry(
                "prototypical", _ONE, 0.01, 150, 10, 1, **_vf
            ),
            f"2005.04168/real-time-C-VF-{_suffix}": _entry("leaky", _ONE, 0.005, 800, 80, 1, **_vf),
        }
    )


def layered_spec(kind, sizes, convention="consistent", activation="tanh", dt=None):
    """Dynamics of a preset's kind.

    Parameters
    ----------
    convention : {"consistent", "as_coded"}
        For "energy": "consistent" lets the linear output act as s, which makes one energy of all
        terms; "as_coded" lets it act as rho(s) without a rho' of its own, as the authors' code does
        (docs/equations.md 1.4).
    dt : float, optional
        Euler step (0.08 by default), or damping of the discrete map (1 by default: the plain map).
    """
    if convention not in CONVENTIONS:
        raise ValueError(f"convention must be one of {CONVENTIONS}, got {convention!r}")
    if kind == "prototypical":
        dynamics = Discrete(dt=1.0 if dt is None else dt)
    else:
        dynamics = Continuous(
            dt=0.08 if dt is None else dt,
            clamp=False,
            input_activation=activation,
            prime_hidden=kind == "energy",
            linear_output=kind == "energy" and convention == "consistent",
        )
    return dynamics.spec(
        sizes, schedule="synchronous", activation=activation, out_activation=activation
    )


def mnist_batch(n_samples, random_state=None, dtype=np.float64):
    """`n_samples` random MNIST training images in [0, 1] and one-hot targets, from mnist.npz in
    EQPROP_DATA.

    Raises
    ------
    FileNotFoundError
        Says where it looked.
    """
    path = Path(os.environ.get("EQPROP_DATA", "")) / "mnist.npz"
    if not path.is_file():
        raise FileNotFoundError(
            f"no {path}: set EQPROP_DATA to the folder of mnist.npz, or pass x= and y="
        )
    with np.load(path, allow_pickle=False) as data:
        rows = np.random.default_rng(random_state).choice(
            len(data["y_train"]), n_samples, replace=False
        )
        x = data["x_train"][rows].reshape(n_samples, -1).astype(dtype) / 255
        return x, np.eye(10, dtype=dtype)[data["y_train"][rows]]


def uniform_batch(n_samples, n_inputs, n_outputs, random_state=None, dtype=np.float64):
    """x ~ U[0, 1] and random one-hot targets, as for the toy network."""
    rng = np.random.default_rng(random_state)
    x = rng.uniform(0, 1, (n_samples, n_inputs)).astype(dtype)
    return x, np.eye(n_outputs, dtype=dtype)[rng.integers(n_outputs, size=n_samples)]
