"""Pickle and checkpoints: a run that was stopped, stored and loaded continues as if it never
stopped.
"""

import json
import os
import pathlib
import pickle
import signal
import subprocess
import sys
import time

import joblib
import numpy as np
import pytest
import scipy.sparse as sp

from eqprop_fast import EqPropClassifier, EqPropRegressor
from eqprop_fast.datasets import load_digits
from eqprop_fast.training.checkpoint import Checkpoint, CheckpointError, write_atomically
from eqprop_fast.training.parameters import LARGEST, MAX_DEPTH, decode, encode

from .backend_list import BACKENDS
from .build import build

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
BASE = dict(
    hidden_layer_sizes=(11,), random_state=3, backend=BACKENDS[0], tol=0.0, n_iter_no_change=np.inf
)
VARIANTS = [
    dict(),
    dict(
        solver="momentum",
        learning_rule__nudging="random_sign",
        relaxation__start="persistent",
        learning_rate_init=(0.05, 0.02),
    ),
    dict(solver="sgd", learning_rate="cosine", dtype="float64", learning_rate_init=0.1),
    dict(
        early_stopping=True,
        class_weight={0: 2.0, 1: 1.0},
        learning_rate="adaptive",
        n_iter_no_change=2,
    ),
]


@pytest.fixture(scope="module")
def data():
    x, _, y, _ = load_digits()
    keep = y < 4
    return x[keep][:200], y[keep][:200]


def assert_same(a, b):
    for p, q in zip([*a.coefs_, *a.intercepts_], [*b.coefs_, *b.intercepts_]):
        np.testing.assert_array_equal(p, q)
    assert a.loss_curve_ == b.loss_curve_ and a.t_ == b.t_ and a.n_iter_ == b.n_iter_
    assert a.validation_scores_ == b.validation_scores_


@pytest.mark.parametrize("how", ["pickle", "joblib_mmap", "checkpoint"])
@pytest.mark.parametrize("params", VARIANTS)
def test_fit_save_load_resume_equals_one_fit(tmp_path, data, how, params):
    x, y = data

    class Stop:
        def __init__(self, at):
            self.at = at

        def __call__(self, record):
            return record.epoch == self.at

    whole = build(EqPropClassifier, **{**BASE, **params}, max_iter=8).fit(x, y)
    half = build(EqPropClassifier, **{**BASE, **params}, max_iter=8, callbacks=[Stop(4)])
    half.fit(x, y)
    half.set_params(callbacks=None)
    loaded = ROUND_TRIPS[how](half, tmp_path)
    assert loaded.get_params() == half.get_params()
    np.testing.assert_array_equal(loaded.predict(x), half.predict(x))
    assert_same(loaded.resume(x, y), whole)
    assert loaded.resume(x, y).n_iter_ == 8  # nothing left to do


def _checkpoint(est, folder):
    est.save_checkpoint(folder / "a.npz")
    loaded = type(est).load_checkpoint(folder / "a.npz")
    return loaded.set_params(backend=est.backend)  # which no file decides


def _mmap(est, folder):
    joblib.dump(est, folder / "a.joblib")
    return joblib.load(folder / "a.joblib", mmap_mode="r")


ROUND_TRIPS = {
    "pickle": lambda est, folder: pickle.loads(pickle.dumps(est)),
    "joblib_mmap": _mmap,
    "checkpoint": _checkpoint,
}


@pytest.mark.parametrize("how", ROUND_TRIPS)
def test_partial_fit_goes_on_after_loading(tmp_path, data, how):
    x, y = data
    a = build(EqPropClassifier, **BASE).partial_fit(x[:90], y[:90], classes=range(4))
    b = ROUND_TRIPS[how](a, tmp_path)
    for est in (a, b):
        est.partial_fit(x[90:], y[90:]).partial_fit(x[:90], y[:90])
    assert_same(a, b)


@pytest.mark.parametrize("how", ROUND_TRIPS)
def test_regressor_and_labels_survive(tmp_path, data, how):
    x, y = data
    targets = np.column_stack([y, 100.0 - y])
    reg = build(EqPropRegressor, **BASE, max_iter=3).fit(sp.csr_array(x), targets)
    np.testing.assert_array_equal(ROUND_TRIPS[how](reg, tmp_path).predict(x), reg.predict(x))
    for labels in (
        np.array(["a", "b", "c", "d"], object)[y],
        np.array(["a", "b", "c", "d"])[y],
        y == 1,
    ):
        clf = build(EqPropClassifier, **BASE, max_iter=2).fit(x, labels)
        back = ROUND_TRIPS[how](clf, tmp_path)
        np.testing.assert_array_equal(back.predict(x), clf.predict(x))
        assert back.classes_.dtype == clf.classes_.dtype
    many = build(EqPropClassifier, **BASE, max_iter=2).fit(
        x, np.column_stack([y > 1, y % 2]).astype(int)
    )
    np.testing.assert_array_equal(ROUND_TRIPS[how](many, tmp_path).predict(x), many.predict(x))


