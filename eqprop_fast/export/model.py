"""What an export needs of a fitted estimator, as one plain record."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field, replace

import numpy as np

from ..kernels import LayeredSpec, ResistiveSpec, get_backend
from ..kernels.graph_spec import GraphSpec
from ..kernels.spec import MAX_WEIGHTS, UNIT_RANGE

MAX_UNITS = 65535  # a layer's size has 16 bits on the device and in a file
MAX_WINDOW = 15  # the place of a maximum has 8 bits
MAX_SIDE = 255  # as have a kernel, a stride and a padding in a file
_KINDS = "Classifier", "Regressor"
PROBAS = ("softmax", "clip", "one", "binary", "share", "none", "logistic", "binary_logistic")


@dataclass
class NetModel:
    """A layered network with all that a device must know of it.

    Attributes
    ----------
    spec : LayeredSpec, GraphSpec or ResistiveSpec
        Of the free phase: its schedule and its step ``dt`` (over-relaxation included). A graph is a
        chain: connection k joins layers k and k + 1.
    weights, biases : lists of float32 ndarray
        Or conductances and bias currents; of maps kernels, and biases one a channel.
    n_free_steps : int
    tol_free : float
        Below 0: always all steps.
    kind : {"exclusive", "multilabel", "regressor"}
    classes : list of int or str
    proba : one of PROBAS
        How `predict_proba` reads the outputs.
    sharpness : float
        What the outputs are multiplied by in a softmax or a logistic function.
    mean, scale : float64 ndarray, shape (outputs,)
        Of a regressor's targets; else empty.
    learn : LearnPlan or None
        None: the rule that trained it needs more than one sample's two equilibria.
    refused : str
        Why `learn` is None.
    input_center, input_scale : float64 ndarray, shape (inputs,)
        The input units take ``(x - input_center) / input_scale``; both empty: they take x.
    source_limit : float
        And hold there what is larger, the sources of resistive networks.
    """

    spec: LayeredSpec
    weights: list
    biases: list
    n_free_steps: int
    tol_free: float
    kind: str
    classes: list
    proba: str
    mean: np.ndarray = field(default_factory=lambda: np.zeros(0))
    scale: np.ndarray = field(default_factory=lambda: np.zeros(0))
    learn: LearnPlan | None = None
    refused: str = ""
    sharpness: float = 1.0
    input_center: np.ndarray = field(default_factory=lambda: np.zeros(0))
    input_scale: np.ndarray = field(default_factory=lambda: np.zeros(0))
    source_limit: float = np.inf

    @property
    def is_scaled(self):
        return self.input_scale.size > 0

    def folded(self, learn=False):
        """The same network for inputs as they are: their scaling goes into the first layer.

        For formats without a place for it; those serve no resistive networks, which stay as they are.
        """
        if not self.is_scaled or self.is_resistive:
            return self
        if self.input_activation != "identity":
            raise ValueError(
                "input_scaling='auto': only networks whose inputs act as they are take it into their "
                "weights; fit with input_scaling=None"
            )
        if learn:
            warnings.warn(
                "input_scaling='auto': the scaling lies in the weights of the first layer here, so "
                "features of a large scale learn faster than in Python; fit with input_scaling=None, "
                "or export to float32, which scales on the device",
                stacklevel=3,
            )
        first, shift, scaling = self._folded_first()
        weights = [first.astype(np.float32), *self.weights[1:]]
        biases = [(self.biases[0] - shift).astype(np.float32), *self.biases[1:]]
        check_finite(weights, biases)
        return replace(self, weights=weights, biases=biases, **scaling)

    def _folded_first(self):
        """Weights of the first layer for unscaled inputs, what its biases lose, the scaling left.

        Where maps are padded, or units share a bias, that is the centre.
        """
        link, first, none = self.links[0], self.weights[0], np.zeros(0)
        if link is None:
            first = first / self.input_scale[:, np.newaxis]
            if self.biases[0].size == first.shape[1]:
                return first, self.input_center @ first, _scaling(none, none)
        else:
            shape = self.spec.layers[0].shape[0], -1
            scale, centre = self.input_scale.reshape(shape), self.input_center.reshape(shape)
            if (scale != scale[:, :1]).any() or (centre != centre[:, :1]).any():
                raise ValueError("input_scale_: one a channel has a place in these weights")
            first = first / scale[:, :1, np.newaxis]
            if link.padding == 0:
                return first, first.sum(axis=(2, 3)) @ centre[:, 0], _scaling(none, none)
        return first, 0.0, _scaling(self.input_center, np.ones_like(self.input_scale))

    @property
    def is_resistive(self):
        return isinstance(self.spec, ResistiveSpec)

    @property
    def is_graph(self):
        return isinstance(self.spec, GraphSpec)

    @property
    def links(self):
        """The `ConnectionSpec` that leads to each layer, None where it is no convolution."""
        if not self.is_graph:
            return [None] * len(self.weights)
        return [link if link.kernel else None for link in self.spec.connections]

    @property
    def has_maps(self):
        """Whether some biases serve several units."""
        return self.is_graph and any(len(layer.shape) > 1 for layer in self.spec.layers[1:])

    @property
    def reads_out(self):
        """Whether the last layer is no state."""
        return self.is_graph and self.spec.readout

    @property
    def activations(self):
        """Name of each layer's activation, the input not counted; none of resistive networks."""
        if self.is_resistive:
            return []
        if self.is_graph:
            return [layer.activation for layer in self.spec.layers[1:]]
        return [self.spec.activation] * (len(self.weights) - 1) + [self.spec.out_activation]

    @property
    def input_activation(self):
        return "identity" if self.is_resistive else self.spec.input_activation

    @property
    def layer_sizes(self):
        """Features, then units of each layer."""
        if self.is_graph:
            return self.spec.sizes
        return (self.spec.sizes[0], *(b.size for b in self.biases))

    @property
    def n_outputs(self):
        return self.spec.sizes[-1]

    def steps(self, learn):
        """Step of the free and of the nudged phase."""
        free = 1.0 if self.is_resistive else self.spec.dt
        return free, self.learn.step if learn else free

    def predict(self, X, backend="auto"):
        """Classes, label sets or values of dense rows, without scikit-learn.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        backend : {"auto", "c", "numba", "numpy"}

        Returns
        -------
        ndarray, as the estimator's `predict`

        Raises
        ------
        ValueError
            Wrong shape; NaN, infinite.
        """
        from .answers import predict

        return predict(self, X, backend)

    def predict_proba(self, X, backend="auto"):
        """Class probabilities of dense rows; parameters as of `predict`.

        Returns
        -------
        ndarray of float64, shape (n_samples, n_classes)
        """
        from .answers import predict_proba

        return predict_proba(self, X, backend)

    @property
    def n_weights(self):
        return sum(w.size for w in self.weights)

    @property
    def n_units(self):
        return sum(self.layer_sizes[1:])

    @property
    def n_biases(self):
        return sum(b.size for b in self.biases)


