"""Every option of the kernels, drawn at random, on every backend beside the NumPy twin.

EQPROP_RANDOM_DRAWS and EQPROP_RANDOM_SEED say how many and which (``make test-random``);
EQPROP_RANDOM_FAMILY and EQPROP_RANDOM_WORK, for the mutation runner, leave out what begins with
another word or multiplies more often.
"""

import dataclasses
import inspect
import os

import pytest
from eqprop_fast.kernels import (
    BoltzmannPlan,
    Conductances,
    Crossbar,
    CrossbarPlan,
    KernelSet,
    LayeredSpec,
    Sweeps,
    TrainPlan,
)
from eqprop_fast.kernels.graph_spec import POOLS, GraphSpec
from eqprop_fast.kernels.reference import crossbar, graph, layered, nodal, nodal_update, train
from eqprop_fast.kernels.spec import ACTIVATIONS, DYNAMICS, OPTIMIZERS, RULES

from . import random_calls, random_graphs, random_machines
from .backend_list import BACKENDS

FAMILY = os.environ.get("EQPROP_RANDOM_FAMILY", "")
CUTS = 8  # parts, each a test of its own
COMPILED = [name for name in BACKENDS if name != "numpy"]


@pytest.mark.parametrize("part", range(CUTS))
@pytest.mark.parametrize("backend", COMPILED)
def test_backends_follow_the_twin(backend, part):
    random_calls.check_draws(backend, FAMILY, range(part, random_calls.DRAWS, CUTS))


@pytest.fixture(scope="module")
def calls():
    drawn = [random_calls.draw(0, number) for number in range(1500)]
    return drawn + [
        random_calls.draw(0, number, family)
        for family in random_calls.ALONE
        for number in range(200)
    ]


def parameters(function):
    return set(inspect.signature(function).parameters)


def test_every_option_is_drawn(calls):
    """A new field or parameter has no entry in the tables, and fails here."""
    assert set(random_calls.SPEC) == {f.name for f in dataclasses.fields(LayeredSpec)}
    assert set(random_calls.PLAN) == {f.name for f in dataclasses.fields(TrainPlan)}
    given = set(random_calls.GIVEN) | {"spec", "plan"}
    relaxing = {"beta", "n_steps", "tol"}  # as beta, n_free_steps and tol_free of a plan
    assert parameters(layered.layered_relax) | parameters(train.layered_train) == given | relaxing
    physics, of_crossbars = set(random_calls.CROSSBAR), set(random_calls.CROSSBAR_GIVEN)
    plan = {f.name for f in dataclasses.fields(CrossbarPlan)}
    assert {f.name for f in dataclasses.fields(Crossbar)} == physics | set(
        random_calls.CROSSBAR_ARRAYS
    )
    relaxing, training = parameters(crossbar.relax), parameters(crossbar.train)
    assert set(random_calls.CROSSBAR_RELAX) == physics | (relaxing - of_crossbars)
    assert set(random_calls.CROSSBAR_TRAIN) == physics | plan | {"n_threads"}
    assert training == of_crossbars | {"plan", "n_threads"}
    assert [f.name for f in dataclasses.fields(Conductances)] == list(
        random_calls.NODAL_UPDATE_ARRAYS
    )
    assert parameters(nodal_update.nodal_update) == set(random_calls.NODAL_UPDATE) | set(
        random_calls.NODAL_UPDATE_GIVEN
    )
    assert parameters(nodal.nodal_newton) == set(random_calls.NODAL_NEWTON) | set(
        random_calls.NODAL_NEWTON_GIVEN
    )
    assert set(random_graphs.SHARED) | random_graphs.OWN == set(GraphSpec._fields)
    assert set(random_graphs.SHARED) <= set(random_calls.SPEC)
    assert parameters(graph.graph_relax) == parameters(layered.layered_relax)
    assert parameters(train.graph_train) == parameters(train.layered_train)
    for record, table in ((Sweeps, random_machines.SWEEPS), (BoltzmannPlan, random_machines.PLAN)):
        assert [f.name for f in dataclasses.fields(record)] == list(table)
    elsewhere = {"name", "isa", "layered_one_row"}  # which has tests of its own
    kernels = {f.name for f in dataclasses.fields(KernelSet)} - elsewhere
    assert kernels <= {c.kernel for c in calls}
    machines = [c for c in calls if c.kernel.startswith("boltzmann")]
    for kernel in ("boltzmann_sweep", "boltzmann_train"):
        drawn = [c.arguments for c in machines if c.kernel == kernel]
        optional = {name for c in drawn for name, value in c.items() if value is None}
        assert (
            optional
            == {
                "boltzmann_sweep": {"mask", "means", "base", "betas", "log_weight"},
                "boltzmann_train": {"y", "offsets"},
            }[kernel]
        )
        assert {c["machine"].categorical_top for c in drawn} == {False, True}


