"""Factorisation of the linear part of a circuit by SuperLU; a singular circuit is an error that
says what is free.

SuperLU also for small matrices: it runs on one thread, and LAPACK's thread start costs more than
such a solve.
"""

import numpy as np
from scipy import linalg as dense
from scipy import sparse
from scipy.sparse import linalg

from ..kernels.blas import one_blas_thread
from .errors import SingularCircuitError

PIVOT_RATIO = 1e-15  # a pivot this small beside its column: no solution worth the name


class Factor:
    """Factors of a square CSR matrix; `solve` takes right-hand sides as rows."""

    def __init__(self, matrix, name_of=lambda k: f"unknown {k}"):
        self.n = matrix.shape[0]
        if self.n == 0:
            return
        csc = matrix.tocsc()
        largest = np.zeros(self.n)
        np.maximum.at(largest, np.repeat(np.arange(self.n), np.diff(csc.indptr)), np.abs(csc.data))
        if (largest == 0).any():
            raise SingularCircuitError(f"nothing determines {name_of(int(np.argmin(largest)))}")
        try:
            self.lu = linalg.splu(csc, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.01)
        except RuntimeError as error:
            raise SingularCircuitError(f"the circuit matrix is singular ({error})") from None
        pivots, order = np.abs(self.lu.U.diagonal()), np.argsort(self.lu.perm_c)
        bad = ~(pivots > PIVOT_RATIO * largest[order])
        if bad.any():
            raise SingularCircuitError(f"nothing determines {name_of(int(order[np.argmax(bad)]))}")

    def solve(self, rows):
        """Solutions (M, n) for right-hand sides (M, n)."""
        if self.n == 0 or not len(rows):
            return np.zeros_like(rows)
        return self.lu.solve(np.ascontiguousarray(rows.T)).T


class LaplaceFactor:
    """Dense elimination of a network of positive conductances without a subtraction.

    For circuits of so many decades that the sum of a node's conductances loses some of them: here
    only what is left to ground and between nodes is kept, and voltages come out right to rounding,
    whatever the values (Grassmann, Taskar and Heyman 1985).

    Parameters
    ----------
    between : float64 (n, n), symmetric
        Conductances between unknown nodes; the diagonal does not matter.
    ground : float64 (n,)
        Conductances from every node to known ones.
    name_of : callable, of an unknown
    """

    def __init__(self, between, ground, name_of):
        self.g, self.total = np.array(between), np.zeros(len(ground))
        left = np.array(ground)
        for k in range(len(left)):
            row = self.g[k, k + 1 :]
            self.total[k] = row.sum() + left[k]
            if not self.total[k] > 0:
                raise SingularCircuitError(f"nothing determines {name_of(k)}")
            share = row / self.total[k]
            left[k + 1 :] += share * left[k]
            self.g[k + 1 :, k + 1 :] += np.outer(share, row)

    def solve(self, rows):
        """Solutions (M, n) for right-hand sides (M, n)."""
        x, n = np.array(rows), len(self.total)
        for k in range(n):
            x[:, k + 1 :] += np.outer(x[:, k], self.g[k, k + 1 :] / self.total[k])
        for k in range(n - 1, -1, -1):
            x[:, k] = (x[:, k] + x[:, k + 1 :] @ self.g[k, k + 1 :]) / self.total[k]
        return x


