"""Held Ctrl-C over calls on two threads: a call is whole or has not begun, and no thread outlives
it.

The children are hit by real signals (of the process, and of its main thread), and by
`interrupt_main` from a timer; a crash shows in their exit status.
"""

import subprocess
import sys

import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV

from eqprop_fast import EqPropClassifier, EqPropRegressor, ResistiveClassifier, ResistiveRegressor

from .backend_list import BACKENDS

COMPILED = [name for name in BACKENDS if name != "numpy"]

HELD = """
import _thread, os, signal, sys, threading, time, warnings
import numpy as np
from sklearn.datasets import load_digits
from eqprop_fast import EqPropClassifier, ResistiveClassifier, get_backend
from eqprop_fast.circuits import DiodeModel, Netlist, operating_point
from eqprop_fast.kernels import LayeredSpec, TrainPlan

warnings.simplefilter("ignore")
backend, main = sys.argv[1], threading.main_thread().ident
kernels, rng = get_backend(backend), np.random.default_rng(0)

def deaf():
    while signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        try:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        except KeyboardInterrupt:
            pass

def press(gap, times):
    for i in range(times):
        time.sleep(gap)
        if i % 2:
            os.kill(os.getpid(), signal.SIGINT)
        else:
            signal.pthread_kill(main, signal.SIGINT)

def under_fire(call, fire):
    "Calls until one is cut, or the fire is over; how many were cut."
    n_threads = _thread._count()
    fire.start()
    cut = 0
    while fire.is_alive():
        try:
            try:
                signal.signal(signal.SIGINT, signal.default_int_handler)
                call()
            finally:
                deaf()
        except KeyboardInterrupt:
            deaf()
            cut += 1
    fire.join()
    end = time.monotonic() + 20  # a thread is counted for a while after it said that it had ended
    while _thread._count() > n_threads:
        assert time.monotonic() < end, "a thread outlived its call"
        time.sleep(0.001)
    return cut

def rounds():
    for gap, times in ((0.01, 3), (0.002, 40), (0.0005, 100)):
        yield threading.Thread(target=press, args=(gap, times))
    yield threading.Timer(0.02, _thread.interrupt_main)

spec = LayeredSpec((64, 40, 10))
start = [rng.normal(0, 0.3, s).astype("f") for s in ((64, 40), (40, 10), 40, 10)]
x, y = rng.random((600, 64)).astype("f"), rng.random((600, 10)).astype("f")
plan = TrainPlan(20, 0.5, 10, 5, (0.01, 0.01), (0.01, 0.01))

def train(parameters):
    parameters = [p.copy() for p in start] if parameters is None else parameters
    kernels.layered_train(spec, parameters[:2], None, parameters[2:], x, y, np.arange(600), plan, n_threads=2)
    return parameters

after, cuts = train(None), 0
for fire in rounds():
    def call():
        parameters = [p.copy() for p in start]
        try:
            train(parameters)
        finally:
            whole.append(parameters)
    whole = []
    cuts += under_fire(call, fire)
    for parameters in whole:
        same = [all(map(np.array_equal, parameters, p)) for p in (start, after)]
        assert any(same), "a call was cut"

digits, target = load_digits(return_X_y=True)
digits = digits / 16
options = dict(random_state=0, n_threads=2, backend=backend)
layered = EqPropClassifier((32,), max_iter=2, **options).fit(digits, target)
resistive = ResistiveClassifier((16,), max_iter=1, batch_size=32, **options).fit(digits, target)
want = [m.decision_function(digits) for m in (layered, resistive)]

net = Netlist()
net.voltage_source("v", "in", "0")
for k in range(8):
    net.resistor(f"r{k}", "in", f"n{k}", 1e3 * (k + 1))
    net.diode(f"d{k}", f"n{k}", "0", DiodeModel("d"))
net.mark_inputs(["v"])
net.mark_outputs([f"n{k}" for k in range(8)])
volts = np.linspace(-1, 3, 2000)[:, None]
solve = lambda: operating_point(net, volts, backend=backend, n_threads=2).outputs
want.append(solve())

def predict():
    for model, expected in zip((layered, resistive), want):
        assert np.array_equal(model.decision_function(digits), expected)
    assert np.array_equal(solve(), want[2])

def fit():
    for kind in (EqPropClassifier, ResistiveClassifier):
        model = kind(
            (16,), max_iter=10**6, tol=0.0, n_iter_no_change=np.inf, batch_size=32, **options,
            callbacks=lambda record: not fire.is_alive(),
        )
        assert model.fit(digits, target).predict(digits).shape == target.shape

for fire in rounds():
    cuts += under_fire(predict, fire)
for fire in rounds():
    under_fire(fit, fire)
assert cuts > 0, "nothing was tested"
predict()
print("whole")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no POSIX signals")
@pytest.mark.parametrize("backend", COMPILED)
def test_held_ctrl_c(backend):
    child = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", HELD, backend],
        timeout=500,
        text=True,
        capture_output=True,
    )
    assert child.returncode == 0 and child.stdout == "whole\n", child.stderr[-3000:]


@pytest.mark.parametrize(
    "kind", [EqPropClassifier, EqPropRegressor, ResistiveClassifier, ResistiveRegressor]
)
def test_on_interrupt(kind):
    """By default the weights so far are kept; with "raise" a search stops instead of scoring them."""
    x, y = np.random.default_rng(0).random((60, 5)), np.arange(60) % 2
    said = []

    def interrupt(record):
        said.append(record.epoch)
        if record.epoch == 2:
            raise KeyboardInterrupt

    model = kind((4,), max_iter=9, batch_size=30, random_state=0, callbacks=interrupt)
    with pytest.warns(UserWarning, match="interrupted"):
        assert model.fit(x, y).n_iter_ == 2
    model.set_params(on_interrupt="raise")
    with pytest.raises(KeyboardInterrupt):
        model.fit(x, y)
    assert model.n_iter_ == 2 and model.predict(x).shape == (60,)
    said.clear()
    with pytest.raises(KeyboardInterrupt):
        GridSearchCV(model, {"random_state": [0, 1]}, cv=2).fit(x, y)
    assert said == [1, 2]
    with pytest.raises(ValueError, match="on_interrupt"):
        model.set_params(on_interrupt="ignore").fit(x, y)
