"""A fitted network that is ready to predict, kept from call to call: small calls cost little."""

from __future__ import annotations

import operator
from threading import Lock
from weakref import WeakKeyDictionary

import numpy as np
from scipy.sparse import issparse
from sklearn.base import BaseEstimator

from ..relaxation import kernel_tol
from ..training.checkpoint import RECOGNITION

KEPT = WeakKeyDictionary()  # by estimator, which a prediction must leave as it is
_MAY_CHANGE = (np.ndarray, dict)
_NESTED = (BaseEstimator, list, tuple, *_MAY_CHANGE)
_LISTS = ("coefs_", "intercepts_", "feedback_coefs_", *RECOGNITION)


def what_it_is_made_of(estimator):
    """All that a fitted network depends on, to be compared by identity; None: it cannot be told."""
    own, made_of = estimator.__dict__, []
    for name in estimator._get_param_names():
        value = own[name]
        if not isinstance(value, _NESTED):
            made_of.append(value)
        elif not _unfold(value, made_of):
            return None
    for name in _LISTS:
        made_of.extend(own.get(name) or ())
    made_of.append(own.get("_auto"))
    return made_of


def _unfold(value, made_of):
    """Add what lists and parts hold; False: there is something that may change within, unseen."""
    if isinstance(value, _MAY_CHANGE):
        return False
    part = isinstance(value, BaseEstimator)
    made_of.append(value if part else None)
    for inner in value.__dict__.values() if part else value:
        if not isinstance(inner, _NESTED):
            made_of.append(inner)
        elif not _unfold(inner, made_of):
            return False
    return True


class ReadyNetwork:
    """A checked network, the numbers of its free phase, and the fast way for one row."""

    def __init__(self, made_of, network, free):
        self._made_of, self.network, self.free = made_of, network, free
        self._prepared, self._calls, self._lock = None, 0, Lock()

    def made_of(self, now):
        mine = self._made_of
        if mine is None or now is None or len(mine) != len(now):
            return False
        return all(map(operator.is_, mine, now))

    def one_row(self, X):
        """Outputs and residual of a single dense row; None: there is no fast way for it."""
        if X.shape[0] != 1 or issparse(X) or not self._lock.acquire(blocking=False):
            return None  # the arrays are another thread's for now
        try:
            self._calls += 1
            if self._calls == 2:  # the first goes through the checks
                self._prepared = self.network.one_row(self.free.n_steps, kernel_tol(self.free.tol))
            return None if self._prepared is None else self._prepared(X)
        finally:
            self._lock.release()
