"""`GraphNetwork`: the protocol, the driver, and the page "Your own network"."""

import re
from pathlib import Path

import numpy as np
import pytest
from eqprop_fast.kernels import TrainPlan

from eqprop_fast.networks import GraphNetwork
from eqprop_fast.training import FitSettings, RandomStreams, TrainingData, TrainingState, fit_epochs

from .backend_list import BACKENDS
from .graphs import GRAPHS, with_own_back

PAGE = Path(__file__).resolve().parent.parent / "docs" / "network.md"


def network(name, backend, **more):
    graph, fields = GRAPHS[name]
    wanted = {"activation": "shifted_sigmoid", "nudge_inside": True, **fields, **more}
    return GraphNetwork.of(graph, 0, backend=backend, dtype="float64", **wanted)


def test_the_page_runs(capsys):
    """And its network has learnt, its updates are gradients, and its convolutional network learns."""
    code = "\n".join(re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL))
    names = {}
    exec(compile(code, str(PAGE), "exec"), names)
    assert names["model"].score(names["X_test"], names["y_test"]) > 0.9
    assert "right: 0.9" in capsys.readouterr().out
    assert names["match"].angle < 10
    net = names["net"].set_params(max_iter=10, random_state=0).fit(names["X"], names["y"])
    assert net.loss_curve_[-1] < 0.7 * net.loss_curve_[0]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["skip", "residual", "readout"])
def test_the_driver_trains_it(name, backend):
    net, rng = network(name, backend), np.random.default_rng(0)
    x = rng.uniform(0, 1, (12, net.spec.sizes[0]))
    y = np.eye(3)[rng.integers(0, 3, 12)]
    rates = (0.02,) * len(net.weights), (0.02,) * len(net.biases)
    plan = TrainPlan(4, 0.2, 20, 8, *rates, centered=True, optimizer="adam")
    state = TrainingState(RandomStreams(0), optimizer_state=net.new_optimizer_state("adam"))
    settings = FitSettings(plan, n_epochs=8, tol=0)
    assert fit_epochs(net, TrainingData(x, y, np.arange(12)), state, settings) == "max_iter"
    assert state.loss_curve[-1] < 0.97 * state.loss_curve[0]


@pytest.mark.parametrize("backend", BACKENDS)
def test_relaxation_reports_energy_and_outputs(backend):
    net = network("skip", backend, schedule="asynchronous")
    x = np.random.default_rng(0).uniform(0, 1, (6, 7))
    end = net.relax(x, 500, 1e-9)
    assert end.success.all() and np.isfinite(end.energy).all()
    np.testing.assert_allclose(net.outputs(x, 500, 1e-9), end.states[-1])
    again = net.relax(x, 1, states=end.states)
    np.testing.assert_allclose(again.energy, end.energy, atol=1e-7)
    assert np.isnan(network("readout", backend).relax(np.zeros((1, 64)), 5).energy).all()


def test_parameters_know_their_layer():
    net = network("residual", "numpy")
    net.spec, net.back = with_own_back(net.spec, net.weights)
    above = [link.above for link in net.spec.connections]
    expected = above + [1, 2, 3, 4, 5] + above
    assert [net.layer_of(i) for i in range(len(net.parameters))] == expected
    memory = net.new_optimizer_state("momentum")
    assert [a.shape for a in memory.velocity] == [p.shape for p in net.parameters]
    assert not net.biases[1].any()  # bias=False
