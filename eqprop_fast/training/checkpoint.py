"""Checkpoints: one .npz that holds everything a run needs to continue bit for bit.

Written whole or not at all (`training.files`). Read without pickle, and member by member: which
there are, of which type and shape, follows from the layers before anything is read or built.
"""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from numbers import Integral, Real

import numpy as np
from sklearn.utils._param_validation import HasMethods, Interval
from sklearn.utils.validation import check_is_fitted

from .._archive import Archive
from ..docstrings import documented
from ..kernels import OptimizerState, TrainStats
from ..kernels.graph_spec import MAX_LAYERS
from ..kernels.interrupts import interrupt_afterwards
from ..parts import Part
from .files import write_atomically
from .parameters import LARGEST, decode_parameters, encode_parameters
from .state import EpochPosition, RandomStreams, TrainingState, Unanswered

__all__ = ["Checkpoint", "CheckpointError", "CheckpointMixin", "write_atomically"]

FORMAT = "eqprop_fast checkpoint"
VERSION = 3

RECOGNITION = ("recognition_coefs_", "recognition_intercepts_")  # learnt beside the parameters
_LISTS = ("coefs_", "intercepts_", "feedback_coefs_", *RECOGNITION)  # fitted lists of arrays
SCALING = ("input_center_", "input_scale_")  # of the input, float64
_ARRAYS = ("classes_", "feature_names_in_", "_y_mean", "_y_scale", "_y_spread", "_y_seen", *SCALING)
# by the fit of a class that lists them in its `_chosen`
_CHOSEN = ("beta_", "_auto", "input_shape_")
_PLAIN = ("n_features_in_", "n_layers_", "n_outputs_", "out_activation_", "batch_size_", *_CHOSEN)
_GROUPS = ("velocity", "second", "particles", "best", "last")
_META = {
    "format",
    "version",
    "class",
    "params",
    "counters",
    "streams",
    "plain",
    "target_type",
    "objects",
    "present",
}
_ENDS = (None, "max_iter", "tol", "callback", "interrupted", "divergence", "error")


class CheckpointError(ValueError):
    """A file that is no checkpoint of this class and version, or is damaged."""


# ---- what the fields of the JSON part may be ----


def _integer(low=0, high=LARGEST):
    return lambda v: isinstance(v, int) and not isinstance(v, bool) and low <= v <= high


def _number(low=-np.inf, high=np.inf):
    return lambda v: isinstance(v, Real) and not isinstance(v, bool) and low <= v <= high


def _finite(v):
    return _number()(v) and np.isfinite(v)


def _list_of(check):
    return lambda v: isinstance(v, list) and all(check(item) for item in v)


def _one_of(*values):
    return lambda v: any(v is option or (isinstance(v, str) and v == option) for option in values)


def _record(**checks):
    return lambda v: (
        isinstance(v, dict)
        and set(v) == set(checks)
        and all(check(v[name]) for name, check in checks.items())
    )


def _angle(v):
    return isinstance(v, float) and (v != v or 0 <= v <= 180)  # NaN: of weights that are all 0


_STREAMS = _record(
    **{
        name: _record(
            bit_generator=_one_of("PCG64"),
            state=_record(
                state=_integer(0, 2**128 - 1),
                inc=lambda v: _integer(0, 2**128 - 1)(v) and v % 2 == 1,
            ),
            has_uint32=_integer(0, 1),
            uinteger=_integer(0, 2**32 - 1),
        )
        for name in RandomStreams.NAMES
    }
)
_STATS = _record(
    **{f.name: _finite if f.name == "loss" else _integer() for f in fields(TrainStats)}
)
_POSITION = _record(
    n_rows=_integer(1), batch_size=_integer(1), batches=_integer(), streams=_STREAMS, stats=_STATS
)
_UNANSWERED = _record(
    stats=_STATS,
    rates=_list_of(lambda v: _finite(v) and v >= 0),
    seconds=lambda v: _finite(v) and v >= 0,
)
_COUNTERS = {
    "split_seed": _integer(0, 2**32 - 1),
    "epoch": _integer(),
    "samples_seen": _integer(),
    "n_updates": _integer(),
    "rate_factor": _number(0, 1),
    "no_improvement": _integer(),
    "loss_curve": _list_of(_finite),
    "angle_curve": _list_of(_list_of(_angle)),
    "best_loss": _number(),
    "validation_scores": _list_of(_finite),
    "best_validation_score": _number(),
    "position": lambda v: v is None or _POSITION(v),
    "unanswered": lambda v: v is None or _UNANSWERED(v),
    "ended": _one_of(*_ENDS),
}
_PLAIN_CHECKS = {
    "n_features_in_": _integer(1, 2**31 - 1),
    "n_layers_": _integer(2, MAX_LAYERS),
    "n_outputs_": _integer(1, 2**31 - 1),
    "out_activation_": lambda v: isinstance(v, str),
    "batch_size_": _integer(1, 2**31 - 1),
    "beta_": lambda v: _finite(v) and v > 0,
    "_auto": _record(
        weight_decay=_number(0, 1),
        over_relaxation=_number(1, 2),
        amplitude=lambda v: _number(0, 1)(v) and v > 0,
    ),
    "input_shape_": lambda v: _list_of(_integer(1, 2**31 - 1))(v) and len(v) in (1, 3),
}
assert set(_COUNTERS) < {f.name for f in fields(TrainingState)}