@dataclass(frozen=True)
class LearnPlan:
    """How a device goes on learning: EP at batch size 1 by plain gradient steps.

    `step` is the nudged phase's ``dt``; `rates` has one entry per layer.
    """

    beta: float
    nudging: str
    n_steps: int
    tol: float
    step: float
    rates: tuple


def as_model(source, learning_rate=None):
    """The `NetModel` of a fitted estimator; a `NetModel` is returned as it is.

    Parameters
    ----------
    source : fitted layered, convolutional, graph or resistive estimator, or NetModel
    learning_rate : float, sequence of float (one per layer) or None
        Of the device. None: ``learning_rate_init`` of a model fitted by plain "sgd", else 0.01
        (resistive: it must be given then).

    Raises
    ------
    TypeError, ValueError, sklearn.exceptions.NotFittedError
        Not such an estimator; dynamics, weights or sizes that no export serves; not fitted.
    """
    if isinstance(source, NetModel):
        return source if learning_rate is None else _with_rates(source, learning_rate)
    from sklearn.utils.validation import check_is_fitted  # here: who reads a file needs none of it

    from .. import estimators

    readers = {"EqProp": _layered, "ConvEqProp": _graph, "GraphEqProp": _graph}
    readers["Resistive"] = _resistive
    kinds = {name: tuple(getattr(estimators, name + kind) for kind in _KINDS) for name in readers}
    read = next((readers[name] for name in readers if isinstance(source, kinds[name])), None)
    if read is None:
        served = ", ".join(f"{name}Classifier" for name in readers)
        raise TypeError(
            f"model: only {served} and their regressors are exported, not {type(source).__name__}"
        )
    check_is_fitted(source)
    network = source._fitted_network(get_backend("numpy"))
    plan = source._plan(1, *source._rates(network.spec.n_weights))
    with np.errstate(over="ignore"):  # found out below
        weights = [np.asarray(w, np.float32) for w in network.weights]
        biases = [np.asarray(b, np.float32) for b in network.biases]
    check_finite(weights, biases)
    spec, learn, refused, targets = read(source, network, plan)
    steps = plan.n_free_steps, plan.tol_free
    scaling = {}
    if hasattr(source, "input_scale_"):
        scaling = dict(input_center=source.input_center_, input_scale=source.input_scale_)
        with np.errstate(over="ignore", divide="ignore"):
            held = np.float32([source.input_center_, 1 / source.input_scale_])
        if not np.isfinite(held).all():
            raise ValueError("input_center_, input_scale_: not finite in float32")
    model = NetModel(
        *(spec, weights, biases, *steps),
        **targets,
        learn=learn,
        refused=refused,
        **scaling,
        source_limit=source._source_limit,
    )
    if max(model.layer_sizes) > MAX_UNITS // (2 if model.is_resistive else 1):
        word = "layers" if model.is_graph else "hidden_layer_sizes"
        raise ValueError(f"{word}: a layer of more than {MAX_UNITS} units is not exported")
    return model if learning_rate is None or learn is None else _with_rates(model, learning_rate)


