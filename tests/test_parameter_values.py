"""Every number among the parameters of every estimator, at odd values: taken, or refused by name."""

import numbers

import numpy as np
import pytest
from sklearn.utils._param_validation import Interval

import eqprop_fast
from eqprop_fast import DivergenceError

from .kinds import KINDS, small

ESTIMATORS = [kind.__name__ for kind in KINDS]
INTEGERS = (2**31 - 1, 2**31, 2**63, -1, 0, True, 1.0, "1", None, 1j, np.nan)
REALS = (np.inf, -np.inf, np.nan, 1e308, -1e308, 1e-320, 10**400, True, 1j, "0.1", None, b"1")
RUNS_LONG = ("max_iter", "n_steps")  # 2**31 - 1 is a legal number of these
X = np.random.default_rng(0).random((12, 3))


def _numbers(constraints):
    """(name, its values) of each parameter that is a number."""
    for name, options in sorted(constraints.items()):
        kinds = {option.type for option in options if isinstance(option, Interval)}
        if numbers.Integral in kinds:
            yield name, [v for v in INTEGERS if not (v == 2**31 - 1 and name in RUNS_LONG)]
        elif kinds:
            yield name, REALS


def _all_numbers(kind):
    """Those of the estimator, and as ``parameter__name`` those of the parts it has by default."""
    estimator = getattr(eqprop_fast, kind)()
    yield from _numbers(estimator._parameter_constraints)
    for name in estimator._words:
        part = estimator._part(name)
        for key, values in _numbers(getattr(part, "_parameter_constraints", {})):
            yield f"{name}__{key}", values


CASES = [
    (kind, name, v) for kind in ESTIMATORS for name, values in _all_numbers(kind) for v in values
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind, name", sorted({(kind, name) for kind, name, _ in CASES}))
def test_a_number_is_taken_or_named(kind, name):
    y = np.arange(12) % 3 if "Classifier" in kind else np.linspace(0, 1, 12)
    wrong = []
    for value in (v for k, n, v in CASES if (k, n) == (kind, name)):
        network = small(getattr(eqprop_fast, kind))
        estimator = getattr(eqprop_fast, kind)(
            network, max_iter=2, batch_size=4, backend="numpy", random_state=0
        )
        try:
            estimator.set_params(**{name: value})
            with np.errstate(all="ignore"):
                estimator.fit(X, y)
            outcome = (
                "refused" if value is not None and not isinstance(value, numbers.Real) else "taken"
            )
            if isinstance(value, bool) or outcome == "refused":
                wrong.append(f"{value!r} was taken")
        except DivergenceError:
            pass
        except ValueError as error:
            if name.rpartition("__")[2] not in str(error):
                wrong.append(f"{value!r:.20}: {error} does not name it")
        except Exception as error:
            wrong.append(f"{value!r:.20}: {type(error).__name__}: {error}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_numpy_numbers_are_numbers(kind):
    y = np.arange(12) % 3 if "Classifier" in kind else np.linspace(0, 1, 12)
    plain = dict(
        max_iter=2, batch_size=4, relaxation__n_steps=9, learning_rule__n_steps=3, tol=0.25
    )
    fits = []
    for integer, real in ((int, float), (np.int64, np.float64), (np.uint8, np.float32)):
        options = {k: (integer if isinstance(v, int) else real)(v) for k, v in plain.items()}
        make = getattr(eqprop_fast, kind)
        estimator = make(small(make), backend="numpy", random_state=0).set_params(**options)
        fits.append(estimator.fit(X, y).coefs_)
    for other in fits[1:]:
        for a, b in zip(other, fits[0]):
            np.testing.assert_array_equal(a, b)
