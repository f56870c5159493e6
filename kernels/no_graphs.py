"""Stand-ins of the backends that do not serve networks of any shape yet."""

from .registry import BackendUnavailableError

WHY = "backends 'c' and 'numba' do not serve networks of any shape yet; backend='numpy' does"


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
