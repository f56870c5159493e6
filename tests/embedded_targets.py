"""make embedded-test: exported digits networks inside QEMU, held to Python: python -m
tests.embedded_targets.

On each target: 500 predictions, and the weights after 200 streamed samples, of each dtype.
"""

import sys
import time

import numpy as np
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils._testing import ignore_warnings

from eqprop_fast import EqPropClassifier
from eqprop_fast.export import as_model, untrained
from eqprop_fast.export.targets import TARGETS, Vectors, run
from tests.embedded_host import twin_relax, twin_train

N_PREDICT, N_LEARN = 500, 200


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


@ignore_warnings(category=ConvergenceWarning)
def fitted():
    data = vectors()
    keep = dict(activation="hard_sigmoid", out_activation="hard_sigmoid", random_state=0)
    x, y = load_digits(return_X_y=True)
    seen = np.random.default_rng(0).permutation(len(y))[: -len(data.labels)]
    return as_model(
        EqPropClassifier((32,), max_iter=6, backend="numpy", **keep).fit(x[seen] / 16, y[seen])
    )


def check(found, data, model, learn):
    """What is wrong, in words; empty if nothing is."""
    n, wrong = len(data.labels), []
    if found["same_predictions"] != n:
        wrong.append(f"{n - found['same_predictions']} predictions differ")
    if learn:
        if found["failed"]:
            wrong.append(f"{found['failed']} samples were refused")
        if (found["same_weights"], found["same_biases"]) != (model.n_weights, model.n_units):
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
    models = {False: fitted(), True: untrained((64, 32, 10), learning_rate=0.03, random_state=0)}
    for target in here:
        for dtype in ("float32", "int16", "int8"):
            for learn in (False, True):
                start = time.perf_counter()
                try:
                    found = run(target, models[learn], dtype, learn, data, twin)
                    wrong = check(found, data, models[learn], learn)
                except RuntimeError as error:
                    found, wrong = {}, str(error)
                failures += bool(wrong)
                text = f"{target.name:11s} {dtype:7s} {'learns' if learn else 'infers'}: "
                text += (
                    f"{found.get('same_predictions', 0)}/{len(data.labels)} predictions as Python's"
                )
                if learn and not wrong:
                    rise = [
                        100 * found[k] / len(data.labels) for k in ("right_before", "right_after")
                    ]
                    text += f", weights {'to 1e-5' if dtype == 'float32' else 'bit for bit'}"
                    text += f", accuracy {rise[0]:.1f} -> {rise[1]:.1f} %"
                seconds = time.perf_counter() - start
                print(f"{text}{' WRONG: ' + wrong if wrong else ''} ({seconds:.0f} s)", flush=True)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
