"""X and labels of a generative estimator, checked and as its machine takes them."""

from __future__ import annotations

import numpy as np
from scipy.sparse import issparse
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import column_or_1d, validate_data


class InputMixin:
    """For `GenerativeEstimator`."""

    def _checked(self, X, reset=False, missing=False):
        X = validate_data(
            self,
            X,
            accept_sparse="csr",
            reset=reset,
            dtype=(np.float64, np.float32),
            ensure_all_finite="allow-nan" if missing else True,
        )
        if issparse(X):
            X.sum_duplicates()
        if self.input_scaling == "minmax":
            return X if reset else self._scaled(X)
        numbers = X.data if issparse(X) else X
        low, high = (np.nanmin(numbers), np.nanmax(numbers)) if numbers.size else (0, 0)
        if low < 0 or high > 1:
            raise ValueError(
                f"X must lie in [0, 1], for its units are Bernoulli's; it has values from {low:g} to "
                f"{high:g}: scale it, or let input_scaling='minmax'"
            )
        return X

    def _find_scale(self, X):
        if self.input_scaling != "minmax":
            return
        low, high = X.min(axis=0), X.max(axis=0)
        if issparse(X):
            low, high = low.toarray().ravel(), high.toarray().ravel()
            if (low < 0).any():
                raise ValueError("input_scaling='minmax' of sparse X: it has negative numbers")
            low = np.zeros_like(low)
        span = high - low
        self.input_min_, self.input_range_ = low, np.where(span > 0, span, 1)

    def _scaled(self, X):
        low, span = (a.astype(X.dtype) for a in (self.input_min_, self.input_range_))
        if issparse(X):
            X = X.multiply(1 / span).tocsr()
            X.data = np.clip(X.data, 0, 1)
            return X
        return np.clip((X - low) / span, 0, 1)

    def _unscaled(self, X):
        if self.input_scaling != "minmax":
            return X
        return (X * self.input_range_ + self.input_min_).astype(X.dtype)

    def _labels(self, y, classes, n_samples, first):
        """Which rows of the identity the labels are; None without labels."""
        if first:
            vars(self).pop("classes_", None)
        if not first and self.use_labels != hasattr(self, "classes_"):
            raise ValueError("use_labels cannot change between calls of partial_fit")
        if not self.use_labels:
            return None
        if y is None:
            raise ValueError("y is needed: use_labels=True")
        y = column_or_1d(y, warn=True)
        if len(y) != n_samples:
            raise ValueError(f"X and y must have equally many rows, got {n_samples} and {len(y)}")
        if not hasattr(self, "classes_"):
            if type_of_target(y) not in ("binary", "multiclass"):
                raise ValueError(f"use_labels=True: y must hold classes, got {type_of_target(y)}")
            self.classes_ = np.unique(y) if classes is None else np.unique(classes)
        return self._places(y, "y")

    def _places(self, y, name):
        place = np.searchsorted(self.classes_, y)
        place = np.minimum(place, len(self.classes_) - 1)
        unknown = np.unique(np.asarray(y)[self.classes_[place] != y])
        if len(unknown):
            raise ValueError(f"{name} has classes that are not known: {unknown}")
        return place

    def _one_hot(self, place, dtype):
        return np.eye(len(self.classes_), dtype=dtype)[place]

    def _dense(self, X):
        """X as the machine's layer 0 takes it."""
        X = X.toarray() if issparse(X) else X
        return np.ascontiguousarray(X, self.biases_[0].dtype)
