"""Labels and real numbers to output targets and back: where classifiers and regressors differ."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_matrix, issparse
from scipy.special import softmax
from sklearn.base import ClassifierMixin, RegressorMixin, _fit_context
from sklearn.metrics import accuracy_score, r2_score
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.class_weight import compute_class_weight, compute_sample_weight
from sklearn.utils.multiclass import _check_partial_fit_first_call, type_of_target, unique_labels
from sklearn.utils.validation import column_or_1d

from .. import auto
from ..kernels.spec import UNIT_RANGE


class ClassifierTargets(ClassifierMixin):
    """One output unit per class or label; a single one for two classes under squared error.

    Parameters
    ----------
    class_weight : dict, "balanced" or None
        Weights of the classes, multiplied into `sample_weight`; "balanced": inverse to their
        frequency.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    """

    _parameter_constraints: dict = {"class_weight": [None, dict, StrOptions({"balanced"})]}

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y, sample_weight=None, classes=None):
        """One epoch over the given data.

        Parameters
        ----------
        X
            As of `fit`.
        y : array-like of shape (n_samples,) or (n_samples, n_labels)
        sample_weight : array-like of shape (n_samples,) or None
        classes : array-like or None
            All classes; needed at the first call (not for multilabel y).

        Returns
        -------
        self
        """
        return self._fit(X, y, sample_weight, incremental=True, classes=classes)

    def _validate_targets(self, X, y, keep_classes, first):
        X, y = self._validate_x(X, first, y, multi_output=True)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        if first and not keep_classes or not hasattr(self, "_label_binarizer"):
            self._label_binarizer = LabelBinarizer().fit(y)
            self.classes_ = self._label_binarizer.classes_
        else:
            self._check_labels(y, keep_classes)
        if self._cost.word == "cross_entropy" and not self._exclusive_classes():
            raise ValueError(
                "cost='cross_entropy' is a softmax over exclusive classes; y is multilabel"
            )
        return X, y

    def _check_labels(self, y, keep_classes):
        classes = unique_labels(y)
        if not keep_classes and set(classes) != set(self.classes_):
            raise ValueError(
                "warm_start can only be used where `y` has the same classes as in the previous call to fit. "
                f"Previously got {self.classes_}, `y` has {classes}"
            )
        unknown = np.setdiff1d(classes, self.classes_)
        if len(unknown):
            raise ValueError(
                f"`y` has classes not in `self.classes_`: {unknown}; known are {self.classes_}"
            )

    def _encode_targets(self, y, row_weight, first, streams=False):
        target = self._label_binarizer.transform(y)
        if target.shape[1] == 1 and self._cost.word == "cross_entropy" and len(self.classes_) == 2:
            return np.hstack([1 - target, target])  # a softmax needs both
        return target

    def _row_weights(self, X, y, sample_weight, incremental):
        weight = super()._row_weights(X, y, sample_weight, incremental)
        if self.class_weight is None:
            return weight
        if incremental and self.class_weight == "balanced":
            raise ValueError(
                "class_weight='balanced' is not supported by partial_fit; pass the weights as a dict, see "
                "sklearn.utils.class_weight.compute_class_weight"
            )
        by_class = self._weight_of_class(y)
        if not (np.isfinite(by_class).all() and (by_class >= 0).all()):
            raise ValueError(
                f"class_weight must hold finite weights >= 0, got {self.class_weight!r}"
            )
        by_class = by_class.astype(np.dtype(self.dtype))
        return by_class if weight is None else weight * by_class

    def _weight_of_class(self, y):
        """Class weight of each row, by the classes of the model: a batch need not hold them all."""
        if y.ndim == 2 or not isinstance(self.class_weight, dict):
            return compute_sample_weight(self.class_weight, y)
        weight = compute_class_weight(self.class_weight, classes=self.classes_, y=self.classes_)
        return weight[np.searchsorted(self.classes_, y)]

    def _exclusive_classes(self):
        return not self._label_binarizer.y_type_.startswith("multilabel")

    def _binary(self):
        return len(self.classes_) == 2 and self._exclusive_classes()

    def _decision(self, outputs):
        """Decision values: 1-D with threshold 0 for two classes, else one column per class."""
        if self._binary():
            return outputs[:, 0] - 0.5 if outputs.shape[1] == 1 else outputs[:, 1] - outputs[:, 0]
        return outputs

    def _labels(self, outputs):
        if self._binary():
            return self.classes_[(self._decision(outputs) > 0).astype(int)]
        if len(self.classes_) == 1:
            return np.repeat(self.classes_, len(outputs))
        if not self._exclusive_classes():
            return self._label_binarizer.inverse_transform(outputs, threshold=0.5)
        return self.classes_[outputs.argmax(axis=1)]

    def _score_outputs(self, outputs, y, sample_weight):
        return accuracy_score(
            y, self._labels(outputs.astype(np.float64)), sample_weight=sample_weight
        )

    def decision_function(self, X, *, relax=True):
        """Output states of the free phase.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        relax : bool, default=True
            False: what the pass upwards says, without relaxation; where `Relaxation.start` is
            "feedforward" or, as it should be for this, `Recognition`.

        Returns
        -------
        ndarray of float64, (n_samples,) for two classes (> 0: ``classes_[1]``), else (n_samples,
        n_classes)
        """
        return self._decision(self._outputs(X, relax))

    def predict(self, X, *, relax=True):
        """Class of the largest output (multilabel: every output above 1/2).

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        relax : bool, default=True
            False: what the pass upwards says, without relaxation; where `Relaxation.start` is
            "feedforward" or, as it should be for this, `Recognition`.

        Returns
        -------
        ndarray, (n_samples,) or (n_samples, n_labels)
        """
        return self._labels(self._outputs(X, relax))

    def predict_proba(self, X, *, relax=True):
        """Class probabilities.

        Under ``cost="cross_entropy"`` the softmax that is trained. Under squared error the outputs
        estimate the probabilities themselves: they are clipped to be non-negative and normalised
        (output activations that are not confined to [0, 1] go through a softmax of the outputs,
        whose argmax is that of `predict`).

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        relax : bool, default=True
            False: what the pass upwards says, without relaxation; where `Relaxation.start` is
            "feedforward" or, as it should be for this, `Recognition`.

        Returns
        -------
        ndarray of float64, shape (n_samples, n_classes)
        """
        outputs = self._outputs(X, relax)
        if self.out_activation_ == "softmax":
            return softmax(outputs, axis=1)
        if not self._exclusive_classes():
            return np.clip(outputs, 0, 1)
        if len(self.classes_) == 1:
            return np.ones((len(outputs), 1))
        if self._binary():
            p = np.clip(outputs[:, 0], 0, 1)
            return np.column_stack([1 - p, p])
        if self.out_activation_ not in UNIT_RANGE:
            return softmax(outputs, axis=1)
        p = np.maximum(outputs, 0) + np.finfo(np.float32).tiny  # an all-zero row becomes uniform
        return p / p.sum(axis=1, keepdims=True)

    def predict_log_proba(self, X, *, relax=True):
        """Logarithm of `predict_proba`, same shape; -inf where a probability is 0."""
        with np.errstate(divide="ignore"):
            return np.log(self.predict_proba(X, relax=relax))

    def _first_partial_fit(self, y, classes):
        """Fix the classes at the first partial_fit."""
        if _check_partial_fit_first_call(self, classes):
            labels = y if type_of_target(y).startswith("multilabel") else classes
            self._label_binarizer = LabelBinarizer().fit(labels)
            self.classes_ = self._label_binarizer.classes_

    # ---- in a checkpoint ----

    def _target_type(self):
        sparse = " sparse" if self._label_binarizer.sparse_input_ else ""
        return self._label_binarizer.y_type_ + sparse

    def _target_arrays(self, archive):
        """Kinds of dtype and shape of what a file has besides the network's arrays."""
        _, shape = archive.look("classes_")
        if len(shape) != 1 or not 1 <= shape[0] <= self.n_outputs_ + 1:
            raise ValueError(
                f"classes_ has the shape {shape}, the network {self.n_outputs_} outputs"
            )
        return {"classes_": ("biufU", shape)}

    def _restore_targets(self, target_type):
        """The label binarizer of the run, from `classes_`."""
        classes, labels = self.classes_, self.classes_
        if target_type in ("multilabel-indicator", "multilabel-indicator sparse"):
            labels = np.repeat([[0], [1]], len(classes), axis=1)
            labels = csr_matrix(labels) if target_type.endswith("sparse") else labels
            right = classes.dtype.kind in "iu" and np.array_equal(classes, np.arange(len(classes)))
        else:
            right = classes.dtype.kind != "f" or np.isfinite(classes).all()
            right = right and np.array_equal(np.unique(classes), classes)
        if not right:
            raise ValueError("classes_ must be finite, sorted and each there once")
        self._label_binarizer = LabelBinarizer().fit(labels)
        needed = self._encode_targets(labels[:1], None, False).shape[1]
        if self._target_type() != target_type or needed != self.n_outputs_:
            raise ValueError(f"classes_ need {needed} outputs, the network has {self.n_outputs_}")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


