"""Each preset carries exactly the paper's numbers, layers and conventions."""

import math

import numpy as np
import pytest
from sklearn.base import clone

from eqprop_fast import (
    Continuous,
    ConvEqPropClassifier,
    Crop,
    Discrete,
    EqPropClassifier,
    FanInUniform,
    Flip,
    GraphEqPropClassifier,
    list_conv_presets,
    list_graph_presets,
    list_presets,
)
from eqprop_fast.costs import COSTS
from eqprop_fast.datasets import load_digits
from eqprop_fast.presets import ALL_PRESETS, preset
from eqprop_fast.presets.paper_2509_26003 import resnet

from .backend_list import BACKENDS

# name: layers, T, K, beta, dt, epochs, rates as the paper lists them, listed output -> input?
PAPERS = {
    "1602.05179/net1": ((784, 500, 10), 20, 4, 0.5, 0.5, 25, [0.1, 0.05], False),
    "1602.05179/net2": ((784, 500, 500, 10), 150, 6, 1.0, 0.5, 60, [0.4, 0.1, 0.01], False),
    "1602.05179/net3": (
        (784, 500, 500, 500, 10),
        500,
        8,
        1.0,
        0.5,
        500,
        [0.128, 0.032, 0.008, 0.002],
        False,
    ),
    "1602.05179/speed_net1": ((784, 500, 10), 1, 1, 1.0, 1.0, 30, [0.1, 0.05], False),
    "1602.05179/speed_net2": ((784, 500, 500, 10), 60, 1, 1.0, 1.0, 50, [0.4, 0.1, 0.008], False),
    "1602.05179/speed_net3": (
        (784, 500, 500, 500, 10),
        400,
        1,
        1.0,
        1.0,
        150,
        [0.4, 0.1, 0.015, 0.002],
        False,
    ),
    "1905.13633/EB-1h": ((784, 512, 10), 100, 12, 0.5, 0.2, 30, [0.05, 0.1], True),
    "1905.13633/EB-2h": ((784, 512, 512, 10), 400, 40, 0.5, 0.2, 50, [0.01, 0.1, 0.4], True),
    "1905.13633/P-1h": ((784, 512, 10), 40, 15, 0.1, 1.0, 30, [0.04, 0.08], True),
    "1905.13633/P-2h": ((784, 512, 512, 10), 100, 20, 0.5, 1.0, 50, [0.005, 0.05, 0.2], True),
    "1905.13633/P-3h": (
        (784, 512, 512, 512, 10),
        180,
        20,
        0.5,
        1.0,
        100,
        [0.002, 0.01, 0.05, 0.2],
        True,
    ),
    "2005.04168/EP-1h": ((784, 512, 10), 30, 10, 0.1, 1.0, 30, [0.04, 0.08], True),
    "2005.04168/EP-2h": ((784, 512, 512, 10), 100, 20, 0.5, 1.0, 50, [0.005, 0.05, 0.2], True),
    "2005.04168/C-EP-1h": ((784, 512, 10), 40, 15, 0.2, 1.0, 100, [0.0028, 0.0056], True),
    "2005.04168/C-EP-2h": (
        (784, 512, 512, 10),
        100,
        20,
        0.5,
        1.0,
        150,
        [0.00018, 0.0018, 0.01],
        True,
    ),
    "2005.04168/C-VF-1h": ((784, 512, 10), 40, 15, 0.2, 1.0, 100, [0.0038, 0.0076], True),
    "2005.04168/C-VF-2h": (
        (784, 512, 512, 10),
        100,
        20,
        0.35,
        1.0,
        150,
        [0.00016, 0.0016, 0.009],
        True,
    ),
    "2006.03824/MLP": ((784, 512, 10), 30, 10, 0.1, 1.0, 2, [5e-4, 5e-4], False),
    "2205.15021/1h": ((784, 2048, 10), 100, 100, 0.25, 1.0, 200, [0.05, 0.025], False),
    "smonsays/hopfield": ((784, 1000, 10), 50, 50, 1.0, 0.1, 100, [1e-3, 1e-3], False),
    "2402.11674/DHN-1H": ((784, 1024, 10), 15, 15, 0.2, 1.0, 100, [0.05, 0.05], False),
    "2402.11674/DHN-2H": ((784, 1024, 1024, 10), 50, 20, 0.2, 1.0, 100, [0.2, 0.05, 0.01], False),
    "2402.11674/DHN-3H": (
        (784, 1024, 1024, 1024, 10),
        100,
        10,
        0.2,
        1.0,
        100,
        [0.2, 0.05, 0.01, 0.002],
        False,
    ),
}