def _check(checks, values, what):
    """ValueError that names the field of `what` which is missing, unknown or wrong."""
    if not isinstance(values, dict):
        raise ValueError(f"{what} is wrong")
    for name in set(checks) ^ set(values):
        raise ValueError(f"{what}: {name[:100]!r} is {'unknown' if name in values else 'missing'}")
    for name, check in checks.items():
        if not check(values[name]):
            raise ValueError(f"{what}: {name} is wrong")


def _bounded_int(digits):
    if len(digits) > 40:  # states of random streams have 39
        raise ValueError("a number is too large")
    return int(digits)


def _read_meta(archive):
    text = archive.text("meta")
    try:
        meta = json.loads(text[0] if len(text) == 1 else "", parse_int=_bounded_int)
    except RecursionError:
        raise ValueError("meta is nested too deeply") from None
    if not isinstance(meta, dict) or not {"format", "version", "class"} <= set(meta):
        raise ValueError("meta is wrong")
    return meta


# ---- writing ----


def _state_groups(state):
    """The lists of arrays of a training state, as the file names them; None where there is none."""
    memory = state.optimizer_state
    groups = (
        memory.velocity,
        memory.second,
        state.particles,
        state.best_snapshot,
        state.last_snapshot,
    )
    return dict(zip(_GROUPS, groups))


def _storable(name, array):
    """(array without Python objects, whether it held them)."""
    if array.dtype != object:
        return array, False
    if not all(isinstance(v, str) and not v.endswith("\0") for v in array.ravel()):
        raise TypeError(f"{name} of other objects than text cannot be stored in a checkpoint")
    return array.astype(str), True


def _counter(state, name):
    value = getattr(state, name)
    return asdict(value) if isinstance(value, (EpochPosition, Unanswered)) else value


