"""scikit-learn's own estimator checks, on every backend that loads here; no expected failure.

They give flat samples. Networks of maps ask for `input_shape` then, which here would change from
check to check; `Channels` takes each feature for a channel of one pixel.
"""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from eqprop_fast import (
    Conv,
    ConvEqPropClassifier,
    ConvEqPropRegressor,
    DeepBoltzmannMachine,
    DeepHopfieldNetwork,
)

from .backend_list import BACKENDS
from .kinds import GRAPHS, KINDS, RESISTIVE, small


class Channels:
    """Of a flat X each feature is a channel."""

    def _shape_of_input(self, shape):
        return super()._shape_of_input((*shape, 1, 1) if len(shape) == 1 else shape)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        return tags


class ChannelsClassifier(Channels, ConvEqPropClassifier):
    pass


class ChannelsRegressor(Channels, ConvEqPropRegressor):
    pass


QUICK = dict(max_iter=25, learning_rate_init=0.01)  # of networks whose NumPy twin takes its time


def estimators():
    for kind in (*KINDS, ChannelsClassifier, ChannelsRegressor):
        graph = issubclass(kind, GRAPHS)
        network = [Conv(16, 1)] if issubclass(kind, Channels) else small(kind, 16 if graph else 32)
        options = dict(n_threads=2, **(QUICK if graph else dict(max_iter=60)))
        for backend in BACKENDS:
            yield kind(network, backend=backend, **options)


# Data beyond [0, 1] are refused unless they are scaled.
GENERATIVE = [
    kind(sizes, input_scaling="minmax", backend=backend, n_threads=2)
    for kind in (DeepBoltzmannMachine, DeepHopfieldNetwork)
    for sizes in ((16,), (8, 6))
    for backend in BACKENDS
]

# A weight equals a repetition only if both fall into one batch, and to 1e-7 only in double
# precision: the checks of that run full batches in float64 (scikit-learn gives its MLPs special
# parameters there as well).
FULL_BATCH = dict(batch_size=1000, dtype="float64")


@pytest.mark.filterwarnings("ignore:batch_size", "ignore:Maximum iterations")
@parametrize_with_checks(list(estimators()))
def test_scikit_learn_checks(estimator, check):
    if check.func.__name__.startswith("check_sample_weight_equivalence"):
        estimator.set_params(**FULL_BATCH)
        if isinstance(estimator, RESISTIVE):
            # fast enough to have converged: half-way, a network leaving a saddle multiplies
            # rounding errors
            estimator.set_params(learning_rate_init=0.05)
    check(estimator)


@parametrize_with_checks(GENERATIVE)
def test_scikit_learn_checks_of_generative_estimators(estimator, check):
    check(estimator)