class TiedLaplaceFactor:
    """The same for a network in which voltage sources tie nodes together; their currents are
    unknowns too.

    Nodes that sources connect are one node of a smaller network, at voltages from each other that
    the sources give; what Kirchhoff's law then leaves over at a node flows through its source.

    Parameters
    ----------
    between, ground, name_of
        See `LaplaceFactor`.
    ties : int (t, 2)
        Plus and minus nodes of the sources, without loops.
    """

    def __init__(self, between, ground, ties, name_of):
        n = len(ground)
        self.between, self.ground = np.array(between), np.array(ground)
        graph = sparse.coo_matrix((np.ones(len(ties)), np.transpose(ties)), (n, n))
        count, self.group = sparse.csgraph.connected_components(graph, directed=False)
        self.member = np.zeros((count, n))
        self.member[self.group, np.arange(n)] = 1.0
        self.across = np.where(self.group[:, None] == self.group, 0.0, self.between)
        self.whole = LaplaceFactor(
            self.member @ self.across @ self.member.T,
            self.member @ self.ground,
            lambda k: name_of(int(np.argmax(self.member[k]))),
        )
        self.branches = self._from_roots(ties, n)

    @staticmethod
    def _from_roots(ties, n):
        """(node, the one nearer to its group's root, source, +1 if `node` is its plus), nearer ones
        first.
        """
        near = [[] for _ in range(n)]
        for k, (plus, minus) in enumerate(ties):
            near[plus].append((minus, k, -1.0))
            near[minus].append((plus, k, 1.0))
        seen, found = np.zeros(n, dtype=bool), []
        for root in range(n):
            queue = [] if seen[root] else [root]
            seen[root] = True
            for here in queue:
                for node, k, sign in near[here]:
                    if not seen[node]:
                        seen[node] = True
                        found.append((node, here, k, sign))
                        queue.append(node)
        return found

    def _leaving(self, g, v):
        """Current that leaves each node at voltages v through conductances g between nodes, and to
        ground.
        """
        return ((v[:, None] - v) * g).sum(axis=1) + v * self.ground

    def solve(self, rows):
        """Node voltages and source currents (M, n + t) for node currents and source voltages."""
        n, out = len(self.ground), np.empty_like(rows)
        for row, x in zip(rows, out, strict=True):
            current, volts, offset = row[:n], row[n:], np.zeros(n)
            for node, nearer, k, sign in self.branches:
                offset[node] = offset[nearer] + sign * volts[k]
            into = self.member @ (current - self._leaving(self.across, offset))
            x[:n] = self.whole.solve(into[None])[0][self.group] + offset
            left = current - self._leaving(self.between, x[:n])
            for node, nearer, k, sign in reversed(self.branches):
                x[n + k] = sign * left[node]
                left[nearer] += left[node]
        return out


class SymmetricFactor:
    """Positive definite matrices of one pattern: sparse head by our kernels, dense tail by LAPACK's
    Cholesky.

    On large random networks the tail holds nearly all the work, so BLAS 3 does it, and half of it
    by symmetry.
    """

    def __init__(self, plan, data, kernels):
        self.plan, self.kernels = plan, kernels
        filled = plan.ptr[-1]
        self.value = np.zeros(filled + plan.n_tail**2)
        self.value[plan.a_place] = data[plan.a_from]
        self.pivot = np.zeros(plan.n_head)
        self.pivot[plan.diagonal_at] = data[plan.diagonal_from]
        if not kernels.nodal_head_factor(plan, self.value, self.pivot):
            raise SingularCircuitError("the circuit matrix is not positive definite")
        tail = self.value[filled:].reshape(plan.n_tail, plan.n_tail)
        try:  # lower in C order is upper in Fortran order: no copy
            with one_blas_thread():
                self.tail = dense.cholesky(
                    tail.T, lower=False, overwrite_a=True, check_finite=False
                )
        except np.linalg.LinAlgError:
            raise SingularCircuitError("the circuit matrix is not positive definite") from None

    def solve(self, rows):
        """Solutions (M, n) for right-hand sides (M, n)."""
        plan = self.plan
        b = np.ascontiguousarray(rows[:, plan.order].T)
        self.kernels.nodal_head_forward(plan, self.value, self.pivot, b)
        if plan.n_tail:
            with one_blas_thread():
                b[plan.n_head :] = dense.cho_solve(
                    (self.tail, False), b[plan.n_head :], check_finite=False
                )
        self.kernels.nodal_head_backward(plan, self.value, self.pivot, b)
        out = np.empty_like(rows)
        out[:, plan.order] = b.T
        return out


def split(matrix, retained):
    """Schur complement on `retained` unknowns of a CSR matrix.

    Returns
    -------
    schur : ndarray (n_r, n_r)
    inner : ndarray of the eliminated unknowns
    factor : Factor of the eliminated block
    a_ri : CSR coupling block
    response : ndarray (n_i, n_r), inner unknowns per retained one (minus that is what they follow)
    """
    inner = np.setdiff1d(np.arange(matrix.shape[0]), retained)
    rows_r, rows_i = matrix[retained], matrix[inner]
    a_rr, a_ri = rows_r[:, retained].toarray(), sparse.csr_matrix(rows_r[:, inner])
    a_ir, a_ii = sparse.csr_matrix(rows_i[:, retained]), sparse.csr_matrix(rows_i[:, inner])
    factor = Factor(a_ii)
    response = factor.solve(a_ir.T.toarray()).T
    return (
        np.ascontiguousarray(a_rr - a_ri @ response),
        inner,
        factor,
        a_ri,
        np.ascontiguousarray(response),
    )