def test_every_connection_is_drawn(calls):
    specs = [c.arguments["spec"] for c in calls if c.kernel.startswith("graph")]
    links = [(spec, link) for spec in specs for link in spec.connections]
    assert {link.pool for _, link in links if link.kernel} == set(POOLS)
    for field, values in dict(kernel={0, 1, 2, 3}, stride={1, 2}, padding={0, 1, 2}).items():
        assert {getattr(link, field) for _, link in links} == values
    assert {link.own_back for _, link in links} == {False, True}
    assert any(link.below == link.above for _, link in links)
    assert any(link.above - link.below > 1 for _, link in links)
    maps = {tuple(len(s.layers[k].shape) for k in (a.below, a.above)) for s, a in links}
    assert maps == {(1, 1), (1, 3), (3, 1), (3, 3)}
    assert {spec.readout for spec in specs} == {False, True}
    rules = {c.arguments["plan"].rule for c in calls if c.kernel == "graph_train"}
    assert rules == set(random_graphs.SERVED)


def test_every_choice_is_drawn(calls):
    """All values of every option that has a fixed set of them, as an option in words must have."""
    trained = [c for c in calls if c.kernel == "layered_train"]
    relaxed = [c for c in calls if c.kernel == "layered_relax"]
    for of, holders, cases in [
        (LayeredSpec, [c.arguments["spec"] for c in trained], trained),
        (TrainPlan, [c.arguments["plan"] for c in trained], trained),
    ]:
        assert cases
        for f in dataclasses.fields(of):
            if f.type == "str":
                values = set(random_calls.CHOICES[f.name])
            elif f.type == "bool":
                values = {False, True}
            else:
                continue
            if f.name == "schedule":  # "forward" is for relaxation only
                assert {c.arguments["spec"].schedule for c in relaxed} == values
                values.remove("forward")
            assert {getattr(h, f.name) for h in holders} == values, f.name
    for name, values in random_calls.CROSSBAR_CHOICES.items():
        cases = [c for c in calls if c.kernel == "crossbar_train"]
        assert {random_calls.argument(c.arguments, name) for c in cases} == set(values), name
    assert {c.dtype for c in trained} == {c.dtype for c in relaxed} == {"float32", "float64"}
    assert {c.arguments["n_threads"] for c in trained} == {1, 2, 3}


def test_what_matters_together_is_drawn_together(calls):
    """Pairs of options by which backends choose their paths, and the odd data among the calls."""
    trained = [c for c in calls if c.kernel == "layered_train"]
    pairs = {(c.arguments["plan"].rule, c.dtype, c.arguments["spec"].dynamics) for c in trained}
    discrete_only = {("clamped_sweep", dtype, "continuous") for dtype in random_calls.DTYPES}
    assert (
        pairs
        == {(r, d, k) for r in RULES for d in random_calls.DTYPES for k in DYNAMICS} - discrete_only
    )
    optimizers = {(c.arguments["plan"].rule, c.arguments["plan"].optimizer) for c in trained}
    sgd_only = {
        (r, o) for r in ("continual", "continual_vector_field") for o in OPTIMIZERS if o != "sgd"
    }
    assert optimizers == {(r, o) for r in RULES for o in OPTIMIZERS} - sgd_only
    for role in ("activation", "out_activation", "input_activation"):
        seen = {(getattr(c.arguments["spec"], role), c.arguments["spec"].dynamics) for c in trained}
        assert seen == {(a, d) for a in ACTIVATIONS for d in DYNAMICS}
    tags = set().union(*[c.tags for c in trained])
    assert tags >= {
        "deep",
        "wide",
        "wild",
        "x dense",
        "x csr",
        "x odd csr",
        "order shuffled",
        "order repeated",
        "order short",
        "order empty",
        "row_weight none",
        "row_weight weights",
        "row_weight zero rows",
        "row_weight zero batch",
    }
    particles = [c for c in trained if c.arguments["particles"] is not None]
    assert any("order repeated" in c.tags and c.arguments["n_threads"] > 1 for c in particles)
    for option, special in {
        "tol_free": {-1.0, 0.0, 1e-3},
        "tol_nudged": {-1.0, 0.0, 1e-3},
        "n_free_steps": {0, 1, 25},
        "n_nudged_steps": {0, 1, 18},
        "over_relaxation": {1.0},
        "weight_decay": {0.0},
        "momentum": {0.0},
    }.items():
        values = {getattr(c.arguments["plan"], option) for c in trained}
        assert special <= values and len(values) > len(special), option
    assert {c.arguments["plan"].sign is None for c in trained} == {False, True}
    assert {c.arguments["plan"].beta > 0 for c in trained} == {False, True}
    assert any(c.refused for c in trained)


def test_a_difference_is_seen():
    """The comparison finds a wrong number, and does not excuse it."""
    found = 0
    for number in range(20):
        call = random_calls.draw(3, number)
        want, got = random_calls.outcome("numpy", call), random_calls.outcome("numpy", call)
        assert not random_calls.differences(call, want, got)
        for values in got.numbers.values():
            if values.size and got.error is None and "wild" not in call.tags:
                values[0] += 1e-2 * max(1, abs(values).max())
                gaps = random_calls.differences(call, want, got)
                if gaps:
                    assert not random_calls.is_sensitive(call, want, got, gaps)
                    found += 1
                break
    assert found > 12
