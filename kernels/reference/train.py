"""`layered_train` and `graph_train`: batch by batch, by the rules of rules.py; the NumPy twin.

Notation and shapes are those of layered.py and graph.py.
"""

from ..graph_spec import check_graph_plan
from ..spec import check_plan
from .graph import GraphNet
from .rules import Net, train_net


def layered_train(
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
    """Train on the rows `order` of (x, y), batch by batch; weights, back, biases, particles change
    in place.

    Returns
    -------
    TrainStats

    Raises
    ------
    DivergenceError
        Weights are those after the last finite batch.
    """
    check_plan(spec, plan, back is not None, particles is not None)
    net = Net(spec, weights, back, biases)
    return train_net(net, x, y, order, plan, row_weight, particles, optimizer_state)


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
    """`layered_train` of a `GraphSpec`; `plan.rate` has one entry a connection, `plan.bias_rate`
    one a layer above the input.
    """
    check_graph_plan(spec, plan, particles is not None)
    net = GraphNet(spec, weights, back, biases)
    return train_net(net, x, y, order, plan, row_weight, particles, optimizer_state)
