"""2402.11674, fast simulation of resistive networks (DRN) and the Hopfield networks (DHN) beside
them.
"""

from ..dynamics import Discrete
from ..networks.initial import FanInUniform
from ..networks.resistive import ResistiveCircuit
from ..relaxation import Relaxation, ResistiveRelaxation
from ..rules import EP, ResistiveEP
from ..training.schedules import Exponential
from .record import ALL_EPOCHS, LAYERED, mnist


def hopfield(T, K, epochs, rates, **more):
    """Parameters of a deep Hopfield network: hidden clip(., 0, 1), linear output, nudge inside."""
    return {
        **dict(
            activation="hard_sigmoid",
            out_activation="identity",
            dynamics=Discrete(nudge_inside=True),
            relaxation=Relaxation(
                "asynchronous", n_steps=T, tol=None, over_relaxation=1.0, start="carry_over"
            ),
            learning_rule=EP(beta=0.2, nudging="centered", n_steps=K, tol=None),
            solver="sgd",
            learning_rate=Exponential(decay=0.99),
            learning_rate_init=rates,
            batch_size=16,
            max_iter=epochs,
            weight_init=FanInUniform(gain=0.7),
            **LAYERED,
        ),
        **more,
    }


def resistive(hidden, circuit, input_gain, steps, beta, epochs, rates, bias_rates=None):
    """Parameters of a deep resistive network: centered EP on batches of 4."""
    return dict(
        hidden_layer_sizes=hidden,
        circuit=circuit,
        input_gain=input_gain,
        relaxation=ResistiveRelaxation("asynchronous", n_steps=steps, tol=None, start="carry_over"),
        learning_rule=ResistiveEP(beta=beta, nudging="centered", n_steps=steps, tol=None),
        learning_rate=Exponential(decay=0.99),
        learning_rate_init=rates,
        bias_learning_rate_init=bias_rates,
        batch_size=4,
        max_iter=epochs,
        **ALL_EPOCHS,
    )


def _dhn(number, T, K, rates, test_error):
    parameters = hopfield(T, K, 100, rates, hidden_layer_sizes=(1024,) * number)
    source = "2402.11674, authors' papers/fast-drn/dhn.py"
    return mnist(f"2402.11674/DHN-{number}H", source, parameters, test_error=test_error)


def _drn(name, hidden, input_gain, steps, beta, rates, epochs, test_error, bias_rates=None):
    parameters = resistive(
        hidden, ResistiveCircuit("signed"), input_gain, steps, beta, epochs, rates, bias_rates
    )
    source = "2402.11674, authors' papers/fast-drn/drn.py"
    return mnist(f"2402.11674/DRN-{name}", source, parameters, test_error=test_error)


PRESETS = [
    #    hidden layers T  K   rates, input -> output    test error
    _dhn(1, 15, 15, (0.05, 0.05), 1.79),
    _dhn(2, 50, 20, (0.2, 0.05, 0.01), 1.65),
    _dhn(3, 100, 10, (0.2, 0.05, 0.01, 0.002), 1.65),
]
RESISTIVE_PRESETS = [
    #    name  hidden       gain  steps beta rates, input -> output      epochs test error
    _drn("XS", (100,), 100.0, 4, 1.0, (0.006, 0.006), 10, 3.46),
    _drn("XL", (32768,), 800.0, 4, 1.0, (0.006, 0.006), 100, 1.33),
    _drn("1H", (1024,), 480.0, 4, 1.0, (0.006, 0.006), 50, 1.57),
    _drn("2H", (1024, 1024), 2000.0, 5, 1.0, (0.002, 0.006, 0.018), 50, 1.48),
    _drn("3H", (1024, 1024, 1024), 4000.0, 6, 2.0, (0.005, 0.02, 0.08, 0.005), 50, 1.66,
         bias_rates=(0.0005, 0.002, 0.008, 0.0005)),
]