@documented
class Checkpoint(Part):
    """A file that a fit keeps up to date, for a run that is killed to go on from.

    Parameters
    ----------
    path : path-like
        As of `save_checkpoint`.
    every : int
        The file is written after so many epochs, and at the end.
    """

    _parameter_constraints: dict = {
        "path": [str, HasMethods("__fspath__")],
        "every": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(self, path="checkpoint.npz", *, every=1):
        self.path = path
        self.every = every


class CheckpointMixin:
    """`save_checkpoint` and `load_checkpoint` of the network estimators."""

    _parameter_objects = ()  # classes of which a parameter can be an object

    def save_checkpoint(self, path):
        """Write the fitted estimator with its optimiser, random streams and counters.

        Parameters
        ----------
        path : path-like
            Replaced atomically; a symbolic link is followed.

        Raises
        ------
        OSError
            The file cannot be written.
        ValueError
            Parameters were changed since the fit and no longer suit what was fitted.

        Notes
        -----
        `callbacks`, `checkpoint`, `backend`, `n_threads` and a `random_state` given as a generator
        object are not stored (the state of the run's own random streams is).
        """
        check_is_fitted(self, "_state")
        self._check_parameters_of_fit()
        state, arrays, objects = self._state, {}, []
        groups = _state_groups(state)
        for name, group in (
            *((name, getattr(self, name, None)) for name in _LISTS),
            *groups.items(),
        ):
            for i, a in enumerate(group or []):
                if a is not None:
                    arrays[f"{name}/{i}"] = a
        for name in _ARRAYS:
            if hasattr(self, name):
                arrays[name], was_object = _storable(name, np.asarray(getattr(self, name)))
                if was_object:
                    objects.append(name)
        meta = {
            "format": FORMAT,
            "version": VERSION,
            "class": type(self).__name__,
            "params": encode_parameters(self),
            "counters": {name: _counter(state, name) for name in _COUNTERS},
            "streams": state.streams.state(),
            "plain": {k: getattr(self, k) for k in _PLAIN if hasattr(self, k)},
            "target_type": self._target_type(),
            "objects": objects,
            "present": [name for name, group in groups.items() if group is not None],
        }
        arrays["meta"] = np.array(json.dumps(meta))
        with interrupt_afterwards():
            write_atomically(path, lambda file: np.savez(file, **arrays))

    def _check_storable(self):
        """Before anything is trained: refuse what `save_checkpoint` could not store."""
        try:
            encode_parameters(self)
            for name in _ARRAYS:
                if hasattr(self, name):
                    _storable(name, np.asarray(getattr(self, name)))
        except TypeError as error:
            raise ValueError(f"checkpoint={self._checkpoint.path!r}: {error}") from None

    # ---- reading ----

    def _array_shapes(self, archive):
        """Shapes of the fitted arrays of a file, by list, None where it has none; and the units of
        each layer above the input.
        """
        weights = [_shape(archive, f"coefs_/{k}", 2) for k in range(self.n_layers_ - 1)]
        units = [columns for _, columns in weights]
        shapes = {"coefs_": weights, "intercepts_": [(n,) for n in units]}
        if "feedback_coefs_/0" in archive.names:
            shapes["feedback_coefs_"] = [shape[::-1] for shape in weights]
        return shapes, units

    @classmethod
    def load_checkpoint(cls, path):
        """The estimator saved at `path`, ready to predict or to go on (`resume`, `partial_fit`,
        `warm_start`).

        `callbacks`, `checkpoint`, `backend` and `n_threads` are at their defaults, whatever they
        were in the run: `set_params` them before `resume`.

        Parameters
        ----------
        path : path-like

        Raises
        ------
        CheckpointError
            No checkpoint of this class and version, or a damaged one.
        FileNotFoundError
        """
        try:
            with Archive(path) as archive:
                return cls._from_archive(archive)
        except FileNotFoundError:
            raise
        except Exception as error:  # the file is to blame for whatever our checks or a library find
            raise CheckpointError(f"{path}: damaged or not a checkpoint ({error})") from error

    @classmethod
    def _from_archive(cls, archive):
        meta = _read_meta(archive)
        told = tuple(meta[k] for k in ("format", "version", "class"))
        if told != (FORMAT, VERSION, cls.__name__):
            what = "{} version {} of {}".format(*(str(v)[:100] for v in told))
            raise ValueError(f"{what}, expected version {VERSION} of {cls.__name__}")
        if set(meta) != _META:
            raise ValueError("meta is wrong")
        estimator = decode_parameters(cls, meta["params"], cls._parameter_objects)
        _check(_COUNTERS, meta["counters"], "counters")
        if not _STREAMS(meta["streams"]):
            raise ValueError("streams are wrong")
        left_out = set(_CHOSEN) - set(cls._chosen)
        plain = {k: v for k, v in _PLAIN_CHECKS.items() if k not in left_out}
        _check(plain, meta["plain"], "plain")
        for name, value in meta["plain"].items():
            setattr(estimator, name, tuple(value) if isinstance(value, list) else value)
        arrays = _read_arrays(archive, estimator, meta)
        estimator._restore(meta, arrays)
        estimator._check_loaded()
        estimator._publish(estimator._state)
        return estimator

    def _restore(self, meta, arrays):
        """Set what was fitted."""
        for name in _LISTS:
            if name in arrays:
                setattr(self, name, arrays[name])
        for name in _ARRAYS:
            if name in arrays:
                setattr(self, name, arrays[name])
        counters = dict(meta["counters"])
        if counters["position"] is not None:
            position = dict(counters["position"])
            position["stats"] = TrainStats(**position["stats"])
            counters["position"] = EpochPosition(**position)
        if counters["unanswered"] is not None:
            told = counters["unanswered"]
            counters["unanswered"] = Unanswered(
                TrainStats(**told["stats"]), tuple(told["rates"]), told["seconds"]
            )
        self._state = TrainingState(
            RandomStreams.from_state(meta["streams"]),
            optimizer_state=OptimizerState(arrays.get("velocity", []), arrays.get("second", [])),
            particles=arrays.get("particles"),
            best_snapshot=arrays.get("best"),
            last_snapshot=arrays.get("last"),
            **counters,
        )
        self._restore_targets(meta["target_type"])
        self._check_scaling()
        fitted = self.out_activation_
        self._keep_network(self._fitted_network(None))
        if self.out_activation_ != fitted:
            raise ValueError("plain: out_activation_ is wrong")

    def _check_scaling(self):
        if self.input_scaling is not None:
            centre, scale = (getattr(self, name) for name in SCALING)
            if {centre.dtype, scale.dtype} != {np.dtype("float64")}:
                raise ValueError("input_center_ and input_scale_ must be float64")
            if not (np.isfinite(centre).all() and np.isfinite(scale).all() and (scale > 0).all()):
                raise ValueError("input_center_ and input_scale_ must be finite, and scales > 0")


def _read_arrays(archive, estimator, meta):
    """Everything but `meta`; lists of arrays by name, and single arrays by name."""
    present, objects, counters = meta["present"], meta["objects"], meta["counters"]
    if not _list_of(_one_of(*_GROUPS))(present) or not _list_of(_one_of(*_ARRAYS))(objects):
        raise ValueError("present or objects is wrong")
    dtype = np.dtype(estimator.dtype)
    shapes, units = estimator._array_shapes(archive)
    parameters, beside = (
        [
            (0,) if s is None else s
            for name, group in shapes.items()
            for s in group
            if (name in RECOGNITION) == beside
        ]
        for beside in (False, True)
    )
    for name in ("velocity", "second"):
        if f"{name}/0" in archive.names:
            shapes[name] = parameters
    for name in ("best", "last"):
        if name in present:
            shapes[name] = parameters + beside
    if "particles" in present:
        rows = _shape(archive, "particles/0", 2)[0]
        shapes["particles"] = [(rows, n) for n in units]
    if ("second" in shapes and "velocity" not in shapes) or (
        "last" in shapes and "best" not in shapes
    ):
        raise ValueError("present is wrong")
    single = estimator._target_arrays(archive)
    if "feature_names_in_" in archive.names:
        single["feature_names_in_"] = "U", (estimator.n_features_in_,)
    if estimator.input_scaling is not None:
        single.update(dict.fromkeys(SCALING, ("f", (estimator.n_features_in_,))))
    wanted = {
        f"{name}/{i}": shape
        for name, group in shapes.items()
        for i, shape in enumerate(group)
        if shape is not None
    }
    for name in archive.names ^ {*wanted, *single, "meta"}:
        raise ValueError(f"{_words(name)} is {'unknown' if name in archive.names else 'missing'}")
    if "feedback_coefs_" in shapes and len(counters["angle_curve"]) > counters["epoch"]:
        raise ValueError("counters: angle_curve is wrong")
    for name, shape in wanted.items():  # all of them before the first is read
        if archive.look(name) != (dtype, shape):
            found = "{} of shape {}".format(*archive.look(name))
            raise ValueError(f"{_words(name)} is {found}, expected {dtype} of shape {shape}")
    read = {name: [None] * len(group) for name, group in shapes.items()}
    for name, shape in wanted.items():
        group, index = name.split("/")
        read[group][int(index)] = archive.read(name, dtype, shape)
    for name, (kinds, shape) in single.items():
        read[name] = _read_single(archive, name, kinds, shape, name in objects)
    return read


def _words(name):
    """A member's name for a message."""
    return f"{name[:100]!r}" + " (persistent or carried states)" * name.startswith("particles/")


def _shape(archive, name, n_dimensions):
    shape = archive.look(name)[1]
    if len(shape) != n_dimensions or 0 in shape:
        raise ValueError(f"{_words(name)} has the shape {shape}")
    return shape


def _read_single(archive, name, kinds, shape, as_objects):
    dtype, found = archive.look(name)
    if dtype.kind not in kinds or found != shape or not dtype.isnative:
        raise ValueError(f"{name} is {dtype} of shape {found}, expected shape {shape}")
    if dtype.kind == "U":
        words = archive.text(name)
        return np.array(words, object) if as_objects else np.array(words, dtype)
    if as_objects:
        raise ValueError(f"{name} is no text")
    return archive.read(name, dtype, shape)
