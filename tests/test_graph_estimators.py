"""ConvEqProp and GraphEqProp estimators: samples of any form, every rule, and all that chains offer."""

import pickle

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import clone

from eqprop_fast import (
    EP,
    Connection,
    Conv,
    ConvEqPropClassifier,
    ConvEqPropRegressor,
    Crop,
    Dense,
    Discrete,
    EqPropClassifier,
    Flip,
    Graph,
    GraphEqPropClassifier,
    GraphEqPropRegressor,
    Layer,
    ReadOut,
    Shift,
)
from eqprop_fast.rules import RULES
from eqprop_fast.training.augment import moved

from .backend_list import BACKENDS
from .build import build
from .graphs import GRAPHS
from .kinds import skip

pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.ConvergenceWarning", "ignore:batch_size"
)
RNG = np.random.default_rng(0)
IMAGES = RNG.random((30, 1, 8, 8)).astype(np.float32)
FLAT = IMAGES.reshape(30, 64)
Y = np.arange(30) % 3
MAPS = [Conv(3, 3, pool="max"), Conv(4, 2, pool="average", bias=False), Dense(5)]
BASE = dict(
    layers=MAPS,
    max_iter=3,
    batch_size=8,
    tol=0,
    n_iter_no_change=np.inf,
    random_state=0,
    backend=BACKENDS[-1],
    n_threads=1,
)
RESIDUAL = Graph(
    [Layer("x", (1, 8, 8)), Layer("a", (3, 8, 8)), Layer("b", (4, 4, 4)), Layer("out")],
    [
        Connection("x", "a", kernel=3, padding=1),
        Connection("a", "b", kernel=3, stride=2, padding=1),
        Connection("x", "b", kernel=1, stride=2),
        Connection("b", "out"),
        Connection("a", "out"),
    ],
)


def conv(kind=ConvEqPropClassifier, **options):
    return build(kind, **{**BASE, **options})


def graph(network=RESIDUAL, kind=GraphEqPropClassifier, **options):
    others = {name: value for name, value in BASE.items() if name != "layers"}
    return build(kind, **{**others, "network": network, **options})


def same(a, b):
    """Bit for bit: parameters, optimiser memory, curves."""
    for mine, other in zip(a._fitted_parameters(), b._fitted_parameters()):
        np.testing.assert_array_equal(mine, other)
    for mine, other in zip(a._state.optimizer_state.velocity, b._state.optimizer_state.velocity):
        np.testing.assert_array_equal(mine, other)
    assert a.loss_curve_ == b.loss_curve_ and a.t_ == b.t_


# ---- samples ----


def test_images_in_every_form_are_the_same_samples():
    maps = conv().fit(IMAGES, Y)
    assert maps.input_shape_ == (1, 8, 8) and maps.n_features_in_ == 64
    plain, flat = conv().fit(IMAGES[:, 0], Y), conv(input_shape=(8, 8)).fit(FLAT, Y)
    rows = conv(input_shape=(1, 8, 8)).fit(sp.csr_array(FLAT), Y)
    listed = conv().fit(IMAGES.tolist(), Y)
    for other in (plain, flat, rows, listed):
        same(maps, other)
    for X in (IMAGES, IMAGES[:, 0], FLAT, sp.csr_array(FLAT)):
        np.testing.assert_array_equal(maps.decision_function(X), flat.decision_function(FLAT))
    rest = maps.equilibrium(IMAGES[:4])
    assert [s.shape for s in rest.states] == [(4, 27), (4, 4), (4, 5), (4, 3)]
    assert maps.predict_proba(IMAGES).shape == (30, 3)


