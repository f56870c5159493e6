"""Dynamics, relaxation, rules and their like as parameters: words, nesting, clone, grids, refusals."""

import doctest
import importlib
import inspect
import io
import json
import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

import eqprop_fast
from eqprop_fast import (
    BPTT,
    EP,
    ClampedSweep,
    Connection,
    ContinualEP,
    Continuous,
    Discrete,
    EqPropClassifier,
    Exponential,
    Layer,
    Relaxation,
    ResistiveCircuit,
    ResistiveClassifier,
    ResistiveEP,
    SquaredError,
    VectorField,
)
from eqprop_fast.circuits.devices import DeviceModel
from eqprop_fast.dynamics import dynamics_of
from eqprop_fast.parts import Part
from eqprop_fast.rules import RULES
from eqprop_fast.training.checkpoint import CheckpointError

from .fuzz.fuzz_checkpoints import archive_of, members, npy
from .kinds import KINDS

ESTIMATORS = KINDS
PARTS = [
    value
    for value in (getattr(eqprop_fast, name) for name in eqprop_fast.__all__)
    if inspect.isclass(value) and issubclass(value, Part)
]
REQUIRED = {  # of parts that are nothing without
    "Connection": ("x", "y"),
    "Conv": (4, 3),
    "Dense": (5,),
    "Graph": ([Layer("x", 2), Layer("y", 3)], [Connection("x", "y")]),
    "Layer": ("x", 2),
}
X = np.random.default_rng(0).random((40, 5))
Y = np.arange(40) % 3
SMALL = dict(
    hidden_layer_sizes=(6,),
    max_iter=2,
    tol=0.0,
    n_iter_no_change=np.inf,
    random_state=0,
    backend="numpy",
)


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_few_parameters_each_documented_in_order(kind):
    names = list(inspect.signature(kind).parameters)
    assert len(names) <= 36 and set(names) == set(kind().get_params(deep=False))
    assert documented_names(kind) == names


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.__name__)
def test_parts_are_documented_and_behave(part):
    one = part(*REQUIRED.get(part.__name__, ()))
    assert documented_names(part) == list(inspect.signature(part).parameters)
    assert (
        eval(repr(one), vars(eqprop_fast)) == one == clone(one) == pickle.loads(pickle.dumps(one))
    )
    one.validate()
    assert one != "ep" and one != EqPropClassifier()
    assert "<div" in one._repr_html_()
    with pytest.raises(TypeError):
        part(no_such_parameter=1)


def documented_names(cls):
    """Names of the section Parameters, in order; each is followed by its text."""
    doc = inspect.getdoc(cls)
    if "Parameters\n---" not in doc:
        return []
    section = doc.split("Parameters\n----------\n")[1].split("\n\n")[0]
    heads = [line for line in section.splitlines() if not line.startswith(" ")]
    assert all(" : " in head for head in heads)
    names = [name for head in heads for name in head.split(" : ")[0].split(", ")]
    parameters = inspect.signature(cls).parameters
    with_default = [name for name in names if parameters[name].default is not inspect._empty]
    shown = [n for head in heads if "default=" in head for n in head.split(" : ")[0].split(", ")]
    assert shown == with_default
    in_order = list(parameters)
    return sorted(names, key=in_order.index)


@pytest.mark.parametrize("kind", ESTIMATORS)
@pytest.mark.parametrize("parameter", ["learning_rule", "relaxation", "learning_rate"])
def test_a_word_is_the_part_at_its_defaults(kind, parameter):
    for word, make in kind._words[parameter].items():
        if make is None:
            continue
        by_word = kind().set_params(**{parameter: word})
        by_part = kind().set_params(**{parameter: make()})
        nested = {k: v for k, v in by_part.get_params().items() if k.startswith(parameter + "__")}
        assert nested.items() <= by_word.get_params().items()
        for key, value in nested.items():  # to set one puts the part in the word's place
            assert getattr(by_word.set_params(**{parameter: word, key: value}), parameter) == make()


