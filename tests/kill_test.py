"""``python -m tests.kill_test KILLS [SEED] [SECONDS]``: SIGKILL at random moments loses nothing.

A fit that writes checkpoints is killed and gone on with from its file, again and again, until it
ends: by max_iter, tol, early stopping, a callback, Ctrl-C within an epoch, or divergence. The file
it ends with must be that of a run that nobody killed, byte for byte, and alone in its folder.
"""

import os
import signal
import sys
import tempfile
import time
import warnings

import numpy as np
from eqprop_fast.kernels import DivergenceError

from eqprop_fast.training import driver

from .kinds import KINDS, RESISTIVE, small

EPOCHS, LAST, BATCHES = (
    12,
    8,
    3,
)  # LAST epoch of runs that end early; in its BATCHES-th batch if within it
CONSTANT = dict(learning_rate="constant")  # else "tol" makes the rate smaller
ENDS = {  # name: what is told at the end, options of the estimator
    "max_iter": ("max_iter", {}),
    "tol": ("tol", dict(tol=1e3, n_iter_no_change=LAST, **CONSTANT)),
    "early stopping": (
        "tol",
        dict(early_stopping=True, tol=0.5, n_iter_no_change=LAST, **CONSTANT),
    ),
    "best of all": ("max_iter", dict(early_stopping=True, tol=0.0, n_iter_no_change=10**6)),
    "callback": ("callback", {}),
    "Ctrl-C": ("interrupted", {}),
    "divergence": ("divergence", {}),
}
DATA = np.random.default_rng(0)
X = DATA.normal(size=(150, 6)).astype(np.float32)
Y = np.arange(150) % 3
FORGIVING = dict(n_iter_no_change=np.inf, tol=0.0, batch_size=20)  # more than BATCHES an epoch


def fit(kind, end, path, backend):
    """Fit, or go on from the file at `path`."""
    reason, options = ENDS[end]
    callbacks = [lambda record: reason == "callback" and record.epoch == LAST]
    place = dict(checkpoint=path, callbacks=callbacks, backend=backend, n_threads=1)
    driver.CHUNK_SECONDS, driver.FIRST_CHUNK = 0.0, 1  # a batch in each call
    train_chunk = driver._train_chunk

    def chunk(network, data, rows, plan, state, settings):
        stats = train_chunk(network, data, rows, plan, state, settings)
        if state.epoch == LAST and state.position.batches == BATCHES:
            if reason == "interrupted":
                os.kill(os.getpid(), signal.SIGINT)
            elif reason == "divergence":
                network.weights[0][...] = np.nan
                raise DivergenceError("as if", 1, 1, "free")
        return stats

    driver._train_chunk = chunk
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            if not os.path.exists(path):
                solver = "momentum" if kind in RESISTIVE else "adam"
                options = {**FORGIVING, "solver": solver, **options}
                kind(small(kind, 5), max_iter=EPOCHS, random_state=1, **options, **place).fit(X, Y)
                return
            model = kind.load_checkpoint(path)
            if model.ended_by_ is None or model._state.unanswered is not None:
                model.set_params(**place).resume(X, Y)
        except DivergenceError:
            assert reason == "divergence"


def in_child(task, after=None):
    """Run `task` in a fork, killed `after` seconds if given; whether it came to its end."""
    pid = os.fork()
    if pid == 0:
        try:
            task()
            os._exit(0)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
    if after is not None:
        time.sleep(after)
        os.kill(pid, signal.SIGKILL)
    status = os.waitpid(pid, 0)[1]
    assert status in (0, signal.SIGKILL), f"the run failed: {status}"
    return status == 0


def check(kind, end, backend, rng, most):
    """One run killed up to `most` times; how often it was."""
    with tempfile.TemporaryDirectory() as folder:
        whole, part = os.path.join(folder, "whole.npz"), os.path.join(folder, "part.npz")
        start = time.monotonic()
        assert in_child(lambda: fit(kind, end, whole, backend))
        duration = time.monotonic() - start
        assert kind.load_checkpoint(whole).ended_by_ == ENDS[end][0], end
        kills = 0
        while kills < most and not in_child(
            lambda: fit(kind, end, part, backend), rng.uniform(0, 1.2 * duration)
        ):
            kills += 1
            if os.path.exists(part):
                kind.load_checkpoint(part)
        assert in_child(lambda: fit(kind, end, part, backend))
        with open(whole, "rb") as a, open(part, "rb") as b:
            assert a.read() == b.read(), (
                f"{kind.__name__}, {end}, {backend}: not the run that nobody killed"
            )
        assert sorted(os.listdir(folder)) == ["part.npz", "whole.npz"], os.listdir(folder)
    return kills


def main(kills=200, seed=0, seconds=900.0):
    rng = np.random.default_rng(int(seed))
    done, runs, end_at = 0, 0, time.monotonic() + float(seconds)
    cases = [(kind, end) for end in ENDS for kind in KINDS]
    while done < int(kills) and time.monotonic() < end_at:
        kind, end = cases[runs % len(cases)]
        done += check(kind, end, ("c", "numpy")[runs % 2], rng, most=min(4, int(kills) - done))
        runs += 1
    print(f"{done} kills in {runs} runs, seed {seed}: each ended as if it had not been killed")


if __name__ == "__main__":
    main(*sys.argv[1:])
