"""Deep Boltzmann machine; with one hidden layer the restricted one, in place of BernoulliRBM."""

from __future__ import annotations

from numbers import Integral

from sklearn.utils._param_validation import Interval

from ..docstrings import documented
from ._base import GenerativeEstimator


@documented
class DeepBoltzmannMachine(GenerativeEstimator):
    """Layers of binary units, trained by persistent contrastive divergence (docs/generative.md).

    With one hidden layer it is a restricted Boltzmann machine, and can stand where scikit-learn's
    BernoulliRBM does: the same parameters, attributes and methods. With more, a deep one
    (Salakhutdinov and Hinton 2009). What the hidden units are given the data is inferred by mean
    field, which begins with one pass upwards (1606.01651).

    Parameters
    ----------
    n_chains : int or None
        Persistent chains; None: as many as `batch_size`, with more than one hidden layer at least
        100.

    Attributes
    ----------
    particles_ : list of ndarray (n_chains, N[k])
        States of the chains.
    h_samples_ : ndarray of shape (n_chains, N[1])
        Those of the first hidden layer.

    Examples
    --------
    >>> import numpy as np
    >>> from eqprop_fast import DeepBoltzmannMachine
    >>> X = np.array([[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 1]])
    >>> model = DeepBoltzmannMachine(n_components=2)
    >>> model.fit(X)
    DeepBoltzmannMachine(n_components=2)
    """

    _parameter_constraints: dict = {
        **GenerativeEstimator._parameter_constraints,
        "n_chains": [None, Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        hidden_layer_sizes=(256,),
        *,
        n_components=None,
        learning_rate=0.1,
        schedule="auto",
        batch_size=10,
        n_iter=10,
        n_steps="auto",
        n_chains=None,
        n_mean_field=30,
        tol=1e-4,
        centering="auto",
        momentum=0.0,
        weight_decay=0.0,
        pretrain=0,
        use_labels=False,
        input_scaling=None,
        shuffle=True,
        verbose=0,
        random_state=None,
        backend="auto",
        n_threads=None,
    ):
        self._keep(locals())

    def _automatic(self):
        found = {"schedule": "constant", "n_steps": 1, "n_chains": self.batch_size}
        if self._deep:  # few chains that hardly move let its upper layers run away
            found = {"schedule": "linear", "n_steps": 5, "n_chains": max(self.batch_size, 100)}
        return {**super()._automatic(), **found}

    @property
    def h_samples_(self):
        if not hasattr(self, "particles_"):
            raise AttributeError("h_samples_")
        return self.particles_[1]
