"""Checkpoints: one .npz that holds everything a run needs to continue bit for bit.

Written to a temporary file in the same folder, flushed to disk, then moved over the old one, so that a kill
at any moment leaves either the old or the new checkpoint. Read without pickle.
"""

from __future__ import annotations

import json
import os
import tempfile
import zipfile
import zlib
from dataclasses import fields

import numpy as np
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils.validation import check_is_fitted

from ..kernels import OptimizerState
from .state import RandomStreams, TrainingState

FORMAT = "eqprop_fast checkpoint"
VERSION = 1

_LISTS = ("coefs_", "intercepts_", "feedback_coefs_")  # fitted lists of arrays
_ARRAYS = ("classes_", "feature_names_in_", "_y_mean", "_y_scale")
_PLAIN = ("n_features_in_", "n_layers_", "n_outputs_", "out_activation_", "beta_")
_COUNTERS = (
    "split_seed", "epoch", "samples_seen", "n_updates", "rate_factor", "no_improvement", "loss_curve",
    "angle_curve", "best_loss", "validation_scores", "best_validation_score",
)


# what numpy, zipfile and json raise on files that are cut short or scrambled
_DAMAGE = (
    KeyError, ValueError, TypeError, OSError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError
)


class CheckpointError(ValueError):
    """A file that is no checkpoint of this class and version, or is damaged."""


def write_atomically(path, write):
    """Call ``write(file)`` on a temporary file, flush it to disk and move it to `path`."""
    path = os.fspath(path)
    folder = os.path.dirname(os.path.abspath(path))
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=os.path.basename(path) + ".", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise
    if hasattr(os, "O_DIRECTORY"):  # the rename itself must survive a power cut
        directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _encode(value):
    """Estimator parameters as JSON: tuples and dicts with any keys survive."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, tuple):
        return {"tuple": [_encode(v) for v in value]}
    if isinstance(value, list):
        return [_encode(v) for v in value]
    if isinstance(value, dict):
        return {"dict": [[_encode(k), _encode(v)] for k, v in value.items()]}
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"cannot be stored in a checkpoint: {value!r}")


def _decode(value):
    if isinstance(value, list):
        return [_decode(v) for v in value]
    if isinstance(value, dict):
        if "tuple" in value:
            return tuple(_decode(v) for v in value["tuple"])
        return {_decode(k): _decode(v) for k, v in value["dict"]}
    return value


def _storable(array):
    """(array without Python objects, whether it held them)."""
    if array.dtype != object:
        return array, False
    if not all(isinstance(v, str) for v in array.ravel()):
        raise TypeError("classes_ of mixed Python objects cannot be stored in a checkpoint")
    return array.astype(str), True


class CheckpointMixin:
    """`save_checkpoint` and `load_checkpoint` of the network estimators."""

    def save_checkpoint(self, path):
        """Write the fitted estimator with its optimiser, random streams and counters.

        Parameters
        ----------
        path : path-like
            Replaced atomically.

        Notes
        -----
        `callbacks` and a `random_state` given as a generator object are not stored (the state of the run's
        own random streams is).
        """
        check_is_fitted(self, "_state")
        state = self._state
        arrays, objects = {}, []
        for name in _LISTS:
            for i, a in enumerate(getattr(self, name, [])):
                arrays[f"{name}/{i}"] = a
        for name in _ARRAYS:
            if hasattr(self, name):
                arrays[name], was_object = _storable(np.asarray(getattr(self, name)))
                if was_object:
                    objects.append(name)
        groups = {
            "velocity": state.optimizer_state.velocity, "second": state.optimizer_state.second,
            "particles": state.particles, "best": state.best_snapshot,
            "last": state.last_snapshot,
        }
        for name, group in groups.items():
            for i, a in enumerate(group or []):
                arrays[f"{name}/{i}"] = a
        params = {k: v for k, v in self.get_params(deep=False).items() if k != "callbacks"}
        if isinstance(params["random_state"], np.random.RandomState):
            params["random_state"] = None
        meta = {
            "format": FORMAT,
            "version": VERSION,
            "class": type(self).__name__,
            "params": {k: _encode(v) for k, v in params.items()},
            "counters": {k: _encode(getattr(state, k)) for k in _COUNTERS},
            "streams": state.streams.state(),
            "plain": {k: getattr(self, k) for k in _PLAIN if hasattr(self, k)},
            "target_type": self._label_binarizer.y_type_ if hasattr(self, "_label_binarizer") else None,
            "objects": objects,
            "present": [name for name, group in groups.items() if group is not None],
        }
        arrays["meta"] = np.array(json.dumps(meta))
        write_atomically(path, lambda file: np.savez(file, **arrays))

    @classmethod
    def load_checkpoint(cls, path):
        """The estimator saved at `path`, ready to predict or to go on (`resume`, `partial_fit`,
        `warm_start`).

        Parameters
        ----------
        path : path-like

        Raises
        ------
        CheckpointError
            No checkpoint of this class and version, or a damaged one.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            meta = json.loads(str(arrays.pop("meta")))
            if meta["format"] != FORMAT or meta["version"] != VERSION or meta["class"] != cls.__name__:
                raise CheckpointError(
                    f"{path}: {meta['format']} version {meta['version']} of {meta['class']}, "
                    f"expected version {VERSION} of {cls.__name__}"
                )
            return cls._from_checkpoint(meta, arrays)
        except FileNotFoundError:
            raise
        except CheckpointError:
            raise
        except _DAMAGE as error:
            raise CheckpointError(f"{path}: damaged or not a checkpoint ({error})") from error

    @classmethod
    def _from_checkpoint(cls, meta, arrays):
        estimator = cls(**{k: _decode(v) for k, v in meta["params"].items()})

        def group(name):
            found = [a for key, a in arrays.items() if key.startswith(name + "/")]
            return [arrays[f"{name}/{i}"] for i in range(len(found))]

        for name in _LISTS:
            if group(name):
                setattr(estimator, name, group(name))
        for name in _ARRAYS:
            if name in arrays:
                value = arrays[name].astype(object) if name in meta["objects"] else arrays[name]
                setattr(estimator, name, value)
        for name, value in meta["plain"].items():
            setattr(estimator, name, value)
        if meta["target_type"] is not None:
            multilabel = meta["target_type"].startswith("multilabel")
            labels = np.eye(len(estimator.classes_), dtype=int) if multilabel else estimator.classes_
            estimator._label_binarizer = LabelBinarizer().fit(labels)
        estimator._state = TrainingState(
            RandomStreams.from_state(meta["streams"]),
            optimizer_state=OptimizerState(group("velocity"), group("second")),
            particles=group("particles") if "particles" in meta["present"] else None,
            best_snapshot=group("best") if "best" in meta["present"] else None,
            last_snapshot=group("last") if "last" in meta["present"] else None,
            **{k: _decode(v) for k, v in meta["counters"].items()},
        )
        estimator._check_loaded()
        estimator._publish(estimator._state)
        return estimator


assert set(_COUNTERS) < {f.name for f in fields(TrainingState)}
