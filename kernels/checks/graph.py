"""Tables of the graph kernels (kernels/reference/graph.py)."""

from ..graph_spec import MAX_CONNECTIONS, MAX_LAYERS, POOLS, ConnectionSpec, GraphSpec, LayerSpec
from ..spec import ACTIVATIONS, COSTS, DYNAMICS, SCHEDULES, OptimizerState
from . import layered
from .rows import (
    MAX_INT,
    Array,
    Inputs,
    Integer,
    Order,
    Real,
    check_array,
    check_dtype,
    check_flag,
    check_integer,
    check_list,
    check_option,
    check_real,
    describe,
)

MAX_UNITS = MAX_INT - 64  # of a layer: C counts them with their padding
OPTIONS = {"dynamics": DYNAMICS, "schedule": SCHEDULES, "cost": COSTS}
FLAGS = ("prime_hidden", "prime_output", "linear_output", "clamp", "nudge_inside", "readout")


def network(at, name, spec):
    """A `GraphSpec` all of whose parts fit together; leaves the sizes N and the number L of layers
    above the input.
    """
    if not isinstance(spec, GraphSpec):
        raise ValueError(f"{name} must be a GraphSpec, got {describe(spec)}")
    for option, words in OPTIONS.items():
        check_option(f"{name}.{option}", getattr(spec, option), words)
    for flag in FLAGS:
        check_flag(f"{name}.{flag}", getattr(spec, flag))
    if type(spec.layers) is not tuple or not 2 <= len(spec.layers) <= MAX_LAYERS:
        raise ValueError(f"{name}.layers must be a tuple of 2 to {MAX_LAYERS} layers")
    if type(spec.connections) is not tuple or not 1 <= len(spec.connections) <= MAX_CONNECTIONS:
        raise ValueError(
            f"{name}.connections must be a tuple of 1 to {MAX_CONNECTIONS} connections"
        )
    for k, layer in enumerate(spec.layers):
        _check_layer(f"{name}.layers[{k}]", layer)
    for c, link in enumerate(spec.connections):
        _check_connection(f"{name}.connections[{c}]", link, spec)
    fed = {link.above for link in spec.connections if link.below != link.above}
    unfed = set(range(1, len(spec.layers))) - fed
    if unfed:
        raise ValueError(f"{name}.layers[{min(unfed)}] has no connection from below")
    at.N, at.L, at.spec = spec.sizes, len(spec.layers) - 1, spec
    return spec


def _check_layer(name, layer):
    if (
        not isinstance(layer, LayerSpec)
        or type(layer.shape) is not tuple
        or len(layer.shape) not in (1, 3)
    ):
        raise ValueError(
            f"{name} must be a LayerSpec with a shape of 1 or 3 sides, got {describe(layer)}"
        )
    for side in layer.shape:
        check_integer(f"{name}.shape", side, 1)
    check_integer(f"{name}.size", layer.size, 1, MAX_UNITS)
    check_option(f"{name}.activation", layer.activation, ACTIVATIONS)


def _check_connection(name, link, spec):
    if not isinstance(link, ConnectionSpec):
        raise ValueError(f"{name} must be a ConnectionSpec, got {describe(link)}")
    check_integer(f"{name}.above", link.above, 1, len(spec.layers) - 1)
    check_integer(f"{name}.below", link.below, 0, link.above)
    check_flag(f"{name}.own_back", link.own_back)
    check_option(f"{name}.pool", link.pool, POOLS)
    for field, low in (("kernel", 0), ("stride", 1), ("padding", 0), ("window", 1)):
        check_integer(f"{name}.{field}", getattr(link, field), low, 2**15)
    if link.own_back and link.below == 0:
        raise ValueError(f"{name}: nothing leads back to the input")
    if link.below == link.above and spec.schedule == "asynchronous":
        raise ValueError(f"{name} is lateral: spec.schedule must not be 'asynchronous'")
    if spec.readout and (link.own_back or link.below == len(spec.layers) - 1):
        raise ValueError(
            f"{name}: with a read-out connections are symmetric, and none leads on from it"
        )
    if not link.kernel:
        if (link.stride, link.padding, link.pool, link.window) != (1, 0, "none", 1):
            raise ValueError(f"{name} is dense: it has no stride, padding or pooling")
        return
    below, above = spec.layers[link.below].shape, spec.layers[link.above].shape
    if len(below) != 3 or len(above) != 3:
        raise ValueError(f"{name}: a convolution joins maps")
    if (link.pool == "none") != (link.window == 1):
        raise ValueError(f"{name}: pool={link.pool!r} does not go with window={link.window}")
    if link.padding >= link.kernel:
        raise ValueError(f"{name}.padding must be below the kernel's side")
    for side, made in zip(below[1:], above[1:]):
        out = (side + 2 * link.padding - link.kernel) // link.stride + 1
        if side + 2 * link.padding < link.kernel or out != made * link.window:
            raise ValueError(f"{name}: a side of {side} does not become one of {made}")