@pytest.mark.parametrize(
    "options, X, message",
    [
        ({}, FLAT, "X is flat, with 64 features, and layer 'conv 1' needs maps"),
        ({}, FLAT, r"channels \* height \* width = 64, such as \(1, 8, 8\)"),
        (dict(input_shape=(1, 8, 9)), FLAT, r"1 \* 8 \* 9 = 72 numbers a sample, X has 64"),
        (dict(input_shape=(1, 4, 16)), IMAGES, r"X has 1 \* 8 \* 8 = 64"),
        (dict(input_shape=(8,)), FLAT, "8 = 8 numbers a sample, X has 64"),
        (dict(input_shape=(1, 2, 4, 8)), FLAT, "input_shape must be"),
        (dict(input_shape=(8, 8.5)), FLAT, "input_shape must be"),
        (dict(input_shape=8), FLAT, "'input_shape' parameter"),
        (dict(), IMAGES[None], "got 5 dimensions"),
        (dict(), Y, "1D array"),
        (
            dict(layers=[Conv(3, 9)]),
            IMAGES,
            "layer 'conv 1': a kernel of side 9 is larger than its",
        ),
        (
            dict(layers=[Conv(3, 5, pool="max"), Conv(3, 3)]),
            IMAGES,
            "layer 'conv 2': a kernel of side 3 is larger than its input, 2",
        ),
        (
            dict(layers=[Conv(3, 4, pool="max")]),
            IMAGES,
            "layer 'conv 1': 8 - 4 . 1 = 5 cannot be pooled by 2, which leaves 1 over",
        ),
        (dict(layers=[Conv(3, 3, pool="min")]), IMAGES, "layer 'conv 1': The 'pool' parameter"),
        (dict(layers=[Dense(3), Conv(3, 3)]), IMAGES, "layer 'conv 2': a convolution needs a map"),
        (dict(layers=[Dense(0)]), IMAGES, "layer 'dense 1': The 'units'"),
        (dict(layers=[ReadOut(), Dense(3)]), IMAGES, "at the end perhaps ReadOut"),
        (dict(layers=[32]), IMAGES, "layers must be Conv or Dense"),
        (dict(layers=3), IMAGES, "layers"),
        (dict(layers=[Dense(3)] * 64), IMAGES, "layers: at most 64"),
        (dict(layers=[Dense(3), ReadOut()]), IMAGES, "layer 'output' is a read-out: it nudges"),
        (dict(learning_rate_init=(0.1, 0.2)), IMAGES, r"one per connection \(4\)"),
        (dict(bias_learning_rate_init=(1, 2, 3)), IMAGES, r"one per layer above the input \(4\)"),
        (dict(weight_init__gain=(1, 2)), IMAGES, r"weight_init__gain must be .* connection \(4\)"),
        (dict(augment="spin"), IMAGES, "augment must be 'shift', 'crop', 'flip', a callable"),
        (dict(augment=[3]), IMAGES, "augment must be"),
        (dict(augment=Flip), IMAGES, "augment must be"),
        (dict(augment=Flip(2)), IMAGES, "'probability'"),
        (dict(augment="flip", layers=[Dense(3)]), FLAT, "64 units in no order"),
        (dict(learning_rule="clamped_sweep"), IMAGES, "sweeps along a chain of dense layers"),
    ],
)
def test_bad_input_is_refused_by_name(options, X, message):
    model = conv(**options)
    y = Y[: len(X)] if np.ndim(X) > 1 else Y
    with pytest.raises(ValueError, match=message):
        model.fit(X, y)
    assert not hasattr(model, "coefs_")


@pytest.mark.parametrize(
    "network, message",
    [
        (None, "network must be a Graph, got None"),
        ("chain", "'network' parameter"),
        (
            Graph([Layer("x", 9), Layer("out")], [Connection("x", "out")]),
            "'x' has 9 units, the samples",
        ),
        (
            Graph([Layer("x", (4, 4, 4)), Layer("out")], [Connection("x", "out")]),
            r"layer 'x' has shape \(4, 4, 4\), the samples of X \(1, 8, 8\)",
        ),
        (
            Graph([Layer("x"), Layer("out", 4)], [Connection("x", "out")]),
            "'out' has 4 units, y .* 3",
        ),
        (
            Graph(
                [Layer("x"), Layer("a"), Layer("out")],
                [Connection("x", "a"), Connection("a", "out")],
            ),
            "layer 'a': shape=None is for the input and the output",
        ),
        (Graph([Layer("x"), Layer("x", 3), Layer("out")], []), "layer 'x': there are two"),
        (
            Graph([Layer("x"), Layer("a", 3), Layer("out")], [Connection("x", "out")]),
            "layer 'a': no",
        ),
    ],
)
def test_a_graph_that_does_not_fit_is_refused_by_name(network, message):
    with pytest.raises(ValueError, match=message):
        graph(network).fit(IMAGES, Y)


