"""Small objects as parameters: dynamics, relaxation, learning rule and their like, and the words
for them.

A part is read, swapped and searched over on its own, as the kernels of scikit-learn's Gaussian
processes are: ``EqPropClassifier(learning_rule=EP(beta=0.1))``, ``learning_rule__beta`` in a grid.
A word ("ep") stands for the part at its defaults.
"""

from __future__ import annotations

from functools import cache
from numbers import Integral

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval

from .auto import AUTO

MAX_FLOAT = int(np.finfo(np.float64).max)  # an int: floats do not compare with integers beyond

# names of the parameters that every estimator has
RULE, RELAXATION = "learning_rule", "relaxation"


class Parameters(BaseEstimator):
    """Base of what has parameters: parts and the estimators that are made of them."""

    @classmethod
    @cache
    def _get_param_names(cls):  # asked at every call of an estimator; slow to find out
        return super()._get_param_names()

    def _keep(self, arguments):
        """A constructor's ``locals()`` as attributes of the same names: nothing else may happen
        there.
        """
        for name, value in arguments.items():
            if name not in ("self", "__class__"):
                setattr(self, name, value)


class Part(Parameters):
    """Base of the parts. Of one class and with equal parameters they are equal."""

    _parameter_constraints: dict = {}
    _factors = ()  # parameters that multiply something, and so must be numbers of the working dtype

    def __eq__(self, other):
        if type(self) is not type(other):
            return NotImplemented
        mine, others = self.get_params(deep=False), other.get_params(deep=False)
        return all(same_value(value, others[name]) for name, value in mine.items())

    __hash__ = None

    def _validate_params(self):
        check_numbers(self)
        super()._validate_params()

    def validate(self):
        """Raise a ValueError that names the first parameter out of range."""
        self._validate_params()

    def settled(self, **values):
        """A copy in which these parameters are what "auto" means, where they are "auto"."""
        own = self.get_params(deep=False)
        return type(self)(**{k: values[k] if same_value(v, AUTO) else v for k, v in own.items()})


def check_numbers(owner):
    """Refuse what scikit-learn's intervals let through: True for 1, and integers beyond float64."""
    for name, value in owner.get_params(deep=False).items():
        if any(
            isinstance(option, Interval) for option in owner._parameter_constraints.get(name, ())
        ):
            large = isinstance(value, Integral) and abs(value) > MAX_FLOAT
            if large or isinstance(value, (bool, np.bool_)):
                raise ValueError(f"{name} must be a number of float64, got {value!r:.40}")


def same_value(a, b):
    """Whether two parameters are equal, whatever they are: parts, numbers, lists, arrays."""
    if isinstance(a, Part) or isinstance(b, Part):
        return a == b
    if isinstance(a, dict) or isinstance(b, dict):
        return a == b
    return bool(np.array_equal(np.asarray(a, object), np.asarray(b, object)))


class HasParts(Parameters):
    """An estimator some of whose parameters are parts, or words for them."""

    # parameter: {word: what makes the part}, or {word: None} for a word that has no parameters of
    # its own
    _words: dict = {}

    def _part(self, name):
        """The part that a parameter is or names; None for a word without parameters."""
        value = getattr(self, name)
        if not isinstance(value, str):
            return value
        make = self._words[name][value]
        return None if make is None else make()

    def _validate_params(self):
        check_numbers(self)
        super()._validate_params()
        for part in self.get_params(deep=False).values():  # a word's part is valid
            if isinstance(part, Part):
                part.validate()

    def get_params(self, deep=True):
        """Parameters of this estimator and, as ``parameter__name``, of the parts among them.

        Parameters
        ----------
        deep : bool, default=True
            Whether to return those of the parts too; a word counts as the part that it stands for.

        Returns
        -------
        dict
        """
        params = super().get_params(deep=deep)
        if deep:
            for name, words in self._words.items():
                make = words.get(params[name]) if isinstance(params[name], str) else None
                if make is not None:
                    params.update({f"{name}__{key}": v for key, v in make().get_params().items()})
        return params

    def set_params(self, **params):
        """Set parameters of this estimator, and ``parameter__name`` of the parts among them.

        Parameters
        ----------
        **params
            Where a word stands for a part, ``parameter__name`` puts the part in its place. Whole
            parts are set before their parameters.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            There is no such parameter.
        """
        named = {key.partition("__")[0] for key in params if "__" in key}
        for name in named.intersection(self._words):
            value = params.get(name, getattr(self, name))
            if not isinstance(value, str):
                continue
            words = self._words[name]
            if value not in words:
                raise ValueError(f"{name} must be one of {sorted(words)}, got {value!r}")
            if words[value] is None:
                key = next(k for k in params if k.startswith(name + "__"))
                raise ValueError(f"{key}: {name}={value!r} has no parameters")
            params[name] = words[value]()
        return super().set_params(**params)


def part_classes(words):
    """The classes behind a table of `HasParts._words`: what a parameter in a file can be."""
    makers = [
        make
        for of_parameter in words.values()
        for make in of_parameter.values()
        if make is not None
    ]
    return tuple({type(make()) for make in makers})
