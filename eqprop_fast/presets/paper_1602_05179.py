"""1602.05179, "Towards a biologically plausible backprop" / equilibrium propagation.

Its cost is |s - y|^2 without 1/2, hence a factor of 2. The fast variant of its first version makes T
sweeps up, then one down with the output clamped.
"""

from ..costs import SquaredError
from ..dynamics import Continuous, Discrete
from ..relaxation import Relaxation
from ..rules import EP, ClampedSweep
from .record import LAYERED, mnist

_SHARED = dict(
    activation="hard_sigmoid", out_activation="hard_sigmoid", solver="sgd", learning_rate="constant",
    batch_size=20, shuffle=False, weight_init="glorot_uniform", **LAYERED,
)
_ABOUT = dict(n_train=50_000, notes="the paper uses 50 000 training rows, in fixed order")


def _net(number, T, K, beta, epochs, rates):
    parameters = dict(
        _SHARED,
        hidden_layer_sizes=(500,) * number,
        # the input acts as clip(x, 0, 1), which is x for pixels in [0, 1]
        dynamics=Continuous(dt=0.5, clamp=True, prime_hidden=True, prime_output=True),
        relaxation=Relaxation("synchronous", n_steps=T, tol=None, start="persistent"),
        learning_rule=EP(beta=beta, nudging="random_sign", n_steps=K, tol=None),
        cost=SquaredError(factor=2.0),
        learning_rate_init=rates,
        max_iter=epochs,
    )
    return mnist(f"1602.05179/net{number}", "1602.05179, authors' code train_model.py", parameters, **_ABOUT)


def _speed_net(number, T, K, epochs, rates):
    parameters = dict(
        _SHARED,
        hidden_layer_sizes=(500,) * number,
        dynamics=Discrete(),
        relaxation=Relaxation(
            "asynchronous", n_steps=T, tol=None, over_relaxation=1.0, start="persistent"
        ),
        learning_rule=ClampedSweep(n_steps=K, tol=None),
        learning_rate_init=rates,
        max_iter=epochs,
    )
    source = "1602.05179 v1, authors' code train_model2.py"
    return mnist(f"1602.05179/speed_net{number}", source, parameters, **_ABOUT)


PRESETS = [
    #  hidden layers  T   K  beta epochs rates, input -> output
    _net(1, 20, 4, 0.5, 25, (0.1, 0.05)),
    _net(2, 150, 6, 1.0, 60, (0.4, 0.1, 0.01)),
    _net(3, 500, 8, 1.0, 500, (0.128, 0.032, 0.008, 0.002)),
    _speed_net(1, 1, 1, 30, (0.1, 0.05)),
    _speed_net(2, 60, 1, 50, (0.4, 0.1, 0.008)),
    _speed_net(3, 400, 1, 150, (0.4, 0.1, 0.015, 0.002)),
]