def _scaling(centre, scale):
    return {"input_center": centre, "input_scale": scale}


def check_finite(weights, biases):
    """Refuse weights that float32 cannot hold."""
    for name, arrays in (("coefs_", weights), ("intercepts_", biases)):
        if not all(np.isfinite(a).all() for a in arrays):
            raise ValueError(f"{name}: not finite in float32")


def _layered(source, network, plan):
    """Spec of the free phase, plan of the device or why there is none, meaning of the outputs."""
    _check_network(network.spec, network.back)
    learn, refused = _learn_plan(network.spec, plan, source)
    return network.free_spec, learn, refused, _targets(source, _proba)


def _graph(source, network, plan):
    """As `_layered`."""
    names, spec, free = network.names, network.spec, network.free_spec
    _check_network(spec, network.back)
    _check_chain(spec, names)
    if spec.readout:  # of which no activation is asked
        last = spec.layers[-1]._replace(activation="identity")
        free = free._replace(layers=(*spec.layers[:-1], last))
    learn, refused = _learn_plan(spec, plan, source)
    bare = [name for name, bias in zip(names[1:], source._skeleton()[1]) if not bias]
    if learn is not None and bare:
        learn = None
        refused = f"bias=False of layer {bare[0]!r}: on a device every layer learns its biases"
    return free, learn, refused, _targets(source, _proba)