def test_a_read_out_is_no_hidden_layer():
    """It takes no sweep, so "auto" plans none for it."""
    with_it, without = (
        conv(layers=[Dense(4), *more], dynamics__nudge_inside=True).fit(IMAGES, Y)
        for more in ([ReadOut()], [])
    )
    assert with_it.relaxation_.n_steps == without.relaxation_.n_steps
    assert with_it.weight_decay_ == without.weight_decay_ > 0


def test_rules_name_the_connection_that_they_cannot_serve():
    with pytest.raises(ValueError, match="connection 'a' -> 'b' needs weights of its own"):
        graph(learning_rule="vector_field").fit(IMAGES, Y)
    read_out = [Dense(4), ReadOut()]
    with pytest.raises(ValueError, match="layer 'output' is a read-out, whose output is no state"):
        conv(layers=read_out, dynamics__nudge_inside=True, learning_rule="coupled").fit(IMAGES, Y)
    with pytest.raises(ValueError, match="a read-out is W s"):
        conv(layers=read_out, dynamics__nudge_inside=True, out_activation="tanh").fit(IMAGES, Y)


def test_a_fitted_network_refuses_other_samples_and_layers():
    model = conv().fit(IMAGES, Y)
    with pytest.raises(ValueError, match=r"samples of shape \(1, 4, 4\), the fitted network takes"):
        model.predict(IMAGES[:, :, ::2, ::2])
    with pytest.raises(ValueError, match="X has 9 features"):
        model.predict(FLAT[:, :9])
    for change, message in (
        (dict(layers=[Conv(3, 3, pool="max"), Conv(4, 2, pool="average"), Dense(6)]), "layers"),
        (dict(input_shape=(1, 4, 16)), "input_shape"),
        (dict(learning_rule="vector_field"), "layers describes another network"),
        (dict(dtype="float64"), "dtype"),
    ):
        changed = pickle.loads(pickle.dumps(model)).set_params(**change, warm_start=True)
        with pytest.raises(ValueError, match=message):
            changed.fit(IMAGES, Y)
    model.layers[0].channels = 7  # a part within the list
    with pytest.raises(ValueError, match="layers describes another network"):
        model.predict(IMAGES)
    model.layers[0].channels = 3


# ---- a chain is a chain ----


@pytest.mark.parametrize("early_stopping", [False, True])
def test_dense_layers_are_the_layered_classifier_bit_for_bit(early_stopping):
    options = dict(BASE, backend="numpy", early_stopping=early_stopping)
    del options["layers"]
    chain = EqPropClassifier((9, 5), **options).fit(FLAT, Y)
    as_graph = ConvEqPropClassifier([Dense(9), Dense(5)], **options).fit(FLAT, Y)
    same(chain, as_graph)
    assert as_graph.learning_rate_init_ == chain.learning_rate_init_
    np.testing.assert_array_equal(chain.decision_function(FLAT), as_graph.decision_function(FLAT))


# ---- rules, dynamics, read-outs ----


