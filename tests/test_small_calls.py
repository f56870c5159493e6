"""A fitted network is kept ready from call to call, and follows whatever becomes of its estimator."""

import pickle
import threading

import numpy as np
import pytest
from eqprop_fast.kernels import get_backend
from sklearn.datasets import load_iris

from eqprop_fast import EqPropClassifier, EqPropRegressor, ResistiveClassifier, ResistiveRegressor
from eqprop_fast.networks.layered import LayeredNetwork

from .backend_list import BACKENDS
from .kinds import KINDS, small

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
KINDS_AND_BACKENDS = [(kind, name) for kind in KINDS for name in BACKENDS]
X, Y = load_iris(return_X_y=True)


@pytest.mark.parametrize("kind", KINDS)
def test_plain_rows_are_checked_as_any_others(kind):
    """An array of numbers need not be asked what else it might be; what is wrong is still said."""
    pd = pytest.importorskip("pandas")
    model = kind(small(kind, 8), max_iter=3, random_state=0, dtype="float32").fit(X, Y)
    expected = model.predict(X.tolist())
    for same in (X, np.asfortranarray(X), X.astype(np.longdouble), np.repeat(X, 2, axis=0)[::2]):
        np.testing.assert_array_equal(model.predict(same), expected)
    for value in (np.nan, np.inf, 1e300):
        wrong = X.copy()
        wrong[3, 1] = value
        with pytest.raises(ValueError, match="Input X contains"):
            model.predict(wrong)
    for wrong in (X[:, :3], X[:0], X[0]):
        with pytest.raises(ValueError, match="features|sample|array|shape"):
            model.predict(wrong)
    model.fit(pd.DataFrame(X, columns=list("abcd")), Y)
    with pytest.warns(UserWarning, match="feature names"):
        model.predict(X)


@pytest.mark.parametrize("kind, backend", KINDS_AND_BACKENDS)
def test_a_kept_network_follows_the_estimator(kind, backend):
    model = kind(small(kind, 8), max_iter=3, random_state=0, backend=backend).fit(X, Y)
    all_rows = model.predict(X)
    for _ in range(2):  # the second time from what was kept
        one_by_one = np.concatenate([model.predict(X[i : i + 1]) for i in range(len(X))])
        np.testing.assert_array_equal(one_by_one, all_rows)
    with pytest.raises(ValueError, match="n_threads"):
        model.set_params(n_threads=-3).predict(X[:1])
    model.set_params(n_threads=1)
    few = model.set_params(relaxation__n_steps=3).predict(X)  # changes the part itself
    np.testing.assert_array_equal(model.predict(X[:1]), few[:1])
    with pytest.raises(ValueError, match="n_steps"):
        model.set_params(relaxation__n_steps=-1).predict(X[:1])
    model.set_params(relaxation__n_steps=20)
    model.coefs_[-1] = model.coefs_[-1] * 0.5  # another array
    np.testing.assert_array_equal(model.predict(X[:1]), model.predict(X)[:1])
    model.coefs_[-1][...] *= 0.5  # the same array
    np.testing.assert_array_equal(model.predict(X[:1]), model.predict(X)[:1])
    for wrong, message in ((np.full((1, 4), np.nan), "NaN"), (np.ones((1, 3)), "3 features")):
        with pytest.raises(ValueError, match=message):
            model.predict(wrong)
    copy = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(copy.predict(X[:1]), model.predict(X[:1]))
    model.fit(2 * X, Y)
    np.testing.assert_array_equal(model.predict(X[:1]), model.predict(X)[:1])


@pytest.mark.parametrize(
    "options", [dict(learning_rule="vector_field"), dict(relaxation__start="feedforward")]
)
@pytest.mark.parametrize("backend", BACKENDS)
def test_networks_without_a_fast_way_answer_rows_as_they_do_tables(backend, options):
    """Feedback weights of their own, and the pass before the free phase."""
    model = EqPropClassifier((8,), max_iter=3, random_state=0, backend=backend)
    model.set_params(relaxation__n_steps=3, **options).fit(X, Y)
    every = model.predict_proba(X)
    for i in (0, 75, 149):
        np.testing.assert_array_equal(model.predict_proba(X[i : i + 1])[0], every[i])


