"""The estimators, and for each a small network to begin with; for tests that go over all of them."""

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