def test_words_and_parts_train_alike():
    words = EqPropClassifier(**SMALL, dynamics="continuous", relaxation="synchronous")
    parts = EqPropClassifier(
        **SMALL,
        dynamics=Continuous(),
        relaxation=Relaxation("synchronous"),
        learning_rule=EP(),
        cost=SquaredError(),
    )
    words.fit(X, Y), parts.fit(X, Y)
    np.testing.assert_array_equal(words.coefs_[0], parts.coefs_[0])


def test_fitting_leaves_the_parts_alone():
    rule, relaxation = EP(beta=0.2), Relaxation(n_steps=7)
    model = EqPropClassifier(**SMALL, learning_rule=rule, relaxation=relaxation).fit(X, Y)
    model.predict(X)
    assert (
        model.learning_rule is rule and rule == EP(beta=0.2) and relaxation == Relaxation(n_steps=7)
    )
    copy = clone(model)
    assert copy.learning_rule is not rule and copy.learning_rule == rule


def test_grids_reach_into_parts_and_over_words():
    grid = [
        {"learning_rule": [EP(), VectorField()], "learning_rule__beta": [0.1, 0.5]},
        {"learning_rule": ["bptt", "coupled"]},
        {"relaxation__n_steps": [5, 10], "dynamics": ["discrete", Continuous(dt=0.3)]},
    ]
    search = GridSearchCV(EqPropClassifier(**SMALL), grid, cv=2, error_score="raise").fit(X, Y)
    tried = search.cv_results_["params"]
    assert len(tried) == 10 and search.best_params_ in tried
    assert [p["learning_rule__beta"] for p in tried[:4]] == [0.1, 0.5] * 2 and tried[0][
        "learning_rule"
    ] == EP()
    resistive = GridSearchCV(
        ResistiveClassifier(**SMALL),
        {"learning_rule__beta": [0.01, 0.05], "circuit__g_max": [0.5, None]},
        cv=2,
        error_score="raise",
    ).fit(X, Y)
    assert set(resistive.best_params_) == {"learning_rule__beta", "circuit__g_max"}


@pytest.mark.parametrize(
    "wrong, match",
    [
        (dict(learning_rule="hebb"), "learning_rule"),
        (dict(learning_rule=EP), "learning_rule"),
        (dict(learning_rule=Relaxation()), "learning_rule"),
        (dict(learning_rule=ResistiveEP()), "learning_rule"),
        (dict(relaxation=EP()), "relaxation"),
        (dict(learning_rule=EP(beta=0)), "'beta' parameter of EP"),
        (dict(relaxation=Relaxation("forward")), "'schedule' parameter of Relaxation"),
        (dict(dynamics=Discrete(dt=-1)), "'dt' parameter of Discrete"),
        (dict(learning_rate=Exponential(2.0)), "'decay' parameter of Exponential"),
        (
            dict(learning_rule=ContinualEP(), solver="adam"),
            "solver='adam'.*learning_rule='continual'.*plain SGD",
        ),
        (dict(learning_rule=BPTT(n_steps=30)), "learning_rule__n_steps=30.*relaxation__n_steps=20"),
        (
            dict(learning_rule="bptt", relaxation=Relaxation(start="persistent")),
            "relaxation__start='persistent'",
        ),
        (
            dict(learning_rule="bptt", relaxation=Relaxation(over_relaxation=1.2)),
            "relaxation__over_relaxation=1.2",
        ),
        (
            dict(learning_rule=ClampedSweep(), relaxation="synchronous"),
            "relaxation__schedule='synchronous'",
        ),
        (dict(learning_rule="vector_field", dynamics="continuous"), "prime_hidden=False"),
    ],
)
def test_refusals_are_in_the_users_words(wrong, match):
    with pytest.raises(ValueError, match=match):
        EqPropClassifier(**SMALL, **wrong).fit(X, Y)