@pytest.mark.skipif(get_backend(BACKENDS[0]).layered_one_row is None, reason="no fast way here")
def test_the_fast_way_is_made_at_the_second_call_and_kept(monkeypatch):
    model = EqPropClassifier((8,), max_iter=3, random_state=0, backend=BACKENDS[0]).fit(X, Y)
    made, used, make = [], [], LayeredNetwork.one_row

    def counted(network, *args):
        made.append(args)
        answer = make(network, *args)
        return lambda x: (used.append(len(x)), answer(x))[1]

    monkeypatch.setattr(LayeredNetwork, "one_row", counted)
    seen = []
    for _ in range(4):
        model.predict(X[:1])
        seen.append((len(made), len(used)))
    assert seen == [(0, 0), (1, 1), (1, 2), (1, 3)]
    model.predict(X[:2])
    assert len(used) == 3


def test_threads_share_a_kept_network():
    model = EqPropClassifier((8,), max_iter=3, random_state=0, backend=BACKENDS[0]).fit(X, Y)
    expected, wrong = model.predict_proba(X), []

    def ask(start):
        for i in range(start, len(X), 4):
            if not np.array_equal(model.predict_proba(X[i : i + 1])[0], expected[i]):
                wrong.append(i)

    threads = [threading.Thread(target=ask, args=(start,)) for start in range(4)]
    [t.start() for t in threads], [t.join() for t in threads]
    assert not wrong


@pytest.mark.parametrize("kind", [EqPropClassifier, ResistiveClassifier])
def test_early_stopping_with_rare_classes(kind):
    x = np.random.default_rng(0).random((300, 4))
    for y in (np.arange(300) % 40, np.r_[0, np.arange(299) % 3 + 1], np.r_[1, np.zeros(299, int)]):
        options = dict(random_state=0, backend=BACKENDS[0], max_iter=2)
        model = kind((4,), early_stopping=True, **options).fit(x, y)
        assert len(model.validation_scores_) == 2
        assert len(model._split(np.arange(300), y, model._state)[1]) == 30
    common = np.repeat([0, 1, 2], 100)
    held_out = model._split(np.arange(300), common, model._state)[1]
    assert (np.bincount(common[held_out]) == 10).all()


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", [EqPropRegressor, ResistiveRegressor])
def test_targets_of_a_stream_have_the_scale_of_all_of_them(kind, tmp_path):
    x = np.random.default_rng(0).normal(size=(200, 5))
    y = 1e4 + 300 * (x[:, 0] - 2 * x[:, 1])
    model = kind((16,), random_state=0, backend=BACKENDS[0])
    for row in range(len(y)):
        model.partial_fit(x[row : row + 1], y[row : row + 1])
    deviation = model._y_scale[0] * model._amplitude
    np.testing.assert_allclose([model._y_mean[0], deviation], [y.mean(), y.std()])
    for _ in range(20):
        model.partial_fit(x, y)
    assert model.score(x, y) > 0.6  # 0 with the scale of the first row, which has none
    model.save_checkpoint(tmp_path / "a.npz")
    again = kind.load_checkpoint(tmp_path / "a.npz").set_params(backend=BACKENDS[0])
    for m in (model, again):
        m.partial_fit(x[:50], y[:50] + 1000)
    np.testing.assert_array_equal(model.predict(x), again.predict(x))
    weights = np.arange(50) % 3.0
    in_parts, at_once = (kind((4,), random_state=0, backend=BACKENDS[0]) for _ in "ab")
    in_parts.partial_fit(x[:20], y[:20], weights[:20]).partial_fit(x[20:50], y[20:50], weights[20:])
    at_once.partial_fit(x[:50], y[:50], weights)
    np.testing.assert_allclose(in_parts._y_scale, at_once._y_scale)
