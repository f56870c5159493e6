"""The estimators, and for each a small network to begin with; for tests that go over all of them."""

from eqprop_fast.kernels.spec import GRADIENT_RULES

from eqprop_fast import (
    Connection,
    ConvEqPropClassifier,
    ConvEqPropRegressor,
    Dense,
    EqPropClassifier,
    EqPropRegressor,
    Graph,
    GraphEqPropClassifier,
    GraphEqPropRegressor,
    Layer,
    ResistiveClassifier,
    ResistiveRegressor,
    available_backends,
)

CHAINS = EqPropClassifier, EqPropRegressor
RESISTIVE = ResistiveClassifier, ResistiveRegressor
GRAPHS = (ConvEqPropClassifier, ConvEqPropRegressor, GraphEqPropClassifier, GraphEqPropRegressor)
KINDS = *CHAINS, *RESISTIVE, *GRAPHS


def skip(units):
    """Two layers of so many units, the second joined with the input too; its ends fit all data."""
    return Graph(
        [Layer("x"), Layer("a", units), Layer("b", units), Layer("out")],
        [Connection("x", "a"), Connection("a", "b"), Connection("x", "b"), Connection("b", "out")],
    )


def small(kind, units=4):
    """The first argument of an estimator: a network with hidden layers of so many units."""
    if issubclass(kind, GRAPHS):
        return [Dense(units)] if "Conv" in kind.__name__ else skip(units)
    return (units,)


def serving(kind, backends=None):
    """Which of these backends, or of all that load here, run this kind of network."""
    backends = available_backends() if backends is None else backends
    return [name for name in backends if not issubclass(kind, GRAPHS) or serves_graphs(name)]


def serves_rule(backend, rule):
    """Whether a backend that serves graphs runs this rule on them."""
    return backend != "c" or rule not in GRADIENT_RULES


def serves_graphs(backend):
    from eqprop_fast.kernels import get_backend

    return get_backend(backend).graph_train.__module__ != "eqprop_fast.kernels.no_graphs"