def test_what_a_part_has_not_cannot_be_given():
    for call in (
        lambda: ContinualEP(tol=1e-3),
        lambda: BPTT(beta=0.5),
        lambda: Discrete(clamp=True),
        lambda: Continuous(nudge_inside=True),
        lambda: EqPropClassifier(beta=0.5),
        lambda: ClampedSweep(nudging="positive"),
        lambda: ResistiveCircuit(beta=1),
    ):
        with pytest.raises(TypeError):
            call()
    for name in ("learning_rule__angle", "learning_rate__decay", "nothing__at_all", "solver__beta"):
        with pytest.raises((ValueError, AttributeError), match="angle|decay|nothing|set_params"):
            EqPropClassifier().set_params(**{name: 1})


@pytest.mark.parametrize("word", RULES)
def test_every_rule_goes_with_the_default_network(word):
    """Alone, only the continual rules ask for something beside them: plain SGD."""
    sgd = dict(solver="sgd") if RULES[word]().continual else {}
    model = EqPropClassifier(**SMALL, learning_rule=word, **sgd).fit(X, Y)
    plan = RULES[word]().plan(Relaxation(), batch_size=1, rate=(), bias_rate=())
    assert np.isfinite(model.coefs_[0]).all() and plan.rule == word


def test_a_device_is_a_part_too():
    x, y = X * 2 - 1, Y
    part = ResistiveClassifier(**SMALL, device=DeviceModel(n_levels=8)).fit(x, y)
    by_dict = ResistiveClassifier(**SMALL, device=dict(n_levels=8)).fit(x, y)
    np.testing.assert_array_equal(part.coefs_[0], by_dict.coefs_[0])
    assert part.get_params()["device__n_levels"] == 8 and clone(part).device == DeviceModel(
        n_levels=8
    )
    with pytest.raises(ValueError, match="n_levels"):
        part.set_params(device__n_levels=1).fit(x, y)


@pytest.mark.parametrize(
    "estimator",
    [
        EqPropClassifier(
            **SMALL, learning_rule=VectorField(feedback_angle=30.0), dynamics=Discrete(dt=0.5)
        ),
        ResistiveClassifier(
            **SMALL, circuit=ResistiveCircuit("clipped", g_max=2.0), device=DeviceModel(n_levels=8)
        ),
    ],
)
def test_parts_survive_a_checkpoint(estimator, tmp_path):
    """Also inside each other's place: a part of another kind, or out of range, is refused."""
    model = estimator.fit(X, Y)
    model.save_checkpoint(tmp_path / "a.npz")
    loaded = type(model).load_checkpoint(tmp_path / "a.npz")
    parts = {k: v for k, v in model.get_params(deep=False).items() if isinstance(v, Part)}
    assert parts and all(loaded.get_params(deep=False)[k] == v for k, v in parts.items())
    files = members((tmp_path / "a.npz").read_bytes())
    meta = json.loads(str(np.load(io.BytesIO(files["meta.npy"]))))
    for wrong in (
        {"object": "Relaxation", "params": {}},
        {"object": "Popen", "params": {}},
        {"object": "EP", "params": {"beta": 0.0, "nudging": "positive", "n_steps": 1, "tol": None}},
    ):
        meta["params"]["learning_rule"] = wrong
        content = npy(np.array(json.dumps(meta)))
        (tmp_path / "b.npz").write_bytes(archive_of({**files, "meta.npy": content}.items()))
        with pytest.raises(CheckpointError):
            type(model).load_checkpoint(tmp_path / "b.npz")


@pytest.mark.parametrize(
    "dynamics", [Discrete(dt=0.5, nudge_inside=True), Continuous(clamp=False, dt=0.1)]
)
def test_dynamics_survive_the_spec(dynamics):
    spec = dynamics.spec((3, 2), schedule="synchronous")
    assert dynamics_of(spec) == dynamics and spec.sizes == (3, 2) and spec.dynamics == dynamics.word


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", ["layered_classifier", "layered_regressor", "resistive"])
def test_examples_of_the_docstrings_run(name):
    result = doctest.testmod(importlib.import_module(f"eqprop_fast.estimators.{name}"))
    assert result.attempted > 0 and result.failed == 0