@pytest.mark.parametrize(
    "rule, backend",
    [(word, backend) for word in RULES for backend in BACKENDS if word != "clamped_sweep"],
)
def test_every_rule_learns(rule, backend):
    layers = [Conv(4, 3, pool="average"), Dense(6)]
    X, y = FLAT.reshape(-1, 8, 8) + Y[:, None, None], Y
    model = conv(layers=layers, learning_rule=rule, max_iter=30, backend=backend).fit(X, y)
    assert model.loss_curve_[-1] < 0.8 * model.loss_curve_[0]
    angles = "vector_field" in rule
    assert hasattr(model, "feedback_coefs_") == angles
    if angles:
        assert model.feedback_coefs_[0] is None and model.feedback_coefs_[1].shape == (6, 36)
        assert len(model.feedback_angle_curve_[-1]) == 2


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("cost", ["cross_entropy", "squared_error"])
def test_a_read_out_learns(cost, backend):
    layers = [Conv(4, 3, pool="average"), Dense(8), ReadOut()]
    model = conv(layers=layers, dynamics=Discrete(nudge_inside=True), cost=cost, backend=backend)
    X = FLAT.reshape(-1, 8, 8) + Y[:, None, None]
    model.set_params(max_iter=25).fit(X, Y)
    assert model.loss_curve_[-1] < 0.7 * model.loss_curve_[0]
    assert model.out_activation_ == ("softmax" if cost == "cross_entropy" else "identity")
    np.testing.assert_allclose(model.predict_proba(X).sum(axis=1), 1)
    assert (model.predict(X) == model.classes_[model.decision_function(X).argmax(axis=1)]).all()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "options",
    [
        dict(dynamics="continuous", dynamics__dt=0.5),
        dict(relaxation="synchronous"),
        dict(relaxation__over_relaxation=1.3),
        dict(relaxation__start="persistent"),
        dict(relaxation__start="normal"),
        dict(relaxation__start="carry_over"),
        dict(solver="momentum", learning_rate_init=(0.1, 0.05, 0.02, 0.01)),
        dict(bias_learning_rate_init=(0.1, 0.0, 0.1, 0.1), dtype="float64"),
    ],
    ids=str,
)
def test_dynamics_starts_and_rates(options, backend):
    model = conv(**options, backend=backend, max_iter=4).fit(IMAGES, Y)
    assert np.isfinite(model.loss_curve_).all()
    assert not model.intercepts_[1].any()  # bias=False
    again = conv(**options, backend=backend, max_iter=4).fit(IMAGES, Y)
    same(model, again)


def test_where_maxima_are_pooled_states_are_positive():
    assert conv().fit(IMAGES, Y).activation_ == "shifted_sigmoid"
    smooth = conv(layers=[Conv(3, 3, pool="average")]).fit(IMAGES, Y)
    assert smooth.activation_ == "tanh"


def test_over_relaxation_is_for_two_colours():
    """Young's theory is of them: of states in a chain, not of three layers that all meet."""
    chain, triangle = skip(4), GRAPHS["skip"][0]
    assert graph(chain).fit(FLAT, Y).relaxation_.over_relaxation > 1
    assert graph(triangle).fit(FLAT[:, :7], Y).relaxation_.over_relaxation == 1


def test_rates_fall_with_the_depth_of_a_layer():
    model = graph(skip(4), learning_rate_init=1e-3).fit(FLAT, Y)
    first, second, third = model.learning_rate_init_[0], 0.35e-3, 0.35**2 * 1e-3
    np.testing.assert_allclose(model.learning_rate_init_, (1e-3, second, second, third))
    assert first == 1e-3 and model.relaxation_.n_steps == 30


# ---- what every estimator offers ----


def regress(**options):
    return conv(ConvEqPropRegressor, **options)


def test_regression_of_several_outputs():
    target = np.column_stack([FLAT[:, 0], 100 * FLAT.mean(axis=1), -FLAT[:, 9]])
    options = dict(layers=[Conv(8, 3), Dense(16)], max_iter=80)
    model = regress(**options).fit(IMAGES, target)
    assert model.predict(IMAGES).shape == (30, 3)
    assert model.loss_curve_[-1] < 0.5 * model.loss_curve_[0]
    single = (
        graph(skip(8), GraphEqPropRegressor, max_iter=80).set_params(tol=0).fit(FLAT, FLAT[:, 0])
    )
    assert single.predict(FLAT).shape == (30,) and single.score(FLAT, FLAT[:, 0]) > 0.5


def test_two_classes_and_labels():
    two = conv(max_iter=2).fit(IMAGES, Y % 2)
    assert two.decision_function(IMAGES).shape == (30,) and two.n_outputs_ == 1
    labels = np.column_stack([Y == 0, Y != 2]).astype(int)
    assert conv(max_iter=2).fit(IMAGES, labels).predict(IMAGES).shape == (30, 2)
    words = conv(max_iter=2, class_weight="balanced").fit(IMAGES, np.array(["a", "b", "c"])[Y])
    assert set(words.predict(IMAGES)) <= {"a", "b", "c"}