def _check_chain(spec, names):
    """Refuse graphs that are no chain of layers, and what a chain of maps cannot have."""
    for k, link in enumerate(spec.connections):
        if (link.below, link.above) != (k, k + 1):
            raise ValueError(
                f"network: connection {names[link.below]!r} -> {names[link.above]!r}: only chains are "
                "exported, in which each layer is joined with the next one, once"
            )
        most = {"kernel": MAX_SIDE, "stride": MAX_SIDE, "padding": MAX_SIDE, "window": MAX_WINDOW}
        for key, largest in most.items():
            if getattr(link, key) > largest:
                word = "pool_size" if key == "window" else key
                raise ValueError(
                    f"{word}={getattr(link, key)} of layer {names[k + 1]!r}: at most {largest} is exported"
                )
    n = len(spec.connections)
    if n > MAX_WEIGHTS:
        raise ValueError(f"layers: at most {MAX_WEIGHTS} are exported, got {n}")
    if spec.readout and (n < 2 or spec.connections[-1].kernel):
        raise ValueError(
            f"layer {names[-1]!r}: a read-out is exported where it reads all units of a layer below it"
        )


def _resistive(source, network, plan):
    network.check_floating()
    plain = plan.optimizer == "sgd" and tuple(plan.bias_rate) == tuple(plan.rate)
    nudging = "centered" if plan.centered else "positive"
    rates = tuple(plan.rate) if plain else ()
    learn = LearnPlan(plan.beta, nudging, plan.n_nudged_steps, plan.tol_nudged, 1.0, rates)
    targets = _targets(source, _resistive_proba)
    if targets["kind"] != "regressor":
        targets["sharpness"] = 1.0 / source._output_variance(network.spec.sizes[-1])
    return network.spec, learn, "", targets


def _check_network(spec, back):
    if spec.dynamics != "discrete":
        raise ValueError(f"dynamics={spec.dynamics!r}: only the discrete dynamics are exported")
    if back is not None:
        raise ValueError(
            "learning_rule: networks with feedback weights of their own are not exported"
        )


def _learn_plan(spec, plan, source):
    """The device's plan, or None and why there is none."""
    if plan.rule != "ep":
        return None, f"learning_rule={plan.rule!r}: only 'ep' learns on a device"
    rates = plan.rate if plan.optimizer == "sgd" else (0.01,) * spec.n_weights
    if plan.optimizer == "sgd" and (plan.weight_decay or tuple(plan.bias_rate) != tuple(plan.rate)):
        rates = ()  # a device has neither: the user must say what it shall do instead
    nudging = "centered" if plan.centered else source._rule.nudging
    return LearnPlan(
        plan.beta, nudging, plan.n_nudged_steps, plan.tol_nudged, spec.dt, tuple(rates)
    ), ""


def check_learn(model):
    """The plan of a model that shall learn on a device.

    Raises
    ------
    ValueError
        It cannot, and why.
    """
    if model.learn is None:
        raise ValueError(f"learn=True: {model.refused}")
    if not model.learn.rates:
        raise ValueError(
            "learning_rate: must be given. A device has no weight_decay and no momentum, and "
            "biases learn at the rate of the weights that feed their layer"
        )
    if max(model.learn.rates) > 100:
        raise ValueError("learning_rate: on a device rates are at most 100")
    if not model.is_resistive and not 0.01 <= abs(model.learn.beta) <= 100:
        raise ValueError("beta: on a device it is from 0.01 to 100")
    return model.learn


def _with_rates(model, learning_rate):
    n = len(model.weights)
    try:
        rates = np.asarray(learning_rate, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"learning_rate: {error}") from error
    if rates.shape not in ((), (n,)):
        raise ValueError(f"learning_rate: one number or {n}, one per layer, got {learning_rate!r}")
    if not (np.isfinite(rates).all() and (rates >= 0).all()):
        raise ValueError(f"learning_rate must be finite and >= 0, got {learning_rate!r}")
    if model.learn is None:
        raise ValueError(model.refused)
    return replace(
        model, learn=replace(model.learn, rates=tuple(np.broadcast_to(rates, n).tolist()))
    )


