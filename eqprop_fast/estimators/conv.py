"""`ConvEqPropClassifier` and `ConvEqPropRegressor`: convolutional networks that learn by equilibrium
propagation.
"""

from __future__ import annotations

import math

from sklearn.utils._param_validation import StrOptions

from ..costs import SquaredError
from ..docstrings import documented
from ..kernels.graph_spec import flat_size
from ..networks.graph import Conv, Dense, ReadOut, chain, name_of, validated
from ..presets import conv_preset
from ._checks import is_list, is_size
from ._graph import BaseGraphEstimator
from ._targets import ClassifierTargets, RegressorTargets

P_CONV = Conv(32, 5, pool="max"), Conv(64, 5, pool="max")  # the layers of 1905.13633


class BaseConvEstimator(BaseGraphEstimator):
    """What the classifier and the regressor share; not for direct use.

    Parameters
    ----------
    layers : sequence of Conv and Dense
        The hidden layers, lowest first; a fully connected output is added. `ReadOut()` at the end
        makes that output a read-out, which is no state (2006.03824).
    input_shape : (int, int, int), (int, int) or None
        Channels, height and width of the samples of a flat X; no channels: one. None: those of X,
        (n, channels, height, width) or (n, height, width).
    """

    _network_parameter = "layers"
    _parameter_constraints: dict = {
        **BaseGraphEstimator._parameter_constraints,
        "layers": ["array-like"],
        "input_shape": [None, "array-like"],
    }

    @property
    def _hidden(self):
        layers = list(self.layers)
        return layers[:-1] if self._reads_out else layers

    @property
    def _reads_out(self):
        return len(self.layers) > 0 and isinstance(self.layers[-1], ReadOut)

    def _graph(self, input_shape, n_outputs):
        return chain(
            input_shape,
            [*self._hidden, Dense(n_outputs)],
            symmetric=not self._rule.independent_feedback,
            readout=self._reads_out,
        )

    def _skeleton(self):
        hidden = self._hidden
        for k, layer in enumerate(hidden, start=1):
            if not isinstance(layer, (Conv, Dense)):
                raise ValueError(
                    f"layers must be Conv or Dense objects, at the end perhaps ReadOut, got {layer!r:.60}"
                )
            validated(layer, f"layer {name_of(layer, k)!r}")
        pools = any(isinstance(layer, Conv) and layer.pool == "max" for layer in hidden)
        joined = [(k, k + 1) for k in range(len(hidden) + 1)]
        return joined, [*(layer.bias for layer in hidden), True], pools, self._reads_out

    def _given_shape(self):
        """`input_shape` as (channels, height, width) or (units,); None if it is not given."""
        shape = self.input_shape
        if shape is None:
            return None
        if not is_list(shape) or len(shape) not in (1, 2, 3) or not all(is_size(n) for n in shape):
            raise ValueError(
                f"input_shape must be (channels, height, width) or (height, width), got {shape!r}"
            )
        shape = tuple(int(n) for n in shape)
        return (1, *shape) if len(shape) == 2 else shape

    def _check_layers(self):
        super()._check_layers()
        self._given_shape()

    def _shape_of_input(self, shape):
        given = self._given_shape()
        if given is not None:
            if flat_size(given) != flat_size(shape) or len(shape) == 3 and given != shape:
                raise ValueError(
                    f"input_shape={self.input_shape!r} is {' * '.join(map(str, given))} = "
                    f"{flat_size(given)} numbers a sample, X has {_product(shape)}"
                )
            return given
        if len(shape) == 1 and self._hidden and isinstance(self._hidden[0], Conv):
            raise ValueError(
                f"X is flat, with {shape[0]} features, and layer 'conv 1' needs maps: give input_shape="
                f"(channels, height, width) with channels * height * width = {shape[0]}{_example(shape[0])}, "
                "or X of shape (samples, channels, height, width)"
            )
        return shape

    def _check_continued(self, network):
        super()._check_continued(network)
        given = self._given_shape()
        if given is not None and given != tuple(self.input_shape_):
            raise ValueError(
                f"input_shape={self.input_shape!r} differs from the fitted {self.input_shape_}; refit with "
                "warm_start=False"
            )

    @classmethod
    def _preset(cls, name):
        return conv_preset(name)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        maps = bool(self._hidden) and isinstance(self._hidden[0], Conv)
        tags.input_tags.two_d_array = self.input_shape is not None or not maps
        return tags


def _product(shape):
    return " * ".join(map(str, shape)) + (f" = {flat_size(shape)}" if len(shape) > 1 else "")


def _example(n):
    side = math.isqrt(n)
    return f", such as (1, {side}, {side})" if side * side == n else ""


@documented
class ConvEqPropClassifier(ClassifierTargets, BaseConvEstimator):
    """Convolutional classifier trained by equilibrium propagation (1905.13633, 2006.03824,
    2312.15103).

    X is (samples, channels, height, width), (samples, height, width), or flat with `input_shape`.
    One output unit per class with 0/1 targets; two classes share one unit (two under
    cross-entropy); multilabel y has one unit per label.

    The other parameters are those of `EqPropClassifier`; docs/network.md has more on layers.

    Examples
    --------
    >>> from eqprop_fast import Conv, ConvEqPropClassifier
    >>> from eqprop_fast.datasets import load_digits
    >>> X, X_test, y, y_test = load_digits()
    >>> model = ConvEqPropClassifier([Conv(8, 3, pool="max")], input_shape=(8, 8), max_iter=5,
    ...                              n_iter_no_change=10, random_state=0, backend="numpy")
    >>> bool(model.fit(X, y).score(X_test, y_test) > 0.9)
    True
    """

    _parameter_constraints: dict = {
        **BaseConvEstimator._parameter_constraints,
        **ClassifierTargets._parameter_constraints,
    }

    def __init__(
        self,
        layers=P_CONV,
        *,
        input_shape=None,
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
class ConvEqPropRegressor(RegressorTargets, BaseConvEstimator):
    """Convolutional regressor trained by equilibrium propagation, single- or multi-output.

    Targets are standardised internally (`loss_` is in those units) and predictions scaled back; the
    output layer is linear by default. X is that of `ConvEqPropClassifier`.

    Parameters
    ----------
    cost : {"squared_error"} or SquaredError
        A softmax is for classes.
    """

    _parameter_constraints: dict = {
        **BaseConvEstimator._parameter_constraints,
        "cost": [StrOptions({"squared_error"}), SquaredError],
    }
    _not_of_papers = ("out_activation",)

    def __init__(
        self,
        layers=P_CONV,
        *,
        input_shape=None,
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