@pytest.mark.parametrize("make", [conv, graph])
def test_a_weight_of_two_is_a_repetition(make):
    options = dict(
        dtype="float64", batch_size=100, shuffle=False, input_scaling=None, weight_decay=0
    )
    weight = np.where(np.arange(30) < 10, 2.0, 1.0)
    twice = np.concatenate([np.arange(10), np.arange(30)])
    weighted = make(**options).fit(IMAGES, Y, sample_weight=weight)
    repeated = make(**options).fit(IMAGES[twice], Y[twice])
    for a, b in zip(weighted._fitted_parameters(), repeated._fitted_parameters()):
        np.testing.assert_allclose(a, b, atol=1e-10)


@pytest.mark.parametrize("backend", BACKENDS)
def test_any_number_of_threads_gives_the_same_bits(backend):
    same(conv(backend=backend).fit(IMAGES, Y), conv(backend=backend, n_threads=3).fit(IMAGES, Y))


def test_partial_fit_is_an_epoch_and_warm_start_goes_on():
    a, b = conv(max_iter=2, learning_rate="constant"), conv(learning_rate="constant")
    a.fit(IMAGES, Y)
    b.partial_fit(IMAGES, Y, classes=[0, 1, 2]).partial_fit(FLAT, Y)
    same(a, b)
    a.set_params(warm_start=True, max_iter=1).fit(IMAGES, Y)
    same(a, b.partial_fit(IMAGES, Y))


