"""Fully connected layered network: a `LayeredSpec`, its parameters and the kernels that move them."""

from __future__ import annotations

import numpy as np

from ..kernels import OptimizerState, free_spec
from .energy import layered_energy
from .protocol import Equilibrium

WEIGHT_INITS = ("glorot_uniform", "fan_in_uniform")

# Rows relaxed at once outside training. BLAS rounds differently for different row counts, so the NumPy
# backend always gets full tiles (padded with zero rows); the compiled kernels treat each row alike whatever
# its company.
NUMPY_TILE = 128
COMPILED_TILE = 4096


def init_parameters(sizes, init, gain, rng, dtype):
    """Fresh weights and biases.

    Parameters
    ----------
    sizes : sequence of int
        Units per layer, input first.
    init : {"glorot_uniform", "fan_in_uniform"}
        U(+-gain sqrt(6 / (n_in + n_out))) with zero biases (1602.05179), or U(+-gain / sqrt(n_in)) with
        biases U(+-1 / sqrt(n_in)) (PyTorch's linear layer: 1905.13633, 2005.04168, 2006.03824).
    gain : float
    rng : numpy.random.Generator
    dtype : numpy dtype

    Returns
    -------
    weights, biases : lists of ndarray
    """
    weights, biases = [], []
    for n_in, n_out in zip(sizes[:-1], sizes[1:]):
        if init == "glorot_uniform":
            bound, bias_bound = gain * np.sqrt(6.0 / (n_in + n_out)), 0.0
        elif init == "fan_in_uniform":
            bound, bias_bound = gain / np.sqrt(n_in), 1.0 / np.sqrt(n_in)
        else:
            raise ValueError(f"weight_init must be one of {WEIGHT_INITS}, got {init!r}")
        weights.append(rng.uniform(-bound, bound, (n_in, n_out)).astype(dtype))
        biases.append(rng.uniform(-bias_bound, bias_bound, n_out).astype(dtype))
    return weights, biases


class LayeredNetwork:
    """Layered network over one backend.

    Parameters
    ----------
    spec : LayeredSpec
    kernels : KernelSet
    weights, biases : lists of C-contiguous ndarray of one float dtype
        ``weights[k]`` (N[k], N[k+1]) and ``biases[k]`` (N[k+1],); trained in place.
    back : list of ndarray or None
        Independent feedback weights ``back[k]`` (N[k+1], N[k]); None means the transpose of ``weights[k]``.
    over_relaxation : float
        Of the free phase outside training (`free_spec`); in training the plan has it.
    """

    def __init__(self, spec, kernels, weights, biases, back=None, over_relaxation=1.0):
        self.spec, self.kernels = spec, kernels
        self.free_spec = free_spec(spec, over_relaxation)
        self.weights, self.biases, self.back = weights, biases, back

    @property
    def parameters(self):
        return [*self.weights, *self.biases, *(self.back or [])]

    @property
    def dtype(self):
        return self.weights[0].dtype

    def snapshot(self):
        return [p.copy() for p in self.parameters]

    def restore(self, snapshot):
        for p, saved in zip(self.parameters, snapshot):
            p[...] = saved

    def layer_of(self, index):
        """Layer (1 = first hidden) that `parameters[index]` feeds."""
        return index % self.spec.n_weights + 1

    def new_optimizer_state(self, optimizer):
        arrays = self.parameters
        velocity = [] if optimizer == "sgd" else [np.zeros_like(a) for a in arrays]
        second = [np.zeros_like(a) for a in arrays] if optimizer == "adam" else []
        return OptimizerState(velocity, second)

    def new_particles(self, n_rows):
        return [np.zeros((n_rows, n), self.dtype) for n in self.spec.sizes[1:]]

    def train(self, x, y, order, plan, row_weight=None, particles=None, optimizer_state=None, n_threads=1):
        return self.kernels.layered_train(
            self.spec, self.weights, self.back, self.biases, x, y, order, plan,
            row_weight, particles, optimizer_state, n_threads,
        )

    def _relax_rows(self, x, states, n_steps, tol, y=None, beta=0.0, n_threads=1):
        return self.kernels.layered_relax(
            self.spec if beta else self.free_spec, self.weights, self.back, self.biases, x, states, y, beta, n_steps, tol, n_threads
        )

    def _tiles(self, n_rows):
        """(rows, padding) of each tile: see NUMPY_TILE."""
        padded = self.kernels.name == "numpy"
        size = NUMPY_TILE if padded else COMPILED_TILE
        for start in range(0, n_rows, size):
            rows = slice(start, min(start + size, n_rows))
            yield rows, size - (rows.stop - rows.start) if padded else 0

    def relax(self, x, n_steps, tol=-1.0, y=None, beta=0.0, states=None, n_threads=1):
        """Relax with the input clamped and, if `beta` is not 0, the output nudged towards `y`.

        Parameters
        ----------
        x : ndarray or CSR, shape (M, N[0]), dtype of the weights
        n_steps : int
        tol : float
            A sample stops after the step whose residual is <= tol; below 0: never.
        y : ndarray (M, N[L]) or None
        beta : float
        states : list of ndarray or None
            Starting states, not changed; None: zero.
        n_threads : int

        Returns
        -------
        Equilibrium

        Raises
        ------
        DivergenceError
        """
        m = x.shape[0]
        if states is None:
            final = self.new_particles(m)
        else:
            final = [np.array(s, self.dtype, order="C") for s in states]
        steps, residual = np.zeros(m, np.int32), np.zeros(m, self.dtype)
        energy = np.full(m, np.nan)  # independent feedback weights: there is no energy
        for rows, pad in self._tiles(m):
            n = rows.stop - rows.start
            tile = [_pad(s[rows], pad) for s in final]
            target = None if y is None else _pad(y[rows], pad)
            used, left = self._relax_rows(_pad(x[rows], pad), tile, n_steps, tol, target, beta, n_threads)
            for s, values in zip(final, tile):
                s[rows] = values[:n]
            steps[rows], residual[rows] = used[:n], left[:n]
            rested = [s[rows] for s in final]
            if self.back is None:
                energy[rows] = layered_energy(self.spec, self.weights, self.biases, x[rows], rested)
        return Equilibrium(final, steps, residual, energy)

    def outputs(self, x, n_steps, tol=-1.0, n_threads=1):
        """Free-phase output states, (M, N[L]), each row independent of the others. Holds one tile."""
        m = x.shape[0]
        out = np.empty((m, self.spec.sizes[-1]), self.dtype)
        for rows, pad in self._tiles(m):
            tile = self.new_particles(rows.stop - rows.start + pad)
            self._relax_rows(_pad(x[rows], pad), tile, n_steps, tol, n_threads=n_threads)
            out[rows] = tile[-1][: rows.stop - rows.start]
        return out


def _pad(a, n_rows):
    """`a` with `n_rows` zero rows appended; C-contiguous."""
    if n_rows == 0:
        return a if hasattr(a, "toarray") else np.ascontiguousarray(a)
    if hasattr(a, "toarray"):
        padded = a.copy()
        padded.resize((a.shape[0] + n_rows, a.shape[1]))
        return padded
    return np.concatenate([a, np.zeros((n_rows, a.shape[1]), a.dtype)])
