"""How a state moves: the discrete map or Euler steps down an energy.

A `LayeredSpec` is what the kernels are told of it (docs/equations.md 1.2, 1.3).
"""

from __future__ import annotations

from numbers import Real

from sklearn.utils._param_validation import Interval, StrOptions

from .docstrings import documented
from .kernels.spec import ACTIVATIONS, LayeredSpec
from .parts import Part


class Dynamics(Part):
    """Base of the dynamics; not for direct use.

    Parameters
    ----------
    input_activation : str
        The input acts on the first layer as this function of X (1905.13633 EB: the hidden
        activation).
    """

    word = ""
    _factors = ("dt",)
    _parameter_constraints: dict = {
        "input_activation": [StrOptions(set(ACTIVATIONS))],
        "dt": [Interval(Real, 0, None, closed="neither")],
    }

    def spec(self, sizes, **network):
        """What the kernels are told of a network that moves like this.

        Parameters
        ----------
        sizes : sequence of int
            Units of each layer, input first.
        **network
            The other fields of `LayeredSpec`: activations, schedule, cost.

        Returns
        -------
        LayeredSpec
        """
        return LayeredSpec(sizes=tuple(int(n) for n in sizes), **self._fields(), **network)

    def graph_spec(self, graph, **network):
        """The same of a `networks.Graph`.

        Returns
        -------
        GraphSpec
        """
        return graph.spec(**self._fields(), **network)

    def _fields(self):
        return {"dynamics": self.word, **self.get_params(deep=False), "dt": float(self.dt)}


@documented
class Discrete(Dynamics):
    """The map ``s <- s + dt (rho(field) - s)`` (1905.13633, prototypical; docs/equations.md 1.2).

    Parameters
    ----------
    nudge_inside : bool
        ``rho(field + nudge)`` (2006.03824) instead of ``rho(field) + nudge`` (1905.13633). No
        effect on the rules that hold the output or have no nudge.
    dt : float
        Damping; 1 is the papers' map.
    """

    word = "discrete"
    _parameter_constraints: dict = {**Dynamics._parameter_constraints, "nudge_inside": ["boolean"]}

    def __init__(self, *, input_activation="identity", nudge_inside=False, dt=1.0):
        self.input_activation = input_activation
        self.nudge_inside = nudge_inside
        self.dt = dt


@documented
class Continuous(Dynamics):
    """Euler steps of ``ds/dt = -s + rho'(s) field`` (1602.05179; 1905.13633, energy-based).

    docs/equations.md 1.3.

    Parameters
    ----------
    dt : float
        Euler step.
    clamp : bool
        Clip states to [0, 1] after each step.
    prime_hidden, prime_output : bool
        Multiply the field of hidden units, of the output by ``rho'(s)``. The vector-field rules
        leave it out everywhere.
    linear_output : bool
        The output acts and learns as ``s`` instead of ``rho(s)``.
    """

    word = "continuous"
    _parameter_constraints: dict = {
        **Dynamics._parameter_constraints,
        **dict.fromkeys(("clamp", "prime_hidden", "prime_output", "linear_output"), ["boolean"]),
    }

    def __init__(
        self,
        *,
        input_activation="identity",
        dt=1.0,
        clamp=True,
        prime_hidden=True,
        prime_output=False,
        linear_output=False,
    ):
        self.input_activation = input_activation
        self.dt = dt
        self.clamp = clamp
        self.prime_hidden = prime_hidden
        self.prime_output = prime_output
        self.linear_output = linear_output


DYNAMICS = {cls.word: cls for cls in (Discrete, Continuous)}


def dynamics_of(spec):
    """The `Discrete` or `Continuous` that a `LayeredSpec` was made of."""
    cls = DYNAMICS[spec.dynamics]
    return cls(**{name: getattr(spec, name) for name in cls().get_params()})
