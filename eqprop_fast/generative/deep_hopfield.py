"""Deep Hopfield network: deterministic relaxation in both phases."""

from __future__ import annotations

from sklearn.utils.metaestimators import available_if

from ..docstrings import documented
from ._base import GenerativeEstimator, labelled


@documented
class DeepHopfieldNetwork(GenerativeEstimator):
    """Layers of graded units that relax, trained by the difference of two equilibria.

    The energy is that of `DeepBoltzmannMachine`, with the entropy of graded units (Hopfield 1984).
    First phase: the data, and labels, are clamped and the hidden units relax. Second: the labels are
    released, the network relaxes; then the data are, and all units go `n_steps` sweeps towards a
    free equilibrium. Weights learn from the difference of
    the two (contrastive Hebbian learning, the limit of equilibrium propagation in which the nudge
    clamps; mean-field contrastive divergence of Welling and Hinton 2002). No random number is drawn
    but for initial weights, the order of the data, and `sample`, which reads the network as a
    Boltzmann machine.
    """

    _draw = False

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
        return {**super()._automatic(), "schedule": "constant", "n_steps": 3}

    @available_if(labelled)
    def predict_proba(self, X):
        """States of the label units at equilibrium, ordered as `classes_`: what learning moves."""
        return self.mean_field(X)[0][-1]