def test_checkpoint_is_written_while_fitting(tmp_path, data):
    x, y = data
    path = tmp_path / "run.npz"
    epochs = []

    def look(record):
        epochs.append(EqPropClassifier.load_checkpoint(path).n_iter_ if path.exists() else 0)

    build(
        EqPropClassifier, **BASE, max_iter=5, checkpoint=Checkpoint(path, every=2), callbacks=look
    ).fit(x, y)
    assert epochs == [0, 2, 2, 4, 4]
    assert os.listdir(tmp_path) == ["run.npz"], "temporary files must not stay"


def test_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "f"
    write_atomically(path, lambda file: file.write(b"old"))

    def fail(file):
        file.write(b"half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, fail)
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["f"]


def test_damaged_checkpoints_are_refused(tmp_path, data):
    x, y = data
    path = tmp_path / "a.npz"
    est = build(EqPropClassifier, **BASE, max_iter=1).fit(x, y)
    est.save_checkpoint(path)
    good = path.read_bytes()
    with pytest.raises(CheckpointError, match="EqPropClassifier"):
        EqPropRegressor.load_checkpoint(path)
    with pytest.raises(FileNotFoundError):
        EqPropClassifier.load_checkpoint(tmp_path / "none.npz")
    rng = np.random.default_rng(0)
    for cut in [0, 1, 10, *rng.integers(0, len(good), 20)]:
        path.write_bytes(good[:cut])
        with pytest.raises(CheckpointError):
            EqPropClassifier.load_checkpoint(path)
    for position in rng.integers(0, len(good), 60):
        damaged = bytearray(good)
        damaged[position] ^= 0x10
        path.write_bytes(damaged)
        try:
            loaded = EqPropClassifier.load_checkpoint(path)
        except CheckpointError:
            continue
        # some bytes of a zip archive (dates, attributes) mean nothing
        np.testing.assert_array_equal(loaded.coefs_[0], est.coefs_[0])
    np.savez(path, meta=np.array({"a": 1}, dtype=object))  # would need pickle
    with pytest.raises(CheckpointError):
        EqPropClassifier.load_checkpoint(path)


TRAIN = """
import sys, warnings
warnings.simplefilter("ignore")
from eqprop_fast import EqPropClassifier
from eqprop_fast.datasets import load_digits
x, _, y, _ = load_digits()
print("ready", flush=True)
EqPropClassifier(hidden_layer_sizes=(11,), random_state=3, backend=sys.argv[2], tol=0.0, max_iter=100000,
                 n_iter_no_change=float("inf"), checkpoint=sys.argv[1]).fit(x[:150], y[:150])
"""


def test_killed_run_resumes_bit_for_bit(tmp_path):
    x, _, y, _ = load_digits()
    x, y = x[:150], y[:150]
    path = tmp_path / "run.npz"
    rng = np.random.default_rng(0)
    whole = build(EqPropClassifier, **BASE, max_iter=100_000)
    for _ in range(3):
        if path.exists():
            path.unlink()
        child = subprocess.Popen(
            [sys.executable, "-c", TRAIN, str(path), BACKENDS[0]], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout.readline() == "ready\n"
        deadline = time.monotonic() + 60
        while not path.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.2))
        child.send_signal(signal.SIGKILL)
        child.wait()
        loaded = EqPropClassifier.load_checkpoint(path)
        n = loaded.n_iter_ + 2
        loaded.set_params(max_iter=n, backend=BACKENDS[0]).resume(x, y)
        whole.set_params(max_iter=n).fit(x, y)
        assert_same(loaded, whole)


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, False, "x", 0, LARGEST, -LARGEST, 1.5, -0.0, float("inf"), -float("inf")),
        *((1, (2.0, "a")), [1, [None]], {0: 2.0, "b": (1,), None: [], 2.5: {}}, (), [], {}),
    ],
)
def test_a_parameter_survives(value):
    again = decode(json.loads(json.dumps(encode(value))))
    assert again == value and type(again) is type(value)


def test_parameters_become_what_a_file_can_hold():
    for value, plain in [
        (np.bool_(True), True),
        (np.int16(-3), -3),
        (np.float32(0.5), 0.5),
        (range(3), [0, 1, 2]),
        (np.array([[1, 2]]), [[1, 2]]),
        (pathlib.Path("a"), "a"),
    ]:
        assert encode(value) == plain and type(encode(value)) is type(plain)
    for value in (LARGEST + 1, -LARGEST - 1, np.nan, 1j, {1}, b"x", object(), [np.nan]):
        with pytest.raises(TypeError, match="cannot be stored"):
            encode(value)


def nested(depth):
    return [nested(depth - 1)] if depth else 1


@pytest.mark.parametrize(
    "content",
    [
        *(LARGEST + 1, -LARGEST - 1, float("nan"), {}, {"tuple": 3}, {"tuple": [1], "dict": []}),
        *({"set": [1]}, {"dict": 1}, {"dict": [[1]]}, {"dict": [[1, 2, 3]]}, {"dict": ["ab"]}),
        *({"dict": [[[1], 2]]}, {"dict": [[{"tuple": [1]}, 2]]}, {"object": "EP", "params": {}}),
        nested(MAX_DEPTH + 1),
    ],
    ids=repr,
)
def test_what_is_no_stored_parameter_is_refused(content):
    with pytest.raises(ValueError, match="parameter"):
        decode(content)
    assert decode(nested(MAX_DEPTH)) == nested(MAX_DEPTH)