def _targets(source, proba_of):
    """What the outputs mean."""
    from sklearn.base import is_classifier

    if not is_classifier(source):
        return dict(
            kind="regressor", classes=[], proba="none", mean=source._y_mean, scale=source._y_scale
        )
    classes = source.classes_.tolist()
    kind = "exclusive" if source._exclusive_classes() else "multilabel"
    return dict(kind=kind, classes=classes, proba=proba_of(source))


def _proba(source):
    if source.out_activation_ == "softmax":
        return "softmax"
    if not source._exclusive_classes():
        return "clip"
    if len(source.classes_) == 1:
        return "one"
    if source.n_outputs_ == 1:
        return "binary"
    return "share" if source.out_activation_ in UNIT_RANGE else "softmax"


def _resistive_proba(source):
    if not source._exclusive_classes():
        return "logistic"
    if len(source.classes_) == 1:
        return "one"
    return "binary_logistic" if source._binary() else "softmax"


def untrained(
    sizes,
    classes=None,
    *,
    activation="hard_sigmoid",
    beta=0.5,
    n_free_steps=8,
    n_nudged_steps=4,
    learning_rate=0.015,
    random_state=None,
):
    """A classifier that has learnt nothing, to be trained on a device or by `simulate`.

    Asynchronous sweeps from zero, centered nudging from outside, weights U(+-1 / sqrt(inputs)),
    biases 0.

    Parameters
    ----------
    sizes : sequence of int, or Graph
        Units of each layer, input first; one output per class. Or a chain, whose layers have shapes.
    classes : sequence of int or str, or None
        None: 0, 1, ...
    activation : str
        Of all layers.
    beta, n_free_steps, n_nudged_steps, learning_rate
        See `LearnPlan`; one rate or one per layer.
    random_state : int, RandomState instance or None

    Returns
    -------
    NetModel
    """
    from sklearn.utils import check_random_state

    from ..networks.graph import Graph

    rng = check_random_state(random_state)
    if isinstance(sizes, Graph):
        names = [layer.name for layer in sizes.layers]
        spec = sizes.spec(schedule="asynchronous", activation=activation, out_activation=activation)
        _check_chain(spec, names)
        shapes = [link.weight_shape(spec.layers) for link in spec.connections]
        fans = [link.fan_in(spec.layers) for link in spec.connections]
        n_biases, sizes = [layer.n_biases for layer in spec.layers[1:]], spec.sizes
    else:
        sizes = tuple(int(size) for size in sizes)
        spec = LayeredSpec(
            sizes, schedule="asynchronous", activation=activation, out_activation=activation
        )
        shapes, fans, n_biases = list(zip(sizes[:-1], sizes[1:])), sizes[:-1], sizes[1:]
    n = len(sizes) - 1
    if n < 1 or min(sizes) < 1 or sizes[-1] < 2 or n > MAX_WEIGHTS:
        raise ValueError(f"sizes: input, hidden layers and at least 2 outputs, got {sizes}")
    classes = list(range(sizes[-1])) if classes is None else list(classes)
    if len(set(classes)) != len(classes) or len(classes) != sizes[-1]:
        raise ValueError(f"classes: {sizes[-1]} different ones, got {classes}")
    _check_network(spec, None)
    weights = [
        rng.uniform(-1, 1, shape).astype(np.float32) / np.float32(fan**0.5)
        for shape, fan in zip(shapes, fans)
    ]
    biases = [np.zeros(size, np.float32) for size in n_biases]
    plan = LearnPlan(beta, "centered", n_nudged_steps, -1.0, 1.0, (0.0,) * n)
    proba = "share" if activation in UNIT_RANGE else "softmax"
    model = NetModel(
        spec, weights, biases, n_free_steps, -1.0, "exclusive", classes, proba, learn=plan
    )
    return _with_rates(model, learning_rate)
