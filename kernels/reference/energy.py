"""Energy of the layered networks, for the dynamics that have one."""

import numpy as np
from scipy.special import xlogy

from .activations import rho
from .layered import acting


def _entropy(s):
    return xlogy(s, s) + xlogy(1 - s, 1 - s)


# G with G' = rho^-1: the cost of holding a unit of the discrete dynamics at s
POTENTIALS = {
    "identity": lambda s: s * s / 2,
    "hard_sigmoid": lambda s: s * s / 2,
    "centered_hard_sigmoid": lambda s: s * s / 2,
    "relu": lambda s: s * s / 2,
    "half_hard_sigmoid": lambda s: s * s,
    "tanh": lambda s: (xlogy(1 + s, 1 + s) + xlogy(1 - s, 1 - s)) / 2,
    "sigmoid": _entropy,
    "shifted_sigmoid": lambda s: s / 2 + _entropy(s) / 4,
}


def check_has_energy(spec):
    """Refuse dynamics that descend no energy.

    Raises
    ------
    ValueError
    """
    if spec.dynamics != "continuous":
        return
    if not spec.prime_hidden:
        raise ValueError("prime_hidden=False: the leaky field without rho' is the gradient of no energy")
    if spec.prime_output == spec.linear_output:
        raise ValueError(
            f"prime_output={spec.prime_output}, linear_output={spec.linear_output}: the output must either act as s "
            "and have no rho' (linear_output) or act as rho(s) and have it (prime_output); the mixture of 1905.13633's "
            "code is the gradient of no energy (papers.md 5.1a)"
        )


def layered_energy(spec, weights, biases, x, states):
    """Energy E of each sample of a symmetric network, shape (M,).

    Continuous: ``sum |s|^2 / 2 - sum shown_k W_k shown_k+1 - b . shown`` (papers.md 1.1, 5.1a), where a layer shows
    rho(s), or s for a linear output. Discrete: ``sum G(s) - sum s_k W_k s_k+1 - b . s`` with G' = rho^-1, whose
    block-wise minimiser is s = rho(field).
    """
    check_has_energy(spec)
    below = rho(spec.input_activation, np.asarray(x.toarray() if hasattr(x, "toarray") else x))
    energy = np.zeros(len(states[-1]), states[-1].dtype)
    for k in range(1, spec.n_weights + 1):
        s = states[k - 1]
        shown = acting(spec, k, s)
        if spec.dynamics == "discrete":
            name = spec.out_activation if k == spec.n_weights else spec.activation
            energy += POTENTIALS[name](s).sum(axis=1)
        else:
            energy += (s * s).sum(axis=1) / 2
        energy -= ((below @ weights[k - 1] + biases[k - 1]) * shown).sum(axis=1)
        below = shown
    return energy
