"""Calls that no estimator would make: one verdict on every backend, and a refused call changes
nothing.
"""

import pytest
from eqprop_fast.kernels.checks import TABLES

from .kernel_calls import MAKERS
from .verdicts import check_taken, check_verdicts

ELSEWHERE = ("graph", "boltzmann")  # test_graph_kernels.py, test_boltzmann_kernels.py


def test_every_kernel_has_calls():
    assert set(MAKERS) == set(TABLES)


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
@pytest.mark.parametrize("name", [name for name in TABLES if not name.startswith(ELSEWHERE)])
@pytest.mark.filterwarnings("ignore")
def test_verdicts_are_the_same(name, sparse):
    check_taken(name, sparse)
    check_verdicts(name, sparse)
