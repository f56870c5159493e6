"""What a fitted network says of a row depends, to the bit, on that row alone: on every backend,
whatever rows stand beside it and wherever it stands. No BLAS gives that by itself.
"""

import numpy as np
import pytest
import scipy.sparse as sp
from eqprop_fast.kernels import LayeredSpec, get_backend
from sklearn.datasets import load_digits

from eqprop_fast.networks.initial import GlorotUniform
from eqprop_fast.networks.layered import LayeredNetwork
from eqprop_fast.networks.resistive import ResistiveNetwork, ResistiveSpec, init_conductances

from .backend_list import BACKENDS
from .kinds import KINDS, small

pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.ConvergenceWarning", "ignore:batch_size"
)

ROWS = 301
GROUPS = [
    slice(0, 1),
    slice(3, 10),
    slice(100, 233),
    slice(140, 141),
    np.arange(ROWS)[::-7],
    slice(1, None),
]


def check(answer, *arrays):
    """`answer(*arrays)` (a list of arrays) of groups of rows is that of all rows."""
    whole = answer(*arrays)
    for rows in GROUPS:
        for part, all_of_it in zip(answer(*(a[rows] for a in arrays)), whole, strict=True):
            np.testing.assert_array_equal(part, all_of_it[rows])


def relaxed(network, n_steps, tol, beta, x, y, *states):
    rest = network.relax(x, n_steps, tol, y, beta, states)
    return [*rest.states, rest.steps, rest.residual, rest.energy]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("sizes", [(37, 19, 7), (64, 33, 17, 10), (20, 48, 1)])
@pytest.mark.parametrize(
    "options",
    [
        dict(),
        dict(
            schedule="asynchronous",
            activation="tanh",
            cost="cross_entropy",
            out_activation="identity",
        ),
        dict(dynamics="continuous", activation="sigmoid", dt=0.4),
        dict(schedule="asynchronous", activation="hard_sigmoid", input_activation="sigmoid"),
    ],
)
def test_layered(backend, dtype, sizes, options):
    spec, rng = LayeredSpec(sizes, **options), np.random.default_rng(0)
    weights, biases = GlorotUniform().draw(sizes, rng, np.dtype(dtype))
    x, y = rng.random((ROWS, sizes[0])).astype(dtype), rng.random((ROWS, sizes[-1])).astype(dtype)
    states = [rng.random((ROWS, n)).astype(dtype) for n in sizes[1:]]
    for back in (
        None,
        [None, *(rng.normal(0, 0.1, w.shape[::-1]).astype(dtype) for w in weights[1:])],
    ):
        network = LayeredNetwork(spec, get_backend(backend), weights, biases, back)
        check(lambda *a: relaxed(network, 12, 1e-3, 0.0, *a), x, y, *states)  # noqa: B023
        check(lambda *a: relaxed(network, 4, -1.0, 0.5, *a), x, y, *states)  # noqa: B023
    check(lambda x: [network.outputs(x, 10)], sp.csr_array(x * (x > 0.7)))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "options", [dict(), dict(pairs=True, schedule="synchronous"), dict(diodes="none")]
)
def test_resistive(backend, dtype, options):
    sizes, rng = (37, 18, 12, 7), np.random.default_rng(0)
    spec = ResistiveSpec(sizes, input_gain=3.0, **options)
    weights, biases = init_conductances(spec, 1.0, rng, np.dtype(dtype))
    biases = [rng.normal(0, 0.1, b.shape).astype(dtype) for b in biases]
    x, y = rng.random((ROWS, 37)).astype(dtype), rng.random((ROWS, 7)).astype(dtype)
    states = [rng.random((ROWS, n)).astype(dtype) for n in spec.node_sizes]
    network = ResistiveNetwork(spec, get_backend(backend), weights, biases)
    check(lambda *a: relaxed(network, 12, 1e-3, 0.0, *a), x, y, *states)
    check(lambda *a: relaxed(network, 4, -1.0, 0.5, *a), x, y, *states)
    check(lambda x, *states: network.kcl(x, states), x, *states)
    check(lambda x: [network.outputs(x, 10)], sp.csr_array(x * (x > 0.7)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind, backend", [(kind, name) for kind in KINDS for name in BACKENDS])
def test_estimators(backend, dtype, kind):
    x, y = load_digits(return_X_y=True)
    x = x / 16
    model = kind(small(kind, 24), max_iter=2, random_state=0, backend=backend, dtype=dtype).fit(
        x[:200], y[:200]
    )
    names = (
        "predict",
        "predict_proba",
        "predict_log_proba",
        "decision_function",
        "dissipated_power",
    )
    methods = [getattr(model, name) for name in names if hasattr(model, name)]

    def answers(x):
        rest = model.equilibrium(x)
        return [*(f(x) for f in methods), *rest.states, rest.steps, rest.residual, rest.energy]

    check(answers, x[:ROWS])
    check(answers, sp.csr_array(x[:ROWS]))
