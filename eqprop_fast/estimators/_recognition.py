"""What estimators keep of a pass that learns beside the network (networks/recognition.py)."""

from __future__ import annotations

from ..training.checkpoint import RECOGNITION
from ..training.state import writable


class RecognitionMixin:
    """For `BaseEqPropEstimator`.

    Attributes
    ----------
    recognition_coefs_, recognition_intercepts_ : lists of ndarray
        ``Relaxation(start=Recognition())``: what the pass has learnt, shaped as `coefs_` and
        `intercepts_`.
    """

    def _give_new_pass(self, network):
        recognition = self._relaxation.recognition
        if recognition is not None:
            network.recognition = network.new_recognition(float(recognition.learning_rate))

    def _give_fitted_pass(self, network):
        recognition = self._relaxation.recognition
        if recognition is None:
            return
        if not hasattr(self, RECOGNITION[0]):
            raise ValueError(
                "relaxation__start='recognition': the fitted network has learnt no pass; refit with "
                "warm_start=False"
            )
        arrays = map(writable, self._recognition_arrays())
        network.recognition = network.recognition_of(*arrays, float(recognition.learning_rate))

    def _recognition_arrays(self):
        return self.recognition_coefs_, self.recognition_intercepts_

    def _learned_beside(self):
        if not hasattr(self, RECOGNITION[0]):
            return []
        return [a for group in self._recognition_arrays() for a in group]

    def _keep_network(self, network):
        super()._keep_network(network)
        if network.recognition is not None:
            self.recognition_coefs_ = network.recognition.weights
            self.recognition_intercepts_ = network.recognition.biases
        elif hasattr(self, RECOGNITION[0]):  # it would no longer be this network's
            del self.recognition_coefs_, self.recognition_intercepts_

    def _check_continued(self, network):
        super()._check_continued(network)
        if network.recognition is None and hasattr(self, RECOGNITION[0]):
            raise ValueError(
                f"relaxation__start={self._relaxation.start!r}: the fitted network has learnt a pass "
                "('recognition'); refit with warm_start=False"
            )

    def _array_shapes(self, archive):
        shapes, units = super()._array_shapes(archive)
        return self._with_pass(shapes), units

    def _with_pass(self, shapes):
        """Shapes of the fitted lists of arrays, those of the pass among them."""
        if self._relaxation.recognition is None:
            return shapes
        return {**shapes, **dict(zip(RECOGNITION, (shapes["coefs_"], shapes["intercepts_"])))}