def factor(est):
    """Of the cost, which is an object or a word."""
    return (COSTS[est.cost]() if isinstance(est.cost, str) else est.cost).factor


def test_every_row_is_listed():
    assert set(list_presets()) == set(PAPERS)


@pytest.mark.parametrize("name", PAPERS)
def test_numbers(name):
    layers, T, K, beta, dt, epochs, rates, output_first = PAPERS[name]
    row, est = preset(name), EqPropClassifier.from_paper(name)
    assert row.layers == layers and (784, *est.hidden_layer_sizes, 10) == layers
    free, rule = est.relaxation, est.learning_rule
    assert (free.n_steps, rule.n_steps, est.dynamics.dt, est.max_iter) == (T, K, dt, epochs)
    assert (
        getattr(rule, "beta", 1.0) == beta
    )  # clamped sweeps hold the output: a beta plays no part
    assert list(est.learning_rate_init) == (rates[::-1] if output_first else rates)
    assert free.tol == rule.tol == (1e-5 if name.startswith("2205") else None)
    assert est.solver == ("adam" if name.startswith(("2006.03824", "smonsays")) else "sgd")
    assert est.n_iter_no_change == math.inf and est.weight_decay == 0


@pytest.mark.parametrize("name", [n for n in PAPERS if n.startswith("1602.05179")])
def test_first_ep_conventions(name):
    est = EqPropClassifier.from_paper(name)
    sweeps = "speed" in name
    assert factor(est) == (1 if sweeps else 2) and est.relaxation.start == "persistent"
    assert getattr(est.learning_rule, "nudging", None) == (None if sweeps else "random_sign")
    assert est.learning_rule.word == ("clamped_sweep" if sweeps else "ep")
    assert (
        not est.shuffle and est.weight_init == "glorot_uniform" and est.activation == "hard_sigmoid"
    )
    assert est.dynamics == (
        Discrete()
        if sweeps
        else Continuous(dt=0.5, clamp=True, prime_hidden=True, prime_output=True)
    )
    assert est.batch_size == 20
    assert preset(name).n_train == 50_000


@pytest.mark.parametrize("name", [n for n in PAPERS if n[:4] in ("1905", "2005")])
def test_backprop_match_conventions(name):
    est = EqPropClassifier.from_paper(name)
    assert factor(est) == 1 and est.relaxation.start == "zero" and est.shuffle
    assert (
        est.activation == est.out_activation == "shifted_sigmoid"
        and est.weight_init == "fan_in_uniform"
    )
    assert est.relaxation.schedule == "synchronous" and est.batch_size == 20
    energy_based = "/EB-" in name
    assert est.dynamics.word == ("continuous" if energy_based else "discrete")
    assert energy_based or not est.dynamics.nudge_inside
    assert est.dynamics.input_activation == ("shifted_sigmoid" if energy_based else "identity")
    assert est.learning_rule.nudging == ("random_sign" if "/C-VF" in name else "positive")
    if "/C-VF" in name:
        assert est.bias_learning_rate_init == (0.0, *est.learning_rate_init[1:])
    else:
        assert est.bias_learning_rate_init is None
    assert est.learning_rule.word == (
        "continual_vector_field" if "/C-VF" in name else "continual" if "/C-EP" in name else "ep"
    )


@pytest.mark.parametrize("name", [n for n in PAPERS if n.startswith("2402")])
def test_hopfield_conventions(name):
    est = EqPropClassifier.from_paper(name)
    assert est.relaxation.schedule == "asynchronous" and est.learning_rule.nudging == "centered"
    assert est.batch_size == 16
    assert est.activation == "hard_sigmoid" and est.out_activation == "identity"
    assert est.learning_rate.word == "exponential" and est.learning_rate.decay == 0.99
    assert est.weight_init.gain == 0.7
    assert preset(name).test_error == {"1H": 1.79, "2H": 1.65, "3H": 1.65}[name[-2:]]


