"""Energies that layered networks descend, per sample.

Discrete map: ``E = sum_k [sum_i G(s_ki) - s_{k-1}^T W s_k - b_k . s_k]`` with ``G`` the integral of
the inverse activation, so that ``s_k = rho(field)`` is the exact minimiser over layer k and the
asynchronous sweep never increases E. Continuous: ``E = sum_k [|s_k|^2/2 - rho(s_{k-1})^T W rho(s_k)
- b_k . rho(s_k)]`` (1602.05179 in its usual form, 1905.13633 EB; with `linear_output` the output
enters as ``s``). Both need symmetric weights.
"""

from __future__ import annotations

import numpy as np
from scipy.special import xlogy

from ..kernels.reference.activations import rho
from ..kernels.reference.graph import GraphNet
from ..kernels.reference.layered import acting
from ..kernels.reference.products import in_order


def _entropy(p):
    return xlogy(p, p) + xlogy(1 - p, 1 - p)


# G(s) = integral of rho^-1; NaN outside the range of rho (a nudged output can leave it)
INVERSE_INTEGRAL = {
    "identity": lambda s: s * s / 2,
    "shifted_sigmoid": lambda s: _entropy(s) / 4 + s / 2,
    "hard_sigmoid": lambda s: s * s / 2,
    "tanh": lambda s: (xlogy(1 + s, 1 + s) + xlogy(1 - s, 1 - s)) / 2,
    "sigmoid": _entropy,
    "relu": lambda s: s * s / 2,
    "half_hard_sigmoid": lambda s: s * s,
    "centered_hard_sigmoid": lambda s: s * s / 2,
    "wide_hard_sigmoid": lambda s: s * s / 2,
    "relu6": lambda s: s * s / 2,
}


def _acting_input(activation, x):
    """(a, rest) with rho(x) = a + rest; a is as sparse as x."""
    if not hasattr(x, "tocsr"):
        return rho(activation, x), 0.0
    if activation == "identity":
        return x, 0.0
    rest = float(rho(activation, np.zeros(1, x.dtype))[0])
    acting_x = x.tocsr(copy=True)
    acting_x.sum_duplicates()
    acting_x.data = rho(activation, acting_x.data) - x.dtype.type(rest)
    return acting_x, rest


def layered_energy(spec, weights, biases, x, states):
    """Energy of each sample.

    Parameters
    ----------
    spec : LayeredSpec
    weights, biases : lists of ndarray
        ``weights[k]`` (N[k], N[k+1]), ``biases[k]`` (N[k+1],).
    x : ndarray or CSR, shape (M, N[0])
    states : list of ndarray, ``states[k-1]`` (M, N[k])

    Returns
    -------
    ndarray of float64, shape (M,)
    """
    n = spec.n_weights
    below, rest = _acting_input(spec.input_activation, x)
    energy = np.zeros(states[0].shape[0])
    for k in range(1, n + 1):
        s = states[k - 1].astype(np.float64)
        if spec.dynamics == "discrete":
            self_energy = INVERSE_INTEGRAL[spec.out_activation if k == n else spec.activation](s)
        else:
            self_energy = s * s / 2
        shown = acting(spec, k, states[k - 1])
        field = in_order(below, weights[k - 1]) + biases[k - 1]
        if k == 1 and rest:
            field += rest * weights[0].sum(axis=0, dtype=np.float64)
        energy += self_energy.sum(axis=1) - (shown.astype(np.float64) * field).sum(axis=1)
        below = shown
    return energy


def graph_energy(spec, weights, biases, x, states):
    """Energy of each sample of a graph with symmetric connections and no read-out; as above.

    Parameters
    ----------
    spec : GraphSpec
    weights, biases : lists of ndarray
    x : ndarray, shape (M, N[0])
    states : list of ndarray, ``states[k-1]`` (M, N[k])

    Returns
    -------
    ndarray of float64, shape (M,)
    """
    double = [[a.astype(np.float64) for a in group] for group in (weights, biases, states)]
    net, states = GraphNet(spec, double[0], None, double[1], in_order), double[2]
    drive = net.drive(np.asarray(x, np.float64))
    shown = net.shown(drive, states)
    energy = np.zeros(len(states[0]))
    for k, s in enumerate(states, start=1):
        own = (
            INVERSE_INTEGRAL[spec.activation_of(k)](s) if spec.dynamics == "discrete" else s * s / 2
        )
        energy += own.sum(axis=1) - (shown[k - 1] * net.from_below(drive, shown, k)).sum(axis=1)
    return energy
