"""Resistive networks with diodes and controlled sources: netlists, operating points, SPICE text,
learning.
"""

from .elements import D1N4148, IDEAL, DiodeModel
from .errors import (
    CircuitError,
    ElementError,
    FloatingNodeError,
    NudgeWarning,
    ReciprocityError,
    SingularCircuitError,
    SpiceError,
    UnknownModelError,
    UnknownNodeError,
    VoltageLoopError,
)
from .netlist import Netlist
from .operating_point import OperatingPoint, operating_point
from .spice_read import parse_spice, read_spice
from .spice_write import to_spice, write_spice

__all__ = [
    "D1N4148",
    "IDEAL",
    "CircuitError",
    "DiodeModel",
    "ElementError",
    "FloatingNodeError",
    "Netlist",
    "NudgeWarning",
    "OperatingPoint",
    "ReciprocityError",
    "SingularCircuitError",
    "SpiceError",
    "UnknownModelError",
    "UnknownNodeError",
    "VoltageLoopError",
    "operating_point",
    "parse_spice",
    "read_spice",
    "to_spice",
    "write_spice",
]
