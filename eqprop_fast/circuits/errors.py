"""What can be wrong with a circuit, each with its own name. All are ValueErrors."""


class CircuitError(ValueError):
    """A circuit that cannot be built or solved as described."""


class ElementError(CircuitError):
    """An element with a value, name or terminal that physics or the netlist does not allow."""


class UnknownModelError(CircuitError):
    """A diode names a model that no `.model` card defines."""


class UnknownNodeError(CircuitError):
    """A node or source is named that no element touches."""


class FloatingNodeError(CircuitError):
    """A node without any direct-current path to ground: its voltage is undefined."""


class VoltageLoopError(CircuitError):
    """A loop of voltage sources: their branch currents are undefined, or their voltages contradict."""


class SingularCircuitError(CircuitError):
    """The circuit's equations have no unique solution although its graph looks sound (a controlled
    source cancels a conductance, say).
    """


class ReciprocityError(CircuitError):
    """The circuit has no energy (its controlled sources are not balanced amplifiers): the local
    learning rule does not give the gradient of the loss.
    """


class NudgeWarning(UserWarning):
    """A nudge out of proportion to the circuit: the gradient that it shows may be far from the
    loss's.
    """


class SpiceError(CircuitError):
    """SPICE text that is malformed or outside the documented subset.

    Attributes
    ----------
    file : str
    line : int
        1-based line at which the offending card begins.
    """

    def __init__(self, file, line, message):
        self.file, self.line = file, line
        super().__init__(f"{file}:{line}: {message}")