def test_reference_nets_of_other_repositories():
    est = EqPropClassifier.from_paper("2205.15021/1h")
    assert est.out_activation == "wide_hard_sigmoid" and est.weight_init.gain == (0.4, 0.6)
    assert est.bias_learning_rate_init == (0.01, 0.005) and est.relaxation.start == "carry_over"
    assert est.batch_size == 32
    est = EqPropClassifier.from_paper("smonsays/hopfield")
    assert est.relaxation.start == "normal"
    assert not est.dynamics.clamp and est.dynamics.prime_hidden and est.dynamics.prime_output


def test_overrides_and_unknown_names():
    est = EqPropClassifier.from_paper("1905.13633/P-1h", max_iter=2, backend="numpy")
    assert est.max_iter == 2 and est.backend == "numpy" and est.relaxation.n_steps == 40
    assert EqPropClassifier.from_paper("1905.13633/P-1h").max_iter == 30, (
        "overrides must not reach the table"
    )
    with pytest.raises(ValueError, match="unknown preset.*P-1h"):
        EqPropClassifier.from_paper("1905.13633/P-9h")
    with pytest.raises(TypeError):
        EqPropClassifier.from_paper("1905.13633/P-1h", no_such_parameter=1)


def test_parts_of_a_preset_can_be_changed_alone():
    est = EqPropClassifier.from_paper(
        "1905.13633/P-1h", learning_rule__beta=0.3, relaxation="asynchronous"
    )
    assert est.learning_rule.beta == 0.3 and est.learning_rule.n_steps == 15
    assert est.relaxation == "asynchronous"
    again = EqPropClassifier.from_paper("1905.13633/P-1h")
    assert again.learning_rule.beta == 0.1, "a part of the table must not be shared"
    with pytest.raises(ValueError, match="tol"):
        EqPropClassifier.from_paper("2005.04168/C-EP-1h", learning_rule__tol=1e-3)


@pytest.mark.parametrize("name", PAPERS)
def test_every_preset_runs(name):
    # the experiment in small: narrow layers, few steps, one epoch over a few digits
    x, _, y, _ = load_digits()
    layers = PAPERS[name][0]
    est = EqPropClassifier.from_paper(
        name,
        hidden_layer_sizes=(7,) * (len(layers) - 2),
        max_iter=1,
        relaxation__n_steps=min(5, PAPERS[name][1]),
        learning_rule__n_steps=min(6, PAPERS[name][2]),
        backend=BACKENDS[0],
        random_state=0,
    )
    est.fit(x[:90], y[:90])
    frozen = dict(learning_rate_init=1e-30, bias_learning_rate_init=None)
    start = EqPropClassifier(**{**est.get_params(deep=False), **frozen})
    start.fit(x[:90], y[:90])
    assert est.predict(x[:5]).shape == (5,)
    for a, b in zip(est.coefs_, start.coefs_):
        assert (a != b).any(), "every layer of weights has moved"


# ---- convolutional networks and other graphs ----

# name: layers, T, K, beta, epochs, batch, rates and gains from input to output, weight decay, momentum
CONVOLUTIONAL = {
    "1905.13633/P-conv": (
        ("1x28x28", "32x12x12", "64x4x4", "10"),
        (200, 10, 0.4, 40, 20),
        [0.15, 0.035, 0.015],
        1.0,
        0,
        "sgd",
    ),
    "2006.03824/cnn-mnist": (
        ("1x28x28", "32x12x12", "64x4x4", "10"),
        (200, 10, 0.4, 1, 100),
        [5e-5, 1e-5, 8e-6],
        1.0,
        0,
        "adam",
    ),
    "2006.03824/cifar10": (
        ("3x32x32", "128x16x16", "256x8x8", "512x4x4", "512x1x1", "10"),
        (250, 30, 0.5, 100, 128),
        [0.25, 0.15, 0.1, 0.08, 0.05],
        1.0,
        3e-4,
        "momentum",
    ),
    "2312.15103/dchn": (
        ("3x32x32", "128x16x16", "256x8x8", "512x4x4", "512x2x2", "10"),
        (60, 20, 0.1, 100, 128),
        [0.03] * 5,
        (0.4, 0.7, 0.6, 0.3, 0.4),
        2.5e-4,
        "momentum",
    ),
    "2312.15103/dchn-fashion": (
        ("1x32x32", "128x16x16", "256x8x8", "512x4x4", "512x2x2", "10"),
        (60, 15, 0.25, 100, 128),
        [0.0625, 0.0375, 0.025, 0.02, 0.0125],
        (0.5,) * 5,
        3e-4,
        "momentum",
    ),
    "2312.15103/conv-28": (
        ("1x28x28", "32x12x12", "64x4x4", "10"),
        (60, 15, 0.25, 100, 128),
        [0.0625, 0.0375, 0.025],
        (0.6, 0.6, 1.5),
        3e-4,
        "momentum",
    ),
    "2509.26003/hopfield-resnet13": (
        (
            *("3x32x32", "128x32x32", "128x16x16", "256x16x16", "256x8x8"),
            *("512x8x8", "512x4x4", "512x4x4", "512x2x2", "10"),
        ),
        (120, 50, 0.1, 300, 128),
        [0.03] * 13,
        (0.6, 0.6, 0.7) * 4 + (0.8,),
        2.5e-4,
        "nesterov",
    ),
}


