"""make embedded-test: exported digits networks inside QEMU, held to Python: python -m
tests.embedded_targets.

On each target: 500 predictions, and the weights after 200 streamed samples, of each dtype, of a
layered, a convolutional and a resistive network.
"""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils._testing import ignore_warnings

from eqprop_fast import Conv, ConvEqPropClassifier, Dense, EqPropClassifier, ResistiveClassifier
from eqprop_fast.export import as_model, untrained
from eqprop_fast.export.targets import TARGETS, Vectors, run
from eqprop_fast.networks.graph import chain
from tests.embedded_host import compile_library, twin_relax, twin_train

N_PREDICT, N_LEARN = 500, 200
DTYPES = ("float32", "int16", "int8")


def vectors(n_predict=N_PREDICT, n_learn=N_LEARN):
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    pixels, labels = digits.data[order].astype(np.uint8), digits.target[order]
    held_out = slice(len(labels) - n_predict, None)
    return Vectors(pixels[held_out], labels[held_out], pixels[:n_learn], labels[:n_learn])


def twin(model, x, labels):
    """The NumPy twin's labels, or the weights and biases it learns."""
    x = np.asarray(x, np.float32)
    if labels is None:
        return twin_relax(model, x)[0][:, -10:].argmax(axis=1)
    return twin_train(model, x, np.eye(10)[labels])


def resistive_twin(fitted):
    """As `twin`: the estimator's labels; what the host's own build of the export learns, which
    tests/test_export_resistive.py holds to the NumPy kernels.
    """

    def answer(model, x, labels):
        x = np.ascontiguousarray(x, np.float32)
        if labels is None:
            return fitted.predict(x)
        with tempfile.TemporaryDirectory() as folder:
            device = compile_library(Path(folder), {"host": (model, {"learn": True})})["host"]
            for row, label in zip(x, labels):
                assert device.learn(device.net, device.pointer(row), int(label)) == 0
            return device.parameters()

    return answer


def _seen(n=None):
    """Digits that `vectors` does not predict."""
    x, y = load_digits(return_X_y=True)
    rows = np.random.default_rng(0).permutation(len(y))[:-N_PREDICT][:n]
    return x[rows] / 16, y[rows]


@ignore_warnings(category=ConvergenceWarning)
def fitted():
    keep = dict(activation="hard_sigmoid", out_activation="hard_sigmoid", random_state=0)
    return as_model(EqPropClassifier((32,), max_iter=6, backend="numpy", **keep).fit(*_seen()))


CONVOLUTIONAL = chain((1, 8, 8), [Conv(6, 3, pool="max"), Dense(10)])


@ignore_warnings(category=ConvergenceWarning)
def maps(learn):
    """A trained convolutional network, or one that has learnt nothing."""
    if learn:
        return untrained(CONVOLUTIONAL, learning_rate=(0.02, 0.05), random_state=0)
    keep = dict(input_shape=(8, 8), input_scaling=None, backend="numpy", random_state=0)
    return as_model(
        ConvEqPropClassifier([Conv(6, 3, pool="max")], max_iter=3, **keep).fit(*_seen())
    )


@ignore_warnings(category=ConvergenceWarning)
def fitted_resistive(learn):
    """A trained network, or one that has seen little and shall learn."""
    n, batch_size, epochs = (60, 60, 1) if learn else (None, 4, 8)
    options = dict(random_state=0, backend="numpy", batch_size=batch_size, max_iter=epochs)
    return ResistiveClassifier((16,), **options).fit(*_seen(n))


def check(found, data, model, learn):
    """What is wrong, in words; empty if nothing is."""
    n, wrong = len(data.labels), []
    if found["same_predictions"] != n:
        wrong.append(f"{n - found['same_predictions']} predictions differ")
    if learn:
        if found["failed"]:
            wrong.append(f"{found['failed']} samples were refused")
        if (found["same_weights"], found["same_biases"]) != (model.n_weights, model.n_biases):
            wrong.append("learned weights differ")
        if found["right_after"] < found["right_before"] + n // 5:
            wrong.append("accuracy did not rise")
    return ", ".join(wrong)


def main():
    missing = {t.name: t for t in TARGETS if t.missing()}
    for target in missing.values():
        programs = ", ".join(target.missing())
        print(
            f"{target.name}: skipped, {programs} not found. Debian: apt-get install {target.packages}"
        )
    here = [t for t in TARGETS if t.name not in missing]
    if not here:
        return 2
    data, failures = vectors(), 0
    layered = {False: fitted(), True: untrained((64, 32, 10), learning_rate=0.03, random_state=0)}
    cases = [(d, learn, layered[learn], twin) for d in DTYPES for learn in (False, True)]
    for learn in (False, True):
        model = maps(learn)
        cases += [(f"maps {d}", learn, model, twin) for d in DTYPES]
        model = fitted_resistive(learn)
        cases.append(("resistive", learn, as_model(model), resistive_twin(model)))
    for target in here:
        for case in cases:
            failures += not _report(target, data, *case)
    return 1 if failures else 0


def _report(target, data, kind, learn, model, twin):
    """Run one export on one target and print a line; whether all is right."""
    start, dtype = time.perf_counter(), "float32" if kind == "resistive" else kind.split()[-1]
    try:
        found = run(target, model, dtype, learn, data, twin)
        wrong = check(found, data, model, learn)
    except RuntimeError as error:
        found, wrong = {}, str(error)
    n = len(data.labels)
    text = f"{target.name:11s} {kind:12s} {'learns' if learn else 'infers'}: "
    text += f"{found.get('same_predictions', 0)}/{n} predictions as Python's"
    if learn and not wrong:
        rise = [100 * found[k] / n for k in ("right_before", "right_after")]
        text += f", weights {'to 1e-5' if dtype == 'float32' else 'bit for bit'}"
        text += f", accuracy {rise[0]:.1f} -> {rise[1]:.1f} %"
    seconds = time.perf_counter() - start
    print(f"{text}{' WRONG: ' + wrong if wrong else ''} ({seconds:.0f} s)", flush=True)
    return not wrong


if __name__ == "__main__":
    sys.exit(main())
