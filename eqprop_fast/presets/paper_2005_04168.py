"""2005.04168, continual EP: the networks of 1905.13633 under EP, C-EP and C-VF.

The paper lists rates output -> input; here they run input -> output. Its discrete C-VF class does
not train the bias of the first hidden layer.
"""

from ..rules import EP, ContinualEP, ContinualVectorField
from .paper_1905_13633 import PROTOTYPICAL, network
from .record import mnist

_SOURCE = "2005.04168, authors' README"


def _row(name, rule, T, epochs, rates, **more):
    hidden = (512,) * (len(rates) - 1)
    parameters = network(hidden, PROTOTYPICAL, T, epochs, rates, learning_rule=rule, **more)
    return mnist(f"2005.04168/{name}", _SOURCE, parameters)


def _ep(name, T, K, beta, epochs, rates):
    return _row(name, EP(beta=beta, nudging="positive", n_steps=K, tol=None), T, epochs, rates)


def _c_ep(name, T, K, beta, epochs, rates):
    return _row(name, ContinualEP(beta=beta, nudging="positive", n_steps=K), T, epochs, rates)


def _c_vf(name, T, K, beta, epochs, rates):
    rule = ContinualVectorField(beta=beta, nudging="random_sign", n_steps=K)
    return _row(name, rule, T, epochs, rates, bias_learning_rate_init=(0.0, *rates[1:]))


PRESETS = [
    #                T   K  beta epochs rates, input -> output
    _ep("EP-1h", 30, 10, 0.1, 30, (0.08, 0.04)),
    _ep("EP-2h", 100, 20, 0.5, 50, (0.2, 0.05, 0.005)),
    _c_ep("C-EP-1h", 40, 15, 0.2, 100, (0.0056, 0.0028)),
    _c_ep("C-EP-2h", 100, 20, 0.5, 150, (0.01, 0.0018, 0.00018)),
    _c_vf("C-VF-1h", 40, 15, 0.20, 100, (0.0076, 0.0038)),
    _c_vf("C-VF-2h", 100, 20, 0.35, 150, (0.009, 0.0016, 0.00016)),
]
