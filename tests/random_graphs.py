"""Random calls of the graph kernels: layers, connections of every kind between them, and all options
of a plan. tests/random_calls.py compares them.
"""

import numpy as np
from eqprop_fast.kernels.graph_spec import (
    POOLS,
    ConnectionSpec,
    GraphSpec,
    LayerSpec,
    check_graph_plan,
)
from eqprop_fast.kernels.spec import (
    ACTIVATIONS,
    RULES,
    VECTOR_FIELD_RULES,
    OptimizerState,
    TrainPlan,
)

from . import random_calls as calls

SERVED = [rule for rule in RULES if rule != "clamped_sweep"]  # which goes along a chain
OWN = {"layers", "connections", "schedule", "readout"}  # drawn below
SHARED = [name for name in GraphSpec._fields if name not in OWN]  # as of layered networks


def _map_above(rng, shape):
    """(fields of a convolution, the map it makes) over a map of this shape; None: none fits."""
    kernel = int(rng.integers(1, 4))
    stride, padding = int(rng.integers(1, 3)), int(rng.integers(0, kernel))
    sides = [(side + 2 * padding - kernel) // stride + 1 for side in shape[1:]]
    if min(side + 2 * padding for side in shape[1:]) < kernel:
        return None
    pool = str(rng.choice(list(POOLS)))
    window = 1 if pool == "none" else int(rng.integers(2, 4))
    if any(side % window for side in sides):
        pool, window = "none", 1
    made = (int(rng.choice([1, 2, 3, 9, 17])), *(side // window for side in sides))
    fields = dict(kernel=kernel, stride=stride, padding=padding, pool=pool, window=window)
    return fields, made


def _shape(rng, maps):
    if maps:
        return (int(rng.integers(1, 4)), int(rng.integers(3, 8)), int(rng.integers(3, 8)))
    return (int(rng.choice(calls.WIDTHS)),)


def _network(rng, readout, lateral):
    """Shapes of the layers, and the connections: a path from the input to the output, and more."""
    depth, shapes, links = int(rng.choice([1, 2, 2, 3, 4])), [_shape(rng, rng.random() < 0.6)], []
    for k in range(1, depth + 1):
        convolved = None
        if len(shapes[-1]) == 3 and rng.random() < (0.8 if k < depth else 0.2):
            convolved = _map_above(rng, shapes[-1])
        fields, shape = convolved or ({}, _shape(rng, k < depth and rng.random() < 0.2))
        shapes.append(shape)
        links.append(ConnectionSpec(k - 1, k, **fields))
        links += [ConnectionSpec(j, k) for j in range(k - 1) if rng.random() < 0.3]
        if lateral and not (readout and k == depth) and rng.random() < 0.5:
            links.append(ConnectionSpec(k, k))
    rng.shuffle(links)
    return shapes, [ConnectionSpec(*link) for link in links]


def _draw(rng, seen):
    """Spec and plan, whether they go together or not."""
    schedule = calls.SPEC["schedule"](rng, seen)
    readout = bool(rng.random() < 0.15)
    shapes, links = _network(rng, readout, schedule != "asynchronous" and rng.random() < 0.2)
    if not readout and (seen["rule"] in VECTOR_FIELD_RULES or rng.random() < 0.2):
        links = [link._replace(own_back=0 < link.below) for link in links]
    seen["sizes"] = shapes  # of as many layers
    options = {"dynamics": calls.SPEC["dynamics"](rng, seen)}
    seen |= options
    options |= {name: calls.SPEC[name](rng, seen) for name in SHARED if name != "dynamics"}
    layers = tuple(LayerSpec(s, str(rng.choice(list(ACTIVATIONS)))) for s in shapes)
    spec = GraphSpec(layers, tuple(links), schedule=schedule, readout=readout, **options)
    seen["sizes"] = spec.sizes
    plan = {name: None for name in calls.PLAN}
    for name in calls.PLAN:
        seen[name] = plan[name] = seen["rule"] if name == "rule" else calls.PLAN[name](rng, seen)
    rates = 0.05 * rng.random(len(links) + len(layers) - 1)
    rate, bias_rate = tuple(rates[: len(links)]), tuple(rates[len(links) :])
    return spec, TrainPlan(**plan | dict(rate=rate, bias_rate=bias_rate))


def graph_call(rng):
    """A call of graph_relax or graph_train."""
    dtype, tags, seen = str(rng.choice(calls.DTYPES)), set(), {"scale": 1.0}
    seen["relaxes"] = relaxes = rng.random() < 0.3
    rows = int(rng.integers(1, 31))
    seen["order"] = order = calls._order(rng, rows, tags)
    seen["rule"] = SERVED[rng.integers(len(SERVED))]
    while True:
        spec, plan = _draw(rng, seen)
        particles = bool(rng.random() < 0.3)
        try:
            if not relaxes:
                check_graph_plan(spec, plan, particles)
            # a linear system of all units, sample by sample
            if plan.rule != "implicit" or sum(spec.sizes[1:]) <= 60:
                break
        except ValueError:
            continue
    links, layers = spec.connections, spec.layers
    weights = [
        (rng.uniform(-1, 1, c.weight_shape(layers)) / np.sqrt(c.fan_in(layers))).astype(dtype)
        for c in links
    ]
    back = [
        calls._arrays(rng, [c.back_shape(layers)], dtype, -0.3, 0.3)[0] if c.own_back else None
        for c in links
    ]
    states = calls._arrays(rng, [(rows, n) for n in spec.sizes[1:]], dtype, -0.5, 1.2)
    arguments = dict(
        spec=spec,
        weights=weights,
        back=back if spec.own_back else None,
        biases=calls._arrays(rng, [(layer.n_biases,) for layer in layers[1:]], dtype, -0.3, 0.3),
        x=calls._inputs(rng, rows, spec.sizes[0], 1.0, dtype, tags),
        y=calls._targets(rng, rows, spec.sizes[-1], spec.cost).astype(dtype),
        n_threads=int(rng.integers(1, 4)),
    )
    if relaxes:
        beta = plan.beta if rng.random() < 0.5 else 0.0
        arguments |= dict(states=states, beta=beta, n_steps=plan.n_free_steps, tol=plan.tol_free)
        return calls.Call("graph_relax", dtype, arguments, ("states",), tags)
    memory = None
    if plan.optimizer != "sgd":
        learned = [*weights, *arguments["biases"], *(arguments["back"] or [])]
        memory = OptimizerState(
            *(
                [
                    None if a is None else rng.uniform(low, high, a.shape).astype(dtype)
                    for a in learned
                ]
                for low, high in ((-0.1, 0.1), (0.01, 1))[: 1 + (plan.optimizer == "adam")]
            )
        )
    arguments |= dict(
        plan=plan,
        order=order,
        particles=states if particles else None,
        optimizer_state=memory,
        row_weight=calls._row_weight(rng, rows, order, plan.batch_size, dtype, tags),
    )
    changes = ("weights", "back", "biases", "particles", "optimizer_state")
    return calls.Call("graph_train", dtype, arguments, changes, tags)