def relaxed(at, name, spec):
    at.trains = False
    return network(at, name, spec)


def trained(at, name, spec):
    at.trains = True
    return network(at, name, spec)


def _parameters(at, name, value, shapes, written):
    """A list of arrays of these shapes; where a shape is None there is none."""
    check_list(name, value, len(shapes))
    return [
        None if shape is None else check_array(at, f"{name}[{i}]", a, shape, at.dtype, written)
        for i, (a, shape) in enumerate(zip(value, shapes))
    ]


def _shapes(spec):
    """Shapes of weights, of biases and, None where there are none, of the way back."""
    links, layers = spec.connections, spec.layers
    return (
        [link.weight_shape(layers) for link in links],
        [(layer.n_biases,) for layer in layers[1:]],
        [link.back_shape(layers) if link.own_back else None for link in links],
    )


def weights(at, name, value):
    """Also gives the call its dtype, in which the numbers of the spec must be finite."""
    check_dtype(at, f"{name}[0]", check_list(name, value, len(at.spec.connections))[0])
    check_real("spec.cost_factor", at.spec.cost_factor, dtype=at.dtype)
    if not check_real("spec.dt", at.spec.dt, dtype=at.dtype) > 0:
        raise ValueError(f"spec.dt must be above 0, got {at.spec.dt}")
    layered.gains(at)
    at.shapes = _shapes(at.spec)
    return _parameters(at, name, value, at.shapes[0], at.trains)


def biases(at, name, value):
    return _parameters(at, name, value, at.shapes[1], at.trains)


def back(at, name, value):
    if value is None and not at.spec.own_back:
        return None
    return _parameters(at, name, value, at.shapes[2], at.trains)


def plan(at, name, value):
    """A `TrainPlan`: one rate a connection, one bias rate a layer."""
    return layered.training_plan(at, name, value, (len(at.spec.connections), at.L))


def optimizer_memory(at, name, state):
    """Arrays as the weights, the biases and, where they are, the weights of the way back; None
    under plain SGD.
    """
    if state is not None and not isinstance(state, OptimizerState):
        raise ValueError(f"{name} must be an OptimizerState, got {describe(state)}")
    slots = layered.MOMENTS[at.plan.optimizer]
    if not slots:
        return None
    if state is None:
        raise ValueError(f"{name} is needed for optimizer={at.plan.optimizer!r}")
    shapes = [*at.shapes[0], *at.shapes[1], *(at.shapes[2] if at.spec.own_back else [])]
    found = OptimizerState()
    for slot in slots:
        setattr(found, slot, _parameters(at, f"{name}.{slot}", getattr(state, slot), shapes, True))
    return found


RELAX = {
    "spec": relaxed,
    "weights": weights,
    "back": back,
    "biases": biases,
    "x": Inputs(),
    "beta": Real(),
    "y": layered.targets,
    "states": layered.States(),
    "n_steps": Integer(0, MAX_INT),
    "tol": Real(),
    "n_threads": Integer(1),
}
TRAIN = {
    "spec": trained,
    "weights": weights,
    "back": back,
    "biases": biases,
    "x": Inputs(),
    "y": Array(lambda at: (at.R, at.N[-1])),
    "order": Order(),
    "plan": plan,
    "row_weight": Array(lambda at: (at.R,), optional=True, low=0),
    "particles": layered.States(optional=True),
    "optimizer_state": optimizer_memory,
    "n_threads": Integer(1),
}