def from_paper(name, **more):
    kind = ConvEqPropClassifier if name in list_conv_presets() else GraphEqPropClassifier
    return kind.from_paper(name, **more)


def test_every_convolutional_row_is_listed():
    assert {*list_conv_presets(), *list_graph_presets()} == set(CONVOLUTIONAL)
    with pytest.raises(ValueError, match="unknown preset.*P-conv"):
        ConvEqPropClassifier.from_paper("1905.13633/P-1h")


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_numbers_of_convolutional_networks(name):
    layers, (T, K, beta, epochs, batch), rates, gain, decay, solver = CONVOLUTIONAL[name]
    row, est = ALL_PRESETS[name], from_paper(name)
    rule, init = est.learning_rule, est._part("weight_init")
    assert row.layers == layers and list(est.learning_rate_init) == rates
    assert (est.relaxation.n_steps, rule.n_steps, rule.beta) == (T, K, beta)
    assert (est.max_iter, est.batch_size) == (epochs, batch)
    assert (est.weight_decay, est.solver, est.momentum) == (decay, solver, 0.9)
    assert est.relaxation.tol is rule.tol is est.input_scaling is None
    assert init == FanInUniform() if gain == 1.0 else init == FanInUniform(gain, bias_gain=0.5)
    old = name.startswith(("1905", "2006"))
    assert est.relaxation.schedule == ("synchronous" if old else "asynchronous")
    assert est.relaxation.start == ("zero" if old else "carry_over")
    assert rule.nudging == ("positive" if "P-conv" in name else "centered")
    assert est.dynamics == Discrete(nudge_inside="P-conv" not in name)
    assert est.out_activation == (est.activation if old else "identity")
    hidden = {"2006.03824/cifar10": "half_hard_sigmoid", "2509.26003/hopfield-resnet13": "relu6"}
    assert est.activation == hidden.get(name, "hard_sigmoid")
    assert row.data == ("cifar10" if layers[0] == "3x32x32" else row.data)


def test_rates_of_cifar_fall_along_a_cosine_and_images_are_changed():
    for name, floor in (("2006.03824/cifar10", 1e-5), ("2312.15103/dchn", 2e-6)):
        est = from_paper(name)
        assert est.learning_rate_init[0] * est.learning_rate.min_factor == pytest.approx(floor)
        assert est.augment == [Flip(0.5), Crop(4, fill="edge")]
    assert from_paper("2312.15103/dchn-fashion").augment == [Crop(2, fill="edge"), Flip(0.5)]
    assert from_paper("1905.13633/P-conv").augment is None


def small(name):
    """The same with few channels, and few steps."""
    est = from_paper(name, backend="numpy", random_state=0, max_iter=1, batch_size=4)
    if name == "2509.26003/hopfield-resnet13":
        est.set_params(network=resnet((2, 3, 4, 4)))
    else:
        est.set_params(layers=[clone(layer).set_params(channels=4) for layer in est.layers])
    return est.set_params(relaxation__n_steps=6, learning_rule__n_steps=4)


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_every_convolutional_preset_runs(name):
    est, sides = small(name), CONVOLUTIONAL[name][0][0].split("x")
    x = np.random.default_rng(0).random((10, *map(int, sides)), dtype=np.float32)
    est.fit(x, np.arange(10))
    still = clone(est).set_params(learning_rate_init=1e-30).fit(x, np.arange(10))
    assert est.predict(x.reshape(10, -1)[:5]).shape == (5,)
    moved = [(a != b).any() for a, b in zip(est.coefs_, still.coefs_)]
    assert all(moved[-2:]), "the upper layers of weights have moved"
