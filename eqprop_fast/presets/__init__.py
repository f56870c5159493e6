"""The papers' experiments, one file a paper; each number is the paper's own (or its authors' code).

Rates run input -> output, as everywhere in this package.
"""

from . import (
    paper_1602_05179,
    paper_1905_13633,
    paper_2005_04168,
    paper_2006_01981,
    paper_2006_03824,
    paper_2205_15021,
    paper_2312_15103,
    paper_2402_11674,
    paper_2509_26003,
    smonsays,
)
from .record import Preset, look_up

_LAYERED = (
    paper_1602_05179, paper_1905_13633, paper_2005_04168, paper_2006_03824, paper_2205_15021, smonsays,
    paper_2402_11674,
)
_RESISTIVE = (paper_2402_11674, paper_2006_01981)
_CONVOLUTIONAL = (paper_1905_13633, paper_2006_03824, paper_2312_15103)
_GRAPHS = (paper_2509_26003,)
PRESETS = {row.name: row for paper in _LAYERED for row in paper.PRESETS}
CONV_PRESETS = {row.name: row for paper in _CONVOLUTIONAL for row in paper.CONV_PRESETS}
GRAPH_PRESETS = {row.name: row for paper in _GRAPHS for row in paper.GRAPH_PRESETS}
RESISTIVE_PRESETS = {row.name: row for paper in _RESISTIVE for row in paper.RESISTIVE_PRESETS}

ALL_PRESETS = {**PRESETS, **CONV_PRESETS, **GRAPH_PRESETS, **RESISTIVE_PRESETS}


def list_presets():
    """Names that `EqPropClassifier.from_paper` knows."""
    return list(PRESETS)


def list_conv_presets():
    """Names that `ConvEqPropClassifier.from_paper` knows."""
    return list(CONV_PRESETS)


def list_graph_presets():
    """Names that `GraphEqPropClassifier.from_paper` knows."""
    return list(GRAPH_PRESETS)


def list_resistive_presets():
    """Names that `ResistiveClassifier.from_paper` knows."""
    return list(RESISTIVE_PRESETS)


def preset(name):
    """The `Preset` of a name, with its source, layers and notes.

    Raises
    ------
    ValueError
        Unknown name; the message lists the known ones.
    """
    return look_up(PRESETS, name)


def conv_preset(name):
    """As `preset`, of convolutional networks."""
    return look_up(CONV_PRESETS, name)


def graph_preset(name):
    """As `preset`, of other graphs."""
    return look_up(GRAPH_PRESETS, name)


def resistive_preset(name):
    """As `preset`, of resistive experiments."""
    return look_up(RESISTIVE_PRESETS, name)


__all__ = [
    "ALL_PRESETS",
    "CONV_PRESETS",
    "GRAPH_PRESETS",
    "PRESETS",
    "RESISTIVE_PRESETS",
    "Preset",
    "conv_preset",
    "graph_preset",
    "list_conv_presets",
    "list_graph_presets",
    "list_presets",
    "list_resistive_presets",
    "look_up",
    "preset",
    "resistive_preset",
]
