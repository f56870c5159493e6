"""Networks that relax, are nudged and learn: thin objects over a backend's kernels."""

from .graph import Connection, Conv, Dense, Graph, Layer, ReadOut
from .graph_network import GraphNetwork
from .layered import LayeredNetwork
from .protocol import Equilibrium, Network

__all__ = [
    "Connection",
    "Conv",
    "Dense",
    "Equilibrium",
    "Graph",
    "GraphNetwork",
    "Layer",
    "LayeredNetwork",
    "Network",
    "ReadOut",
]
