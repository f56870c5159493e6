"""Verdicts that can fail: broken rules, diverged runs, impossible settings; and checks that run
again.
"""

import inspect

import numpy as np
import pytest

from eqprop_fast import EP, ContinualEP, VectorField, theory
from eqprop_fast.theory import asymmetry
from eqprop_fast.theory.models import LayeredModel
from eqprop_fast.theory.presets import layered_spec

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
TOY = "1905.13633/fig2-toy"
QUICK = dict(n_free_steps=300, rule__n_steps=10)
CONTINUAL = ContinualEP(beta=0.01, n_steps=10)


def test_a_diverged_run_matches_nothing():
    r = theory.gradient_match(TOY, dt=2.2)
    assert np.isnan(r.verdict) and r.holds is False
    assert theory.gradient_match(TOY, n_free_steps=300, rule=CONTINUAL, rate=1e6).holds is False


def test_energy_that_is_not_a_number_does_not_descend():
    model = LayeredModel.random(layered_spec("energy", (4, 5, 3)), 0)
    model.weights[0][0, 0] = np.nan
    r = theory.energy_descent(model=model, x=np.ones((2, 4)), n_steps=5)
    assert np.isnan(r.verdict) and not r.holds


def test_asymmetry_verdict_sees_the_learning_rule(monkeypatch):
    right = asymmetry.estimated_gradient

    class Negated:
        def __init__(self, *args, **options):
            self.given = right(*args, **options)

        def flat(self):
            return -self.given.flat()

    monkeypatch.setattr(asymmetry, "estimated_gradient", Negated)
    r = theory.asymmetry_bound(n_networks=1, angles=(45.0,))
    assert r.limit_gap == pytest.approx(2.0, abs=0.01) and not r.holds


def test_asymmetry_verdict_sees_the_slope(monkeypatch):
    right = asymmetry._terms

    def no_error(*args):
        exact, _, *rest = right(*args)
        return exact, exact * (1 + 1e-9), *rest

    monkeypatch.setattr(asymmetry, "_terms", no_error)
    assert not theory.asymmetry_bound(n_networks=1, angles=(45.0,)).holds


def test_rbp_verdict_sees_the_synapses(monkeypatch):
    right = LayeredModel.increment

    def negated(self, *args, **options):
        synapses, biases = right(self, *args, **options)
        return [-s for s in synapses], biases

    monkeypatch.setattr(LayeredModel, "increment", negated)
    r = theory.rbp_match(n_halvings=2, n_nudged_steps=20)
    assert abs(r.slope - 1) < 0.1 and not r.holds


CHECKS = [
    (theory.rbp_match, dict(n_halvings=2, n_nudged_steps=10, sizes=(5, 6, 3))),
    (theory.continual_deviation, dict(n_halvings=2, sizes=(5, 6, 3), n_samples=2)),
    (theory.gradient_order, dict(n_halvings=2, sizes=(5, 6, 3), n_samples=2, n_steps=5000)),
    (theory.energy_descent, dict(n_steps=10, sizes=(5, 6, 3), n_samples=2)),
    (theory.asymmetry_bound, dict(n_networks=2, angles=(30.0,), n_halvings=2)),
]


@pytest.mark.parametrize("check, given", CHECKS, ids=lambda v: getattr(v, "__name__", ""))
def test_settings_run_the_check_again(check, given):
    first = check(**given)
    assert (
        check(**{**first.settings, "dtype": np.dtype(first.settings["dtype"])}).verdict
        == first.verdict
    )


def test_settings_of_a_match_run_it_again():
    first = theory.gradient_match(TOY, **QUICK)
    given = {k: v for k, v in first.settings.items() if v is not None}
    again = theory.gradient_match(**{**given, "dtype": np.float64})
    assert again.verdict == first.verdict and first.target == first.settings["rule"].beta


@pytest.mark.parametrize("check, given", CHECKS, ids=lambda v: getattr(v, "__name__", ""))
def test_every_check_in_float32(check, given):
    r = check(dtype=np.float32)
    assert r.holds and r.settings["dtype"] == "float32"