class RegressorTargets(RegressorMixin):
    """One output unit per target, trained on standardised targets.

    Mean and scale of y (weighted by sample_weight) are those of the first `fit` and stay fixed under
    warm_start; `partial_fit` takes those of all rows that it has seen. `loss_` is in standardised
    units.
    """

    def _validate_targets(self, X, y, keep_classes, first):
        if issparse(y):
            raise ValueError("y must be a dense array, got a sparse one")
        X, y = self._validate_x(X, first, y, multi_output=True, y_numeric=True)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        return X, y.astype(np.float64)

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y, sample_weight=None):
        """One epoch over the given data; mean and scale of y are those of all rows so far.

        Parameters
        ----------
        X
            As of `fit`.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : array-like of shape (n_samples,) or None

        Returns
        -------
        self
        """
        return self._fit(X, y, sample_weight, incremental=True)

    def _noise(self, X, y, weight):
        return auto.unexplained(X, y, weight)

    def _encode_targets(self, y, row_weight, first, streams=False):
        y = y.reshape(len(y), -1)
        if not first and y.shape[1] != len(self._y_mean):
            raise ValueError(f"y has {y.shape[1]} outputs, the fitted network {len(self._y_mean)}")
        if streams and not first:
            target = (y - self._y_mean) / self._y_scale
            if not np.isfinite(target.astype(self.dtype)).all():
                return target  # which is refused, and leaves mean and spread alone
        if first or streams:
            self._follow_targets(y, row_weight, first)
        return (y - self._y_mean) / self._y_scale

    def _follow_targets(self, y, row_weight, first):
        """Mean and spread of all targets so far."""
        seen = float(len(y) if row_weight is None else np.sum(row_weight, dtype=np.float64))
        with np.errstate(over="ignore", invalid="ignore"):
            mean = np.average(y, axis=0, weights=row_weight)
            # in parts of the largest: squares of very large or small numbers leave float64
            largest = np.abs(y - mean).max(axis=0)
            part = (y - mean) / np.where(largest > 0, largest, 1.0)
            spread = largest * np.sqrt(np.average(part**2, axis=0, weights=row_weight))
            if not first:
                before, old, apart = self._y_seen[0], self._y_mean, mean - self._y_mean
                share = seen / (before + seen)
                spread = np.hypot(
                    np.hypot(np.sqrt(1 - share) * self._y_spread, np.sqrt(share) * spread),
                    np.sqrt(share * (1 - share)) * np.abs(apart),
                )
                mean, seen = old + share * apart, before + seen
        if not (np.isfinite(spread).all() and np.isfinite(mean).all()):
            raise ValueError("y is too large: its mean or standard deviation is not finite")
        self._y_mean, self._y_spread, self._y_seen = mean, spread, np.array([seen])
        varies = spread > 10 * np.finfo(np.float64).eps * np.abs(mean)
        self._y_scale = np.where(varies, spread / self._amplitude, 1.0)

    def _target_type(self):
        return None

    def _target_arrays(self, archive):
        moments = dict.fromkeys(("_y_mean", "_y_scale", "_y_spread"), ("f", (self.n_outputs_,)))
        return {**moments, "_y_seen": ("f", (1,))}

    def _restore_targets(self, target_type):
        moments = [self._y_mean, self._y_scale, self._y_spread, self._y_seen]
        if target_type is not None or {a.dtype for a in moments} != {np.dtype("float64")}:
            raise ValueError("_y_mean and _y_scale must be float64, without target_type")
        if not all(np.isfinite(a).all() for a in moments) or (self._y_scale <= 0).any():
            raise ValueError("_y_mean and _y_scale must be finite, and _y_scale > 0")
        if (self._y_spread < 0).any() or not self._y_seen[0] > 0:
            raise ValueError("_y_spread must be >= 0, and _y_seen > 0")

    def _values(self, outputs):
        values = outputs.astype(np.float64) * self._y_scale + self._y_mean
        return values[:, 0] if values.shape[1] == 1 else values

    def _score_outputs(self, outputs, y, sample_weight):
        return r2_score(y, self._values(outputs), sample_weight=sample_weight)

    def predict(self, X, *, relax=True):
        """Predicted targets.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        relax : bool, default=True
            False: what the pass upwards says, without relaxation; where `Relaxation.start` is
            "feedforward" or, as it should be for this, `Recognition`.

        Returns
        -------
        ndarray of float64, (n_samples,) or (n_samples, n_outputs)
        """
        return self._values(self._outputs(X, relax))
