"""scikit-learn's own estimator checks, on every backend that loads here; no expected failure."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from eqprop_fast import EqPropClassifier, EqPropRegressor, ResistiveClassifier, ResistiveRegressor

from .backend_list import BACKENDS

ESTIMATORS = [
    kind(backend=backend, n_threads=2, max_iter=60, hidden_layer_sizes=(32,))
    for kind in (EqPropClassifier, EqPropRegressor, ResistiveClassifier, ResistiveRegressor)
    for backend in BACKENDS
]

# A weight equals a repetition only if both fall into one batch, and to 1e-7 only in double
# precision: the checks of that run full batches in float64 (scikit-learn gives its MLPs special
# parameters there as well).
FULL_BATCH = dict(batch_size=1000, dtype="float64")


@pytest.mark.filterwarnings("ignore:batch_size", "ignore:Maximum iterations")
@parametrize_with_checks(ESTIMATORS)
def test_scikit_learn_checks(estimator, check):
    if check.func.__name__.startswith("check_sample_weight_equivalence"):
        estimator.set_params(**FULL_BATCH)
        if isinstance(estimator, (ResistiveClassifier, ResistiveRegressor)):
            # fast enough to have converged: half-way, a network leaving a saddle multiplies
            # rounding errors
            estimator.set_params(learning_rate_init=0.05)
    check(estimator)
