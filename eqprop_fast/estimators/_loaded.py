"""Whether what was read from a file, or fitted before, fits together and suits the parameters."""

from __future__ import annotations

import numpy as np


class LoadedChecks:
    """Checks of fitted arrays, counters and states against each other and the parameters."""

    def _check_parameters_of_fit(self):
        """Refuse parameters that were changed since the fit and no longer suit what was fitted."""
        self._validate_params()
        dtypes = {p.dtype for p in (*self.coefs_, *self.intercepts_)}
        if len(dtypes) == 1 and dtypes != {np.dtype(self.dtype)}:
            raise ValueError(f"dtype={self.dtype!r} differs from the fitted {dtypes.pop().name}")
        if self._are_a_chain([p.shape for p in self.coefs_]):
            network = self._fitted_network(None)
            self._check_fitted_sizes(network)
            self._check_continued(network)

    @staticmethod
    def _are_a_chain(shapes):
        """Whether weights of these shapes follow each other."""
        return all(above[1] == below[0] for above, below in zip(shapes, shapes[1:]))

    def _check_fitted_sizes(self, network):
        sizes = tuple(self._sizes(self.n_features_in_, self.n_outputs_))
        if tuple(network.spec.sizes) != sizes or self.n_layers_ != len(sizes):
            raise ValueError(
                f"{self._network_parameter} (layers {sizes}) differ from the fitted {network.spec.sizes}"
            )

    def _fitted_shapes(self):
        """Shapes that `_fitted_parameters` must have.

        Raises
        ------
        ValueError
            The weights are those of no network.
        """
        layers = [p.shape for p in self.coefs_]
        if not layers or any(len(shape) != 2 for shape in layers):
            raise ValueError("coefs_ must be matrices")
        if not self._are_a_chain(layers):
            raise ValueError("the shapes of coefs_ do not follow each other")
        back = [shape[::-1] for shape in layers] if getattr(self, "feedback_coefs_", None) else []
        return [*layers, *((columns,) for _, columns in layers), *back]

    def _learned_beside(self):
        """Fitted arrays that learn beside the parameters, in the order of `Network.learned`."""
        return []

    def _fitted_parameters(self):
        """All fitted arrays in the order of `Network.parameters`."""
        empty = np.zeros(0, np.dtype(self.dtype))
        groups = self._fitted_arrays()
        return [empty if p is None else p for group in groups for p in group or ()]

    def _check_loaded(self):
        """Refuse what was read from a file unless all of it fits together."""
        parameters, shapes = self._fitted_parameters(), self._fitted_shapes()
        state, memory = self._state, self._state.optimizer_state
        beside = self._learned_beside()
        more = shapes[: len(beside)]
        for name, arrays, wanted in (
            ("coefs_, intercepts_ and feedback_coefs_", parameters, shapes),
            ("recognition_coefs_ and recognition_intercepts_", beside, more),
            ("the momentum", memory.velocity, shapes),
            ("the second moments", memory.second, shapes),
            ("the best parameters", state.best_snapshot, shapes + more),
            ("the last parameters", state.last_snapshot, shapes + more),
        ):
            if arrays:
                self._check_arrays(name, arrays, wanted)
        if any((a < 0).any() for a in memory.second):
            raise ValueError("the second moments must be >= 0")
        network = self._fitted_network(None)
        self._check_fitted_sizes(network)
        self._check_continued(network)
        self._check_loaded_states(network)
        self._check_loaded_counters(state)

    def _check_arrays(self, name, arrays, shapes):
        if [a.shape for a in arrays] != shapes or any(
            a.dtype != np.dtype(self.dtype) for a in arrays
        ):
            raise ValueError(f"shape or dtype of {name} is wrong")
        if not all(np.isfinite(a).all() for a in arrays):
            raise ValueError(f"{name} are not finite")

    def _check_loaded_states(self, network):
        """Refuse states of free phases that are not of the network's layers."""
        states = self._state.particles
        if states is None:
            return
        widths, rows = [p.shape[1] for p in network.new_particles(0)], {p.shape[:1] for p in states}
        if [p.shape[1:] for p in states] != [(n,) for n in widths] or len(rows) != 1:
            raise ValueError("shape of the persistent or carried states is wrong")
        if any(p.dtype != network.dtype or not np.isfinite(p).all() for p in states):
            raise ValueError("persistent or carried states are not finite, or of another dtype")

    def _check_loaded_counters(self, state):
        position, epochs = state.position, state.epoch
        counted = len(state.loss_curve) == epochs and state.no_improvement <= epochs
        if not counted or max(len(state.validation_scores), len(state.angle_curve)) > epochs:
            raise ValueError("the counters and the curves do not fit together")
        if position is not None and (position.batches - 1) * position.batch_size >= position.n_rows:
            raise ValueError("the position in the epoch is behind its end")
        told, scored = state.unanswered, not self.early_stopping or state.validation_scores
        if told is not None:
            whole = epochs and scored and position is None and told.stats.n_samples
            if not whole or len(told.rates) != len(self.coefs_):
                raise ValueError("counters: unanswered is wrong")

    def _check_continued(self, network):
        """Refuse parameters with which the fitted network cannot go on."""
        fitted = "auto" if hasattr(self, "input_scale_") else None
        if self.input_scaling != fitted:
            raise ValueError(
                f"input_scaling={self.input_scaling!r} differs from the fitted {fitted!r}; refit with "
                "warm_start=False"
            )
