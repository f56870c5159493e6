"""Calls that no estimator would make: one verdict on every backend, and a refused call changes
nothing.
"""

from eqprop_fast.kernels.checks import TABLES

from .kernel_calls import MAKERS
from .verdicts import verdict_test

ELSEWHERE = ("graph", "boltzmann")  # test_graph_kernels.py, test_boltzmann_kernels.py


def test_every_kernel_has_calls():
    assert set(MAKERS) == set(TABLES)


test_verdicts_are_the_same = verdict_test(
    [name for name in TABLES if not name.startswith(ELSEWHERE)]
)
