"""Stand-ins of the backend that does not serve networks of any shape yet: Numba."""

from .registry import BackendUnavailableError

WHY = "backend 'numba' does not serve networks of any shape yet; backend='c' and 'numpy' do"


def graph_relax(
    spec, weights, back, biases, x, states, y=None, beta=0.0, n_steps=1, tol=-1.0, n_threads=1
):
    raise BackendUnavailableError(WHY)


def graph_train(
    spec,
    weights,
    back,
    biases,
    x,
    y,
    order,
    plan,
    row_weight=None,
    particles=None,
    optimizer_state=None,
    n_threads=1,
):
    raise BackendUnavailableError(WHY)
