"""What an estimator says of a result that is of little use: nothing fails in silence."""

from __future__ import annotations

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning

UNSETTLED = 0.05  # share of samples; fewer are not worth a word
CHECKED_ROWS = 200  # of the training rows, evenly spaced


def say_unsettled(residual, free, when, stacklevel):
    """Warn if more than a few samples still moved after all steps of their free phase."""
    if free.tol is None or (residual <= free.tol).all():
        return
    share = np.mean(~(residual <= free.tol))
    if share > UNSETTLED:
        warnings.warn(
            f"{when}: {share:.0%} of the samples had not settled after relaxation__n_steps="
            f"{free.n_steps} steps (relaxation__tol={free.tol}); more steps, smaller weights or "
            "fewer layers help",
            ConvergenceWarning,
            stacklevel=stacklevel,
        )


def say_no_better(loss, unit, data, cost, classifies):
    """Warn if the training cost, in this unit, is not below that of one answer for all samples."""
    y = data.y[data.rows].astype(np.float64)
    weight = None if data.row_weight is None else data.row_weight[data.rows]
    mean = np.average(y, axis=0, weights=weight)
    if cost.word == "cross_entropy":
        best = -np.sum(mean * np.log(mean, where=mean > 0, out=np.zeros_like(mean)))
    else:
        best = 0.5 * np.average(((y - mean) ** 2).sum(axis=1), weights=weight)
    best *= cost.factor / unit
    if best > 0 and not loss < best:
        answer = "the shares of the classes" if classifies else "the mean of y"
        warnings.warn(
            f"nothing was learnt: the final loss of {loss:.3g} is no better than predicting "
            f"{answer} for every sample ({best:.3g}); try another learning_rate_init or fewer "
            "hidden layers",
            ConvergenceWarning,
            stacklevel=7,
        )


def say_scales(scale, names, input_scaling, worst, ratio):
    """Warn of features that lie far apart, and say what is done about it."""
    which = f"feature {worst}" if names is None else repr(names[worst])
    done = "each is centred and scaled" if input_scaling else "scale them before"
    warnings.warn(
        f"the features of X differ in scale by a factor of {ratio:.1g}; the worst is {which}, which "
        f"varies by about {scale[worst]:.1g}: {done} (input_scaling={input_scaling!r})",
        stacklevel=7,
    )


def say_no_spread(n_rows):
    """Warn that there was nothing to take centre and scale from."""
    why = "X has one row" if n_rows == 1 else "no feature of X varies"
    warnings.warn(
        f"input_scaling='auto': {why}, and so no scale: the input units take x as it is",
        stacklevel=7,
    )