MODELS = {
    "conv": lambda **o: conv(solver="adam", **o),
    "augmented": lambda **o: conv(augment=[Shift(1), "flip", Crop(1)], solver="momentum", **o),
    "feedback": lambda **o: conv(learning_rule="vector_field", solver="momentum", **o),
    "carried": lambda **o: conv(relaxation__start="carry_over", augment="shift", **o),
    "persistent": lambda **o: conv(relaxation__start="persistent", augment="shift", **o),
    "normal": lambda **o: conv(relaxation__start="normal", augment="shift", **o),
    "stopping": lambda **o: conv(early_stopping=True, augment="flip", **o),
    "graph": lambda **o: graph(augment="crop", **o),
    "skip": lambda **o: graph(skip(5), **o),
    "one way": lambda **o: graph(
        Graph(
            RESIDUAL.layers,
            [clone(c).set_params(symmetric=c.below == "x") for c in RESIDUAL.connections],
        ),
        learning_rule="vector_field",
        **o,
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_checkpoint_goes_on_bit_for_bit(name, tmp_path):
    make, X = MODELS[name], FLAT if name == "skip" else IMAGES
    whole = make(max_iter=4).fit(X, Y)
    part = make(max_iter=2, checkpoint=tmp_path / "a.npz").fit(X, Y)
    loaded = type(part).load_checkpoint(tmp_path / "a.npz")
    same(part, loaded)
    assert loaded.input_shape_ == part.input_shape_
    loaded.set_params(max_iter=4, backend=BASE["backend"], n_threads=1)
    np.testing.assert_array_equal(part.predict(X), loaded.predict(X))
    same(whole, loaded.resume(X, Y))
    copied = pickle.loads(pickle.dumps(whole))
    np.testing.assert_array_equal(whole.predict_proba(X), copied.predict_proba(X))
    assert clone(whole).get_params().keys() == whole.get_params().keys()


def test_an_epoch_cut_by_a_callback_or_a_chunk_changes_nothing(monkeypatch):
    from eqprop_fast.training import driver

    whole = MODELS["augmented"]().fit(IMAGES, Y)
    monkeypatch.setattr(driver, "FIRST_CHUNK", 1)
    monkeypatch.setattr(driver, "CHUNK_SECONDS", 1e-9)
    same(whole, MODELS["augmented"]().fit(IMAGES, Y))
    stopped = MODELS["augmented"](callbacks=lambda record: record.epoch == 1).fit(IMAGES, Y)
    assert stopped.n_iter_ == 1 and stopped.ended_by_ == "callback"
    same(whole, stopped.set_params(callbacks=None).resume(IMAGES, Y))


def test_a_file_of_another_network_is_refused(tmp_path):
    from eqprop_fast.training.checkpoint import CheckpointError

    path = tmp_path / "a.npz"
    conv().fit(IMAGES, Y).save_checkpoint(path)
    for kind in (ConvEqPropRegressor, GraphEqPropClassifier, EqPropClassifier):
        with pytest.raises(CheckpointError):
            kind.load_checkpoint(path)
    with pytest.raises(ValueError, match="augment cannot be stored in a checkpoint"):
        conv(checkpoint=path, augment=lambda x, rng: x).fit(IMAGES, Y)


# ---- augmentation ----


def test_moved_images_are_those_of_a_padded_array():
    images = RNG.random((6, 2, 5, 7))
    rows, columns = RNG.integers(-3, 4, (2, 6))
    for fill, mode in (("zero", "constant"), ("edge", "edge")):
        padded = np.pad(images, [(0, 0), (0, 0), (3, 3), (3, 3)], mode=mode)
        for image, down, right, result in zip(
            padded, rows, columns, moved(images, rows, columns, fill)
        ):
            cut = image[:, 3 - down : 8 - down, 3 - right : 10 - right]
            np.testing.assert_array_equal(result, cut)


@pytest.mark.parametrize("one", [Shift(2), Shift(2, fill="edge"), Crop(3), Flip(0.5)], ids=repr)
def test_augmentations_are_of_the_generator_alone(one):
    before = IMAGES.copy()
    a, b = (one(IMAGES, np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(a, b)
    assert a.shape == IMAGES.shape and a.dtype == IMAGES.dtype and not (a == IMAGES).all()
    np.testing.assert_array_equal(before, IMAGES)
    other = one(IMAGES, np.random.default_rng(6))
    assert not (a == other).all()


def test_every_mirrored_or_moved_image_comes():
    ramp = np.arange(9.0).reshape(1, 1, 1, 9).repeat(200, 0)
    flipped = Flip(0.25)(ramp, np.random.default_rng(0))
    mirrored = (flipped == ramp[..., ::-1]).all(axis=(1, 2, 3))
    assert 30 < mirrored.sum() < 70 and (flipped[~mirrored] == ramp[~mirrored]).all()
    seen = Shift(1, fill="edge")(ramp, np.random.default_rng(0))[:, 0, 0, 4]
    assert set(seen) == {3.0, 4.0, 5.0}


def test_a_callable_sees_batches_of_images_and_is_reproducible():
    seen = []

    def noise(images, rng):
        seen.append(images.shape)
        return images + rng.normal(0, 0.1, images.shape)

    a = conv(augment=noise).fit(IMAGES, Y)
    assert seen[:4] == [(8, 1, 8, 8)] * 3 + [(6, 1, 8, 8)] and len(seen) == 12
    same(a, conv(augment=[noise]).fit(IMAGES, Y))
    assert a.loss_curve_ != conv().fit(IMAGES, Y).loss_curve_
    assert a.loss_curve_ != conv(augment=noise, random_state=1).fit(IMAGES, Y).loss_curve_
    flat = conv(augment=lambda x, rng: x * 1.0, layers=[Dense(4)]).fit(FLAT, Y)
    same(flat, conv(layers=[Dense(4)]).fit(FLAT, Y))
    for wrong, message in (
        (lambda x, rng: x[:-1], "must return samples of shape"),
        (lambda x, rng: x * np.nan, "not finite"),
    ):
        with pytest.raises(ValueError, match=message):
            conv(augment=wrong).fit(IMAGES, Y)


def test_maps_are_scaled_by_channel():
    X = RNG.normal(size=(50, 2, 4, 4)) * np.array([1.0, 20.0])[:, None, None] + 3
    model = ConvEqPropClassifier([Conv(3, 3)], max_iter=1, backend=BACKENDS[0]).fit(
        X, np.arange(50) % 2
    )
    scale, centre = model.input_scale_.reshape(2, 16), model.input_center_.reshape(2, 16)
    assert (scale == scale[:, :1]).all() and (centre == centre[:, :1]).all()
    assert 0.5 < scale[0, 0] < 1.5 and 10 < scale[1, 0] < 30
    np.testing.assert_allclose(centre[0, 0], np.median(X[:, 0]), atol=1e-6)


def test_nudging_and_rule_objects_reach_the_kernels():
    one = conv(learning_rule=EP(beta=0.2, nudging="positive", n_steps=4, tol=None)).fit(IMAGES, Y)
    assert one.learning_rule_ == EP(beta=0.2, nudging="positive", n_steps=4, tol=None)
    assert one.set_params(learning_rule__beta=0.3).learning_rule.beta == 0.3
