"""The nodal kernels against their NumPy twin, at sizes either side of the vector widths."""

import numpy as np
import pytest
from eqprop_fast.kernels import get_backend
from eqprop_fast.kernels.reference import nodal as reference
from eqprop_fast.kernels.reference.nodal_head import plan_head
from scipy import sparse

from .backend_list import BACKENDS as NAMES
from .nodal_systems import ROW, make_system, random_network

BACKENDS = [
    pytest.param(get_backend(name).nodal_newton, id=name) for name in NAMES if name != "numpy"
]

SIZES = (1, 7, 8, 9, 15, 16, 17, 31, 33)


def solve(kernel, system, m, seed=1, dtype=np.float64, **options):
    rng = np.random.default_rng(seed)
    rhs = np.zeros((m, system.n))
    rhs[:, : len(system.anode)] = rng.normal(scale=5e-3, size=(m, len(system.anode)))
    offset = rng.normal(scale=0.5, size=(m, len(system.anode)))
    offset[:, system.cathode >= 0] = 0
    x, junction = np.zeros((m, system.n), dtype), reference.start_junctions(system, m).astype(dtype)
    report = kernel(system, rhs.astype(dtype), offset.astype(dtype), x, junction, **options)
    return x, junction, report


@pytest.mark.parametrize("kernel", BACKENDS)
@pytest.mark.parametrize("dense", [True, False], ids=["dense", "sparse"])
@pytest.mark.parametrize("n", SIZES)
def test_same_as_twin(kernel, dense, n):
    system = make_system(n, dense=dense)
    ours, theirs = solve(kernel, system, 3), solve(reference.nodal_newton, system, 3)
    assert (theirs[2].status == reference.CONVERGED).all()
    np.testing.assert_array_equal(ours[2].status, theirs[2].status)
    np.testing.assert_array_equal(ours[2].iterations, theirs[2].iterations)
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(ours[1], theirs[1], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("kernel", BACKENDS)
@pytest.mark.parametrize("dense", [True, False], ids=["dense", "sparse"])
def test_the_last_step_is_reported(kernel, dense):
    system = make_system(9, dense=dense)
    ours, theirs = (solve(k, system, 5, max_iter=2)[2] for k in (kernel, reference.nodal_newton))
    assert (theirs.status == reference.NOT_CONVERGED).all() and theirs.step.min() > 1e-6
    np.testing.assert_allclose(ours.step, theirs.step, rtol=1e-9)
    np.testing.assert_array_equal(ours.worst, theirs.worst)


@pytest.mark.parametrize("kernel", BACKENDS)
@pytest.mark.parametrize("far", (0, 1))
def test_every_junction_must_settle(kernel, far):
    """Also one that comes before or after others that have settled, where voltages are near enough."""
    ends, known = np.arange(2, dtype=np.int32), np.full(2, -1, np.int32)
    parameters = np.array([ROW["plain"]] * 2)
    stamp = reference.stamps(2, ends, known, known)
    system = reference.NodalSystem(
        2, 1e-3 * np.eye(2), None, None, ends, known, known, stamp, parameters
    )
    rhs, iterations = np.zeros((1, 2)), []
    rhs[0, far] = 5e-3
    for one in (kernel, reference.nodal_newton):
        x = np.zeros((1, 2))
        report = one(system, rhs, np.zeros((1, 2)), x, np.zeros((1, 2)), vtol=1e3)
        assert report.status[0] == reference.CONVERGED and abs(x[0, far] - 0.7) < 0.1
        iterations.append(report.iterations[0])
    assert iterations[0] == iterations[1] > 3


@pytest.mark.parametrize("kernel", [*BACKENDS, pytest.param(reference.nodal_newton, id="numpy")])
@pytest.mark.parametrize("past", [0, 1e-3])
def test_a_junction_is_cut_past_its_critical_voltage_alone(kernel, past):
    """Of a diode between known voltages, beside one unknown that has no part in it."""
    known, row = np.full(1, -1, np.int32), ROW["plain"]
    stamp = reference.stamps(1, known, known, known)
    system = reference.NodalSystem(
        1, np.eye(1), None, None, known, known, known, stamp, np.array([row])
    )
    across = np.full((3, 1), row[reference.P_VCRIT] + past)
    x, junction = np.zeros((3, 1)), np.zeros((3, 1))
    report = kernel(system, np.zeros((3, 1)), across, x, junction)
    assert (report.status == reference.CONVERGED).all() and (junction == across).all()
    assert ((report.iterations == 2) == (past == 0)).all()  # one to go there, one to stay


@pytest.mark.parametrize("kernel", BACKENDS)
@pytest.mark.parametrize("m", SIZES)
def test_any_number_of_samples(kernel, m):
    system = make_system(5)
    whole = solve(kernel, system, m)
    twin = solve(reference.nodal_newton, system, m)
    np.testing.assert_allclose(whole[0], twin[0], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("kernel", BACKENDS)
@pytest.mark.parametrize("dense", [True, False], ids=["dense", "sparse"])
@pytest.mark.parametrize("n", (1, 2, 5, 9, 17))
def test_ideal_diodes(kernel, dense, n):
    system = make_system(n, seed=3, dense=dense, ideal=True)
    x, state, report = solve(kernel, system, 9)
    assert (report.status == reference.CONVERGED).all()
    twin = solve(reference.nodal_newton, system, 9)
    np.testing.assert_allclose(x, twin[0], rtol=1e-8, atol=1e-11)
    for d in np.flatnonzero(system.branch >= 0):
        assert (x[:, system.branch[d]] >= -1e-15).all()
        assert set(np.unique(state[:, d])) <= {0.0, 1.0}


@pytest.mark.parametrize("kernel", [*BACKENDS, pytest.param(reference.nodal_newton, id="numpy")])
@pytest.mark.parametrize("dense", [True, False], ids=["dense", "sparse"])
def test_ideal_diodes_that_leak(kernel, dense):
    system, leak = make_system(9, seed=3, dense=dense, ideal=True), 1e-5
    diodes = np.flatnonzero(system.branch >= 0)
    system.parameters[diodes, reference.P_GMIN] = leak
    rhs, offset = np.zeros((9, system.n)), np.zeros((9, 9))
    rhs[:, :9] = np.random.default_rng(1).normal(scale=5e-3, size=(9, 9))
    offset[:, 2] = 0.3
    x, state = np.zeros((9, system.n)), reference.start_junctions(system, 9)
    assert (kernel(system, rhs, offset, x, state).status == reference.CONVERGED).all()
    padded = np.hstack([x, np.zeros((9, 1))])  # -1: a known voltage, in the offset
    v = padded[:, system.anode] - padded[:, system.cathode] + offset
    current, on = x[:, system.branch[diodes]], state[:, diodes] > 0
    assert 0 < on.sum() < on.size
    np.testing.assert_allclose(v[:, diodes][on], 0, atol=1e-12)
    np.testing.assert_allclose(current[~on], leak * v[:, diodes][~on], rtol=1e-9, atol=1e-18)


@pytest.mark.needs_cc
@pytest.mark.skipif("c" not in NAMES, reason="the C backend is not under test")
@pytest.mark.parametrize("dense", [True, False], ids=["dense", "sparse"])
def test_threads_and_neighbours_do_not_matter(dense):
    system = make_system(17, dense=dense)
    one = solve(get_backend("c").nodal_newton, system, 33)
    for threads in (2, 3, 8):
        many = solve(get_backend("c").nodal_newton, system, 33, n_threads=threads)
        np.testing.assert_array_equal(one[0], many[0])
        np.testing.assert_array_equal(one[2].iterations, many[2].iterations)


@pytest.mark.needs_cc
@pytest.mark.skipif("c" not in NAMES, reason="the C backend is not under test")
def test_every_instruction_set():
    from eqprop_fast._native import ffi, lib

    system = make_system(19)
    want = solve(reference.nodal_newton, system, 9)[0]
    chosen = ffi.string(lib.eqp_isa())
    try:
        for i in range(lib.eqp_isa_count()):
            if lib.eqp_isa_usable(i):
                assert lib.eqp_select_isa(lib.eqp_isa_name(i)) == 0
                np.testing.assert_allclose(
                    solve(get_backend("c").nodal_newton, system, 9)[0], want, rtol=1e-9, atol=1e-11
                )
                loose = dict(dtype=np.float32, vtol=1e-4, rtol=1e-3)
                single = solve(get_backend("c").nodal_newton, system, 9, **loose)
                assert np.isfinite(single[0]).all()
    finally:
        lib.eqp_select_isa(chosen)


@pytest.mark.needs_cc
@pytest.mark.skipif("c" not in NAMES, reason="the C backend is not under test")
def test_native_refuses_bad_arrays():
    system = make_system(4)
    good = np.zeros((2, 4))
    with pytest.raises(ValueError, match="rhs must be"):
        get_backend("c").nodal_newton(
            system, np.zeros((2, 3)), good.copy(), good.copy(), good.copy()
        )
    with pytest.raises(ValueError, match="offset must be"):
        get_backend("c").nodal_newton(system, good, np.zeros((4, 2)).T, good.copy(), good.copy())
    with pytest.raises(ValueError, match="float64 or float32"):
        get_backend("c").nodal_newton(system, good, good, good.astype(int), good)
    assert (
        len(get_backend("c").nodal_newton(system, good[:0], good[:0], good[:0], good[:0]).status)
        == 0
    )


@pytest.mark.parametrize("kernel", [*BACKENDS, pytest.param(reference.nodal_newton, id="numpy")])
def test_singular_and_unconverged_are_reported(kernel):
    system = make_system(3)
    empty = np.zeros(0, np.int32)
    broken = reference.NodalSystem(
        2,
        np.ones((2, 2)),
        None,
        None,
        empty,
        empty,
        empty,
        np.zeros((0, 9), np.int32),
        np.zeros((0, 7)),
    )
    x, none = np.zeros((1, 2)), np.zeros((1, 0))
    report = kernel(broken, np.array([[1.0, 0.0]]), none, x, none.copy())
    assert report.status[0] == reference.SINGULAR
    assert (solve(kernel, system, 2, max_iter=1)[2].status == reference.NOT_CONVERGED).all()


def test_diode_current_and_slope():
    v = np.linspace(-4, 0.8, 4001)
    for row in ROW.values():
        par = np.tile(row, (v.size, 1))
        i, g = reference.diode_current(par, v)
        assert (np.diff(i) > 0).all() and (g > 0).all()
        inside = np.abs(v[1:-1] - -row[reference.P_BV]) > 0.01
        inside &= np.abs(v[1:-1] + 3 * row[reference.P_VTE]) > 0.01
        h = 1e-6
        slope = (
            reference.diode_current(par, v + h)[0] - reference.diode_current(par, v - h)[0]
        ) / (2 * h)
        np.testing.assert_allclose(g[1:-1][inside], slope[1:-1][inside], rtol=1e-3, atol=1e-14)


def test_lu_pattern_refactors_other_values():
    rng = np.random.default_rng(0)
    a = sparse.random(60, 60, 0.05, random_state=1, format="csr") + sparse.diags(
        rng.uniform(1, 2, 60)
    )
    a = sparse.csr_matrix(a)
    lu = reference.lu_pattern(a)
    new = a.copy()
    new.data = rng.uniform(0.5, 1.0, a.nnz)
    dense = new.toarray()[np.ix_(lu.row_of, lu.col_of)]
    lower, upper = np.eye(60), dense.copy()
    for k in range(60):
        lower[k + 1 :, k] = upper[k + 1 :, k] / upper[k, k]
        upper[k + 1 :] -= np.outer(lower[k + 1 :, k], upper[k])
    for j in range(60):
        fill = set(np.flatnonzero(np.abs(lower[j + 1 :, j]) > 1e-14) + j + 1)
        assert fill <= set(lu.l_row[lu.l_ptr[j] : lu.l_ptr[j + 1]].tolist())
        fill = set(np.flatnonzero(np.abs(np.triu(upper)[:j, j]) > 1e-14))
        assert fill <= set(lu.u_row[lu.u_ptr[j] : lu.u_ptr[j + 1]].tolist())


def test_pattern_of_a_matrix_whose_pivots_superlu_changes(monkeypatch):
    """Found by sets: the same as that of the factors, which serves all others."""
    a = random_network(60)
    factors = reference.lu_pattern(a)
    permuted = (a + sparse.diags(np.full(60, 120.0)))[factors.row_of][:, factors.col_of].tocsc()
    lower, upper = reference._pattern_by_sets(permuted)
    for part, sets in (("l", sparse.tril(lower, -1)), ("u", sparse.triu(upper, 1))):
        sets = sets.tocsc()
        sets.sort_indices()
        np.testing.assert_array_equal(sets.indptr, getattr(factors, f"{part}_ptr"))
        np.testing.assert_array_equal(sets.indices, getattr(factors, f"{part}_row"))
    monkeypatch.setattr(reference, "_pattern_by_sets", None)  # slow: not for this one
    reference.lu_pattern(a)


def test_a_head_is_of_cheap_pivots():
    dense = random_network(30) + sparse.csr_matrix(np.full((30, 30), 1e-6))
    assert plan_head(sparse.csr_matrix(dense)).n_head == 0
    chain = sparse.diags([np.full(29, -1.0), np.full(30, 3.0), np.full(29, -1.0)], (-1, 0, 1))
    assert plan_head(sparse.csr_matrix(chain)).n_head > 20


HEADS = [pytest.param(get_backend(name), id=name) for name in NAMES]


@pytest.mark.parametrize("kernels", HEADS)
@pytest.mark.parametrize("n", (1, 2, 9, 60, 300))
def test_symmetric_factor(kernels, n):
    from eqprop_fast.circuits.factor import SymmetricFactor

    matrix = random_network(n)
    plan = plan_head(matrix)
    rng = np.random.default_rng(1)
    for _ in range(2):  # the plan serves other values of the same pattern
        factor = SymmetricFactor(plan, matrix.data, kernels)
        b = rng.normal(size=(3, n))
        np.testing.assert_allclose(factor.solve(b) @ matrix.toarray(), b, rtol=1e-10, atol=1e-10)
        matrix = matrix.copy()
        matrix.data = matrix.data * 3
