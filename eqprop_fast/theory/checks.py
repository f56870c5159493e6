"""What the checks share: model and data, a settled network, a sweep of halvings."""

from __future__ import annotations

import numpy as np

from ..dynamics import Continuous
from ..gradients.record import check_count
from .models import GraphModel, LayeredModel
from .presets import uniform_batch
from .values import check_dtype, check_positive, check_seed, check_sizes


def halvings(largest, n_halvings, name):
    """largest, largest / 2, ...: ``n_halvings + 1`` values.

    Raises
    ------
    ValueError
        `largest` not positive and finite, or fewer than one halving.
    """
    return check_positive(largest, name) / 2.0 ** np.arange(
        check_count(n_halvings, "n_halvings") + 1
    )


def by_dtype(value, dtype, double, single):
    """`value`, or if it is None the default for the dtype: float32 needs more to rise above
    rounding.
    """
    return value if value is not None else double if check_dtype(dtype) == np.float64 else single


def smooth_spec(sizes, dt=0.2):
    """Continuous dynamics with one energy, tanh, linear output, no clamp: everything the theorems
    ask for.
    """
    dynamics = Continuous(
        dt=dt, clamp=False, input_activation="tanh", prime_hidden=True, linear_output=True
    )
    return dynamics.spec(sizes, schedule="synchronous", activation="tanh", out_activation="tanh")


def model_and_data(
    model, x, y, sizes, n_samples, random_state, dtype, make_spec=smooth_spec, **parameters
):
    """The caller's model and data, or a random network of `sizes` on uniform inputs: smooth, or of
    another spec and with other `LayeredModel.random` parameters.
    """
    check_dtype(dtype)
    rng = np.random.default_rng(random_state)
    if model is None:
        sizes, n_samples = check_sizes(sizes), check_count(n_samples, "n_samples")
        model = LayeredModel.random(make_spec(sizes), rng, dtype=dtype, **parameters)
        if x is None and y is None:
            return model, *uniform_batch(n_samples, sizes[0], sizes[-1], rng, dtype)
    return model, *check_data(model, x, y)


def subject(model, x, y, sizes, n_samples, random_state, dtype, **of_random):
    """What a check looks at: the network and data of `model_and_data`, and the settings that name
    them.

    Returns
    -------
    model, x, y, settings
    """
    random_state, given = check_seed(random_state), (model, x)
    model, x, y = model_and_data(model, x, y, sizes, n_samples, random_state, dtype, **of_random)
    own = _drawn(*given, sizes, n_samples)
    return model, x, y, dict(own, random_state=random_state, dtype=np.dtype(model.dtype).name)


def _drawn(model, x, sizes, n_samples):
    """Settings of the network and data that a check draws: none of what the caller gives."""
    if model is not None:
        return {}
    return (
        dict(sizes=tuple(sizes)) if x is not None else dict(sizes=tuple(sizes), n_samples=n_samples)
    )


def settle(model, x, n_steps=100_000, tol=None):
    """Drive, free equilibrium and its residual; `tol` defaults to 100 eps of the dtype.

    Raises
    ------
    ArithmeticError
        The residual is still large after `n_steps`: no equilibrium, so no theorem to check.
    """
    tol = 100 * np.finfo(model.dtype).eps if tol is None else tol
    drive, states = model.drive(x), model.zeros(len(x))
    _, residual = model.relax(drive, states, n_steps, tol)
    worst = float(residual.max())
    if not worst <= max(1e-6, 10 * tol):
        raise ArithmeticError(
            f"the free phase did not settle: residual {worst:.3g} after {n_steps} steps"
        )
    return drive, states, worst


def check_layered(model):
    """Refuse a model whose parameters are not those of a `LayeredSpec`.

    Raises
    ------
    ValueError
    """
    if not isinstance(model, LayeredModel):
        raise ValueError(f"model must be a LayeredModel here, got a {type(model).__name__}")


def check_model(model):
    """Refuse what is no model.

    Raises
    ------
    ValueError
    """
    if not isinstance(model, (GraphModel, LayeredModel)):
        raise ValueError(
            f"model must be a LayeredModel or a GraphModel, got a {type(model).__name__}"
        )


def dtype_of(model, dtype):
    """The dtype of the caller's model, or of the one that is drawn without."""
    if model is None:
        return check_dtype(dtype)
    check_model(model)
    return model.dtype


def check_data(model, x, y):
    """`x` and `y` as arrays of the model's dtype: as many rows, and its first and last layer wide.

    Raises
    ------
    ValueError
    """
    if x is None or y is None:
        raise ValueError("x and y must be given together")
    x, y = (as_numbers(name, values, model.dtype) for name, values in (("x", x), ("y", y)))
    if len(x) != len(y) or not len(x):
        raise ValueError(f"x and y must have as many rows, at least 1, got {len(x)} and {len(y)}")
    if isinstance(model, GraphModel):
        ends = model.spec.layers[0].shape, model.spec.layers[-1].shape
    else:
        ends = model.spec.sizes[:1], model.spec.sizes[-1:]
    for name, array, end in (("x", x, ends[0]), ("y", y, ends[1])):
        if array.shape[1:] != tuple(end):
            wanted = ", ".join(map(str, end))
            raise ValueError(f"{name} must have shape (rows, {wanted}), got {array.shape}")
    return x, y


def as_numbers(name, values, dtype):
    """`values` as a finite array of rows.

    Raises
    ------
    ValueError
    """
    try:
        array = np.asarray(values, dtype)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be an array of numbers: {error}") from error
    if array.ndim < 2 or not np.isfinite(array).all():
        raise ValueError(
            f"{name} must be finite, with a row for each sample, got shape {array.shape}"
        )
    return array


def check_has_energy(spec):
    """Refuse dynamics that descend no energy.

    Raises
    ------
    ValueError
    """
    if spec.dynamics != "continuous":
        return
    if not spec.prime_hidden:
        raise ValueError(
            "prime_hidden=False: the leaky field without rho' is the gradient of no energy"
        )
    if spec.prime_output == spec.linear_output:
        raise ValueError(
            f"prime_output={spec.prime_output}, linear_output={spec.linear_output}: the output must either "
            "act as s and have no rho' (linear_output) or act as rho(s) and have it (prime_output); the "
            "mixture of 1905.13633's code is the gradient of no energy (docs/equations.md 1.4)"
        )
