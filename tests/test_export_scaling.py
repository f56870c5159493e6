"""Exports of estimators that scale their inputs: on the device in float32, folded elsewhere."""

import sys
from dataclasses import replace

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer

from eqprop_fast import EqPropClassifier, ResistiveClassifier
from eqprop_fast.datasets import load_digits
from eqprop_fast.export import load_eqp, save_eqp, simulate, to_c
from eqprop_fast.export.model import as_model

from . import embedded_host as host

pytestmark = [
    pytest.mark.skipif(host.CC is None, reason="needs a C compiler"),
    pytest.mark.skipif(
        sys.platform == "win32", reason="the compiler's flags are those of gcc and clang"
    ),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]
KINDS = EqPropClassifier, ResistiveClassifier


@pytest.fixture(scope="module")
def raw():
    """Features that lie up to 1e5 apart, and a network of each kind fitted to them."""
    X, y = load_breast_cancer(return_X_y=True)
    models = {kind: kind((9,), max_iter=4, random_state=0) for kind in KINDS}
    for model in models.values():
        with pytest.warns(UserWarning, match="differ in scale"):
            model.fit(X, y)
    return X, y, models


@pytest.fixture(scope="module")
def devices(raw, tmp_path_factory):
    """Each network as a device for raw features, and as one for features scaled beforehand."""
    _, _, models = raw
    exported, none = {}, np.zeros(0)
    for kind, model in models.items():
        whole = as_model(model, 0.01)
        exported[kind.__name__] = whole, {"learn": True}
        bare = replace(whole, input_center=none, input_scale=none)
        exported[f"{kind.__name__}Bare"] = bare, {"learn": True}
    return host.compile_library(tmp_path_factory.mktemp("scaled"), exported)


@pytest.mark.parametrize("kind", KINDS)
def test_a_device_takes_raw_features(raw, devices, kind):
    X, _, models = raw
    labels = devices[kind.__name__].labels(X.astype(np.float32))
    np.testing.assert_array_equal(labels, models[kind].predict(X))


@pytest.mark.parametrize("kind", KINDS)
def test_it_learns_what_the_scaled_features_teach(raw, devices, kind):
    X, y, models = raw
    device, bare = devices[kind.__name__], devices[f"{kind.__name__}Bare"]
    scaled = models[kind]._to_sources(X).astype(np.float32)
    before = device.parameters()
    for x, s, label in zip(X[:40].astype(np.float32), scaled, y):
        assert device.learn(device.net, device.pointer(x), int(label)) == 0
        assert bare.learn(bare.net, bare.pointer(s), int(label)) == 0
    moved = [np.abs(a - b).max() for a, b in zip(device.parameters(), before)]
    assert max(moved) > 1e-3
    # conductances learn from differences of voltages, which float32 rounds away
    near = max(moved) * (1e-4 if kind is EqPropClassifier else 2e-3)
    for a, b in zip(device.parameters(), bare.parameters()):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=near)


def test_formats_without_a_place_for_it_have_it_in_the_weights(tmp_path):
    X, X_test, y, _ = load_digits()
    model = EqPropClassifier((24,), max_iter=8, random_state=0).fit(X, y)
    expected = model.predict(X_test)
    assert np.mean(simulate(model, "int16").predict(X_test) == expected) > 0.99
    save_eqp(model, tmp_path / "a.eqp")
    loaded = load_eqp(tmp_path / "a.eqp")
    assert not loaded.is_scaled
    device = host.compile_library(tmp_path, {"loaded": (loaded, {})})["loaded"]
    np.testing.assert_array_equal(device.labels(X_test.astype(np.float32)), expected)


def test_learning_with_folded_weights_is_told_of(tmp_path):
    X, _, y, _ = load_digits()
    model = EqPropClassifier((4,), max_iter=1, random_state=0).fit(X[:99], y[:99])
    for export in (
        lambda: simulate(model, "int16", learn=True),
        lambda: to_c(model, tmp_path, "int16", learn=True),
    ):
        with pytest.warns(UserWarning, match="input_scaling='auto'"):
            export()
    model.input_center_[0] = 1e300
    with pytest.raises(ValueError, match="input_center_, input_scale_"):
        to_c(model, tmp_path)
