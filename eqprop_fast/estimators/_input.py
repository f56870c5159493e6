"""From a user's X to what the input units take: validation, centre and scale."""

from __future__ import annotations

import numpy as np
from scipy.sparse import issparse
from sklearn.utils.validation import assert_all_finite, validate_data

from .. import auto
from ..auto import AUTO
from ..training.checkpoint import SCALING
from ._checks import check_csr
from ._notices import say_no_spread, say_scales


class ScaledInput:
    """Validates X, learns its centre and scale at a first fit, and applies them."""

    _source_limit = np.inf  # of scaled inputs

    def _validate_x(self, X, reset, *y, **options):
        """X as C-contiguous array or CSR of the working dtype, uncopied if it already is; and y, if
        given.
        """
        if issparse(X) and X.format == "csr":
            check_csr(X)  # first: validation may sort the indices
        # what the dtype cannot hold is refused as infinite, not warned of
        with np.errstate(over="ignore"):
            if not reset and not y and not options and self._is_plain(X):
                plain = np.ascontiguousarray(X, self.dtype)
                if np.isfinite(plain).all():
                    return plain
            checked = validate_data(
                self,
                X,
                *y,
                reset=reset,
                accept_sparse="csr",
                dtype=np.dtype(self.dtype),
                order="C",
                **options,
            )
        return checked

    def _is_plain(self, X):
        """Whether scikit-learn would only convert X, once it had asked in 70 us what else it might
        be.
        """
        return (
            type(X) is np.ndarray
            and X.dtype.kind == "f"
            and X.ndim == 2
            and X.shape[0] > 0
            and X.shape[1] == getattr(self, "n_features_in_", None)
            and not hasattr(self, "feature_names_in_")
        )

    def _to_sources(self, X):
        """What the input units take of validated X: scaled, of the working dtype, C or CSR."""
        dtype = np.dtype(self.dtype)
        with np.errstate(over="ignore", invalid="ignore"):
            if hasattr(self, "input_scale_"):
                X = auto.scaled(X, self.input_center_, self.input_scale_, self._source_limit)
                X = X.astype(dtype)
                if not np.isfinite(X.sum()):  # or so many large ones that only the sum is not
                    assert_all_finite(X, input_name="X")
        return self._with_kernel_indices(X) if issparse(X) else X

    @staticmethod
    def _with_kernel_indices(X):
        if X.indices.dtype == np.int32 and X.indptr.dtype == np.int64:
            return X
        indices, indptr = X.indices.astype(np.int32), X.indptr.astype(np.int64)
        return type(X)((X.data, indices, indptr), shape=X.shape)

    def _look_at(self, X, y, weight):
        """Choose what depends on the data of a first fit."""
        for name in SCALING:
            self.__dict__.pop(name, None)
        centre, scale = self._centre_and_scale(X, weight)
        if scale is None:
            centre, scale = np.zeros(X.shape[1]), np.ones(X.shape[1])
            if self.input_scaling == AUTO:
                say_no_spread(X.shape[0])
        worst, ratio = auto.worst_scale(scale)
        if ratio > auto.SCALES_APART:
            names = getattr(self, "feature_names_in_", None)
            say_scales(scale, names, self.input_scaling, worst, ratio)
        if self.input_scaling == AUTO:
            self.input_center_, self.input_scale_ = centre, scale

    def _centre_and_scale(self, X, weight):
        return auto.centre_and_scale(X, weight)