def test_c_vf_from_one_line():
    assert theory.continual_deviation(rule="continual_vector_field").holds


def test_debug_procedure_falls_with_its_factor():
    r = theory.continual_deviation(n_halvings=2)
    factors = sorted(r.debug_identity)
    for small, large in zip(factors, factors[1:]):
        ratio = r.debug_identity[large] / r.debug_identity[small]
        assert ratio == pytest.approx(large / small, rel=0.1)


BACK = LayeredModel.random(layered_spec("leaky", (4, 5, 3)), 0, angle=60.0)
ONE_SIDED = EP(beta=0.1, nudging="positive")
DATA = dict(x=np.zeros((2, 4)), y=np.zeros((2, 3)))


@pytest.mark.parametrize(
    "call, match",
    [
        (lambda: theory.gradient_order(model=BACK, **DATA), "backward"),
        (lambda: theory.continual_deviation(model=BACK, **DATA), "backward"),
        (
            lambda: theory.gradient_match(model=BACK, **DATA, n_free_steps=300, rule=ONE_SIDED),
            "rule",
        ),
        (lambda: theory.gradient_match(TOY, rate=-1.0, rule=CONTINUAL), "rate"),
        (lambda: theory.gradient_match(TOY, rate=np.nan, rule=CONTINUAL), "rate"),
        (lambda: theory.gradient_match(TOY, dt=-1.0), "dt"),
        (lambda: theory.gradient_match(TOY, convention="bogus"), "convention"),
        (
            lambda: theory.gradient_match(
                TOY, rule=VectorField(nudging="positive", feedback_angle=45)
            ),
            "angle",
        ),
        (lambda: theory.gradient_match(TOY, dtype=np.float16), "dtype"),
        (lambda: theory.rbp_match(sizes=(5,)), "sizes"),
        (lambda: theory.rbp_match(n_samples=0), "n_samples"),
        (lambda: theory.asymmetry_bound(angles=()), "angles"),
        (lambda: theory.asymmetry_bound(gain=-1), "gain"),
        (lambda: theory.asymmetry_bound(dtype=np.int32), "dtype"),
    ],
)
def test_refusals_name_the_parameter(call, match):
    with pytest.raises(ValueError, match=match):
        call()


MODEL = dict(sizes=(3, 4, 2), n_samples=2)
SMALL_CONV = dict(channels=(1, 2, 2), image_size=10, kernel_size=3, n_samples=1)
CALLS = {  # public functions, with what makes them cheap
    theory.gradient_order: MODEL,
    theory.continual_deviation: MODEL,
    theory.rbp_match: MODEL,
    theory.energy_descent: MODEL,
    theory.asymmetry_bound: dict(sizes=(3, 4, 2)),
    theory.gradient_match: dict(model=None),
    theory.preset_model: dict(preset="1905.13633/fig2-toy"),
    theory.nudge_place: SMALL_CONV,
    theory.ToyNetwork: {},
    theory.ConvNetwork: {},
}
# of kinds that no parameter takes
FOREIGN = ["nonsense", b"x", 1j, object(), {}, [[1], [2, 3]], (), np.nan, -1, lambda: 0]
# written into the record, or checked by the rule and the kernels
ELSEWHERE = {"of_rule", "rule", "target", "activation", "nudge_inside"}


@pytest.mark.parametrize("function", CALLS, ids=lambda f: f.__name__)
def test_foreign_values_are_refused_by_name(function):
    taken = []
    for name in inspect.signature(function).parameters.keys() - ELSEWHERE:
        for value in FOREIGN:
            call = {**CALLS[function], name: value}
            if function is theory.gradient_match and name not in ("preset", "model"):
                call["preset"] = TOY
            try:
                function(**call)
                if (name, value) != ("steady_tol", -1):  # no tolerance
                    taken.append((name, value))
            except ValueError as error:
                if name not in str(error):
                    taken.append((name, value, error))
            except Exception as error:
                taken.append((name, value, error))
    assert not taken
