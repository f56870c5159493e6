"""`GraphEqPropClassifier` and `GraphEqPropRegressor`: networks of any shape that learn by equilibrium
propagation.
"""

from __future__ import annotations

from sklearn.utils._param_validation import StrOptions

from ..costs import SquaredError
from ..docstrings import documented
from ..networks.graph import Graph
from ..presets import graph_preset
from ._graph import BaseGraphEstimator
from ._targets import ClassifierTargets, RegressorTargets


class BaseAnyGraphEstimator(BaseGraphEstimator):
    """What the classifier and the regressor share; not for direct use.

    Parameters
    ----------
    network : Graph
        Its first layer is the input, its last one the output. Where these have no shape, it is that
        of the samples and of y; a first layer that is a map takes a flat X too.
    """

    _network_parameter = "network"
    _parameter_constraints: dict = {
        **BaseGraphEstimator._parameter_constraints,
        "network": [None, Graph],
    }

    def _check_layers(self):
        if self.network is None:
            raise ValueError("network must be a Graph, got None")
        self.network.validate()
        super()._check_layers()

    def _graph(self, input_shape, n_outputs):
        return self.network.sized(input_shape, n_outputs)

    def _skeleton(self):
        graph = self.network
        pools = any(c.pool == "max" for c in graph.connections)
        return graph.joined(), [layer.bias for layer in graph.layers[1:]], pools, graph.readout

    def _has_back(self):
        return not all(c.symmetric for c in self.network.connections)

    def _shape_of_input(self, shape):
        layer = self.network.layers[0]
        if layer.shape is None:
            return shape
        sides = layer.sides
        if len(sides) == len(shape) == 3 and sides != shape:
            raise ValueError(f"layer {layer.name!r} has shape {sides}, the samples of X {shape}")
        return sides if len(sides) == 3 else shape

    @classmethod
    def _preset(cls, name):
        return graph_preset(name)


@documented
class GraphEqPropClassifier(ClassifierTargets, BaseAnyGraphEstimator):
    """Classifier on a network of any shape, trained by equilibrium propagation.

    Layers and the connections between them, skip connections and convolutions, are a `Graph` with
    one input (docs/network.md). X is flat or, as of `ConvEqPropClassifier`, of maps. One output
    unit per class with 0/1 targets; two classes share one unit (two under cross-entropy);
    multilabel y has one unit per label.

    Examples
    --------
    >>> from eqprop_fast import Connection, Graph, GraphEqPropClassifier, Layer
    >>> from eqprop_fast.datasets import load_digits
    >>> X, X_test, y, y_test = load_digits()
    >>> skip = Graph([Layer("x"), Layer("a", 32), Layer("b", 32), Layer("out")],
    ...              [Connection("x", "a"), Connection("a", "b"), Connection("x", "b"),
    ...               Connection("b", "out")])
    >>> model = GraphEqPropClassifier(skip, max_iter=10, tol=0, random_state=0, backend="numpy")
    >>> bool(model.fit(X, y).score(X_test, y_test) > 0.9)
    True
    """

    _parameter_constraints: dict = {
        **BaseAnyGraphEstimator._parameter_constraints,
        **ClassifierTargets._parameter_constraints,
    }

    def __init__(
        self,
        network=None,
        *,
        input_scaling="auto",
        activation="auto",
        out_activation="auto",
        dynamics="discrete",
        relaxation="asynchronous",
        learning_rule="ep",
        cost="squared_error",
        solver="auto",
        learning_rate_init="auto",
        bias_learning_rate_init=None,
        learning_rate="auto",
        momentum=0.9,
        beta_1=0.9,
        beta_2=0.999,
        weight_decay="auto",
        batch_size="auto",
        max_iter=200,
        shuffle=True,
        augment=None,
        tol=1e-4,
        n_iter_no_change="auto",
        early_stopping=False,
        validation_fraction=0.1,
        weight_init="fan_in_uniform",
        class_weight=None,
        warm_start=False,
        random_state=None,
        verbose=False,
        callbacks=None,
        checkpoint=None,
        backend="auto",
        on_interrupt="warn",
        n_threads=None,
        dtype="float32",
    ):
        self._keep(locals())


@documented
class GraphEqPropRegressor(RegressorTargets, BaseAnyGraphEstimator):
    """Regressor on a network of any shape, single- or multi-output.

    As `GraphEqPropClassifier`. Targets are standardised internally (`loss_` is in those units) and
    predictions scaled back; the output layer is linear by default.

    Parameters
    ----------
    cost : {"squared_error"} or SquaredError
        A softmax is for classes.
    """

    _parameter_constraints: dict = {
        **BaseAnyGraphEstimator._parameter_constraints,
        "cost": [StrOptions({"squared_error"}), SquaredError],
    }
    _not_of_papers = ("out_activation",)

    def __init__(
        self,
        network=None,
        *,
        input_scaling="auto",
        activation="auto",
        out_activation="identity",
        dynamics="discrete",
        relaxation="asynchronous",
        learning_rule="ep",
        cost="squared_error",
        solver="auto",
        learning_rate_init="auto",
        bias_learning_rate_init=None,
        learning_rate="auto",
        momentum=0.9,
        beta_1=0.9,
        beta_2=0.999,
        weight_decay="auto",
        batch_size="auto",
        max_iter=200,
        shuffle=True,
        augment=None,
        tol=1e-4,
        n_iter_no_change="auto",
        early_stopping=False,
        validation_fraction=0.1,
        weight_init="fan_in_uniform",
        warm_start=False,
        random_state=None,
        verbose=False,
        callbacks=None,
        checkpoint=None,
        backend="auto",
        on_interrupt="warn",
        n_threads=None,
        dtype="float32",
    ):
        self._keep(locals())
