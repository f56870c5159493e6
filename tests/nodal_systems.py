"""Random systems of the nodal kernels: of circuits with diodes, and of conductances alone."""

import numpy as np
from eqprop_fast.kernels.reference import nodal as reference
from scipy import sparse

ROW = {
    "plain": (1e-14, 0.02585, 0.0, 0.73, 1e-12, np.inf, 0.02585),
    "series": (4e-9, 0.0493, 0.6, 0.61, 1e-12, np.inf, 0.0493),
    "zener": (1e-14, 0.02585, 5.0, 0.73, 1e-12, 2.5, 0.02585),
}


def make_system(n, seed=0, *, dense=True, ideal=False):
    """A random conductance network with a diode at every node, half of them to known voltages."""
    rng = np.random.default_rng(seed)
    mask = rng.random((n, n)) < (1.0 if dense else min(1.0, 3.0 / n))
    g = np.where(mask | mask.T, rng.uniform(1e-4, 1e-2, (n, n)), 0.0)
    g = (g + g.T) / 2
    np.fill_diagonal(g, 0)
    a = np.diag(g.sum(axis=1) + rng.uniform(1e-4, 1e-3, n)) - g
    n_d = n
    anode = np.arange(n, dtype=np.int32)
    cathode = np.where(np.arange(n) % 2 == 0, -1, (np.arange(n) + 1) % n).astype(np.int32)
    if n == 1:
        cathode[:] = -1
    is_ideal = np.arange(n) % 3 == 2 if ideal else np.zeros(n, bool)
    total = n + int(is_ideal.sum())
    branch = np.where(is_ideal, n + np.cumsum(is_ideal) - 1, -1).astype(np.int32)
    big = np.zeros((total, total))
    big[:n, :n] = a
    for d in np.flatnonzero(is_ideal):
        big[anode[d], branch[d]] += 1
        if cathode[d] >= 0:
            big[cathode[d], branch[d]] -= 1
    kinds = list(ROW.values())
    parameters = np.array([kinds[k % 3] for k in range(n_d)])
    parameters[is_ideal] = 0.0  # an ideal diode does not leak
    if dense:
        stamp = reference.stamps(total, anode, cathode, branch)
        return reference.NodalSystem(
            total, big, None, None, anode, cathode, branch, stamp, parameters
        )
    room = np.eye(total, dtype=bool) | (big != 0)
    for d in range(n_d):
        ends = [k for k in (anode[d], cathode[d], branch[d]) if k >= 0]
        room[np.ix_(ends, ends)] = True
    csr = sparse.csr_matrix(room.astype(float))
    csr.data = big[np.repeat(np.arange(total), np.diff(csr.indptr)), csr.indices]
    stamp = reference.stamps(total, anode, cathode, branch, csr.indptr, csr.indices)
    filled = csr.copy()
    for k, sign in enumerate((1, -1, -1, 1, 0, 0, 1, -1, 1)):
        hit = stamp[:, k] >= 0
        np.add.at(filled.data, stamp[hit, k], sign * (1e-3 if k < 4 else 1.0))
    return reference.NodalSystem(
        total,
        csr.data,
        csr.indptr,
        csr.indices,
        anode,
        cathode,
        branch,
        stamp,
        parameters,
        reference.lu_pattern(filled, branch[is_ideal]),
    )


def random_network(n, seed=0):
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, n, (2, 2 * n))
    a, b = a[a != b], b[a != b]
    g = rng.uniform(1e-4, 1e-2, a.size)
    matrix = sparse.coo_matrix(
        (np.r_[g, g, -g, -g], (np.r_[a, b, a, b], np.r_[a, b, b, a])), shape=(n, n)
    )
    matrix = sparse.csr_matrix(matrix + sparse.diags(rng.uniform(1e-5, 1e-3, n)))
    matrix.sort_indices()
    return matrix
