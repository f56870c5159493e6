"""Checkpoints: `load_checkpoint` gives a model that predicts and trains on, or a CheckpointError.

Bytes of files, and well-formed archives whose members, JSON fields or directory entries were
changed.
"""

import copy
import functools
import io
import json
import os
import tempfile
import warnings
import zipfile

import numpy as np

from eqprop_fast.training.checkpoint import CheckpointError

from ..kinds import KINDS, small
from .common import corpus, mutate, run_inputs

N_FEATURES = 3
NASTY = (
    None,
    True,
    False,
    0,
    -1,
    2**31,
    2**63,
    2**128,
    10**400,
    0.5,
    -0.5,
    1e308,
    float("inf"),
    float("-inf"),
    float("nan"),
    "",
    "x",
    "predict",
    "/tmp/x",
    "\0",
    [],
    {},
    [[]],
    [0],
    {"tuple": 3},
    {"dict": [[1]]},
    {"dict": [[[], 1]]},
    {"object": "os", "params": {}},
    [1, "a"],
    {"a": {"a": []}},
)
DTYPES = ("<f8", "<f4", ">f4", "<i8", "|b1", "<U3", "|S3", "<c8", "<f2")


def problem(kind):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(24, N_FEATURES)).astype(np.float32)
    regressor = "Regressor" in kind.__name__
    return x, rng.normal(size=24) if regressor else np.array(["a", "b", "c"])[np.arange(24) % 3]


@functools.cache
def seeds():
    """Files of small models that differ in what they hold, each with its class."""
    found = []
    for kind in KINDS:
        options = (
            dict(),
            dict(early_stopping=True, n_iter_no_change=1),
            dict(solver="momentum", dtype="float64"),
        )
        for option in options:
            model = kind(small(kind), max_iter=2, random_state=0, backend="numpy", **option)
            with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
                warnings.simplefilter("ignore")
                path = os.path.join(folder, "a.npz")
                model.fit(*problem(kind)).save_checkpoint(path)
                with open(path, "rb") as file:
                    found.append(file.read())
    return found


def check(data):
    """True if one of the classes took the file; AssertionError for a verdict that is not
    documented.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "a.npz")
        with open(path, "wb") as file:
            file.write(data)
        accepted = [kind for kind in KINDS if _accepts(kind, path)]
        assert os.listdir(folder) == ["a.npz"]
    assert len(accepted) <= 1
    return bool(accepted)


def _accepts(kind, path):
    try:
        model = kind.load_checkpoint(path)
    except CheckpointError:
        return False
    assert model.checkpoint is None and model.callbacks is None and model.backend == "auto"
    assert not callable(vars(model).get("predict", None)) and "predict" not in vars(model)
    given = {k: v for k, v in model.get_params().items() if k not in ("max_iter", "random_state")}
    if any(given == {**kind().get_params(), **option} for option in _options()):
        x, y = problem(kind)
        assert model.set_params(backend="numpy").predict(x).shape == (len(x),)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.set_params(max_iter=model.n_iter_ + 1).resume(x, y)
    return True


def _options():
    base = {"hidden_layer_sizes": (4,)}
    return (
        base,
        {**base, "early_stopping": True, "n_iter_no_change": 1},
        {**base, "solver": "momentum", "dtype": "float64"},
    )


def members(data):
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}


def archive_of(files, compression=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a name twice
        for name, content in files:
            archive.writestr(name, content)
    return file.getvalue()


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def change_json(rng, value):
    """`value` with one random node replaced, removed or added."""
    root = {"": copy.deepcopy(value)}
    holder, node = root, ""
    while isinstance(holder[node], (dict, list)) and holder[node] and rng.random() < 0.85:
        holder = holder[node]
        keys = list(holder) if isinstance(holder, dict) else range(len(holder))
        node = keys[int(rng.integers(0, len(keys)))]
    kind, nasty = rng.integers(0, 6), NASTY[int(rng.integers(0, len(NASTY)))]
    if kind == 0 and holder is not root:
        del holder[node]
    elif kind == 1 and isinstance(holder, dict) and holder is not root:
        holder["predict"] = nasty
    elif kind == 2 and isinstance(holder[node], list) and holder[node]:
        holder[node] = holder[node] + [nasty]
    else:
        holder[node] = nasty
    return root[""]


def change_array(rng, content):
    """An .npy file with other values, another type, shape or order, or another header."""
    array = np.load(io.BytesIO(content))
    kind = rng.integers(0, 6)
    if kind == 0 and array.dtype.kind == "f" and array.size:
        nasty = (np.nan, np.inf, -np.inf, -1.0, 1e30, 0.0)
        array.reshape(-1)[int(rng.integers(0, array.size))] = nasty[int(rng.integers(0, 6))]
    elif kind == 1:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                array = array.astype(DTYPES[int(rng.integers(0, len(DTYPES)))])
            except ValueError:
                array = np.zeros(array.shape, "|b1")
    elif kind == 2:
        array = (
            np.asfortranarray(array) if array.ndim > 1 and rng.random() < 0.5 else array[..., None]
        )
    elif kind == 3:
        array = array[: len(array) // 2] if array.ndim else array.reshape(1, 1)
    elif kind == 4:
        return content.replace(b"(", b"(" + b"99999999999, " * int(rng.integers(1, 4)), 1)
    else:
        return mutate(rng, content)
    return npy(array)


def change_archive(rng, data):
    files = list(members(data).items())
    at = int(rng.integers(0, len(files)))
    name, content = files[at]
    kind = rng.integers(0, 10)
    if kind < 4:
        at = next(i for i, (n, _) in enumerate(files) if n == "meta.npy")
        meta = change_json(rng, json.loads(str(np.load(io.BytesIO(files[at][1])))))
        files[at] = "meta.npy", npy(np.array(json.dumps(meta)))
    elif kind < 7:
        files[at] = name, change_array(rng, content)
    elif kind == 7:
        del files[at]
    elif kind == 8:
        names = "extra.npy", name, "best/0.npy", "../x.npy", "meta"
        files.append((names[int(rng.integers(0, 5))], content))
    else:
        changed = bytearray(
            archive_of(files, rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))
        )
        directory = changed.index(b"PK\1\2") + int(rng.integers(4, 46))
        changed[directory] = int(rng.integers(0, 256))
        return bytes(changed)
    return archive_of(files)


def run(seconds, seed):
    models, found = seeds(), list(corpus("checkpoints").values())

    def make(rng):
        if found and rng.random() < 0.1:
            return mutate(rng, found[int(rng.integers(0, len(found)))])
        data = models[int(rng.integers(0, len(models)))]
        return mutate(rng, data) if rng.random() < 0.3 else change_archive(rng, data)

    return run_inputs("checkpoints", seconds, seed, make, check)
