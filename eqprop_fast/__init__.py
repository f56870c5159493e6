"""Networks that learn by equilibrium propagation, as scikit-learn estimators over fast CPU kernels."""

from ._lazy import lazy

__version__ = "0.1.0"

# public name -> module; loaded on first use, so that `import eqprop_fast` stays light
_EXPORTS = {
    **dict.fromkeys(
        (
            "ConvEqPropClassifier",
            "ConvEqPropRegressor",
            "EqPropClassifier",
            "EqPropRegressor",
            "GraphEqPropClassifier",
            "GraphEqPropRegressor",
            "ResistiveClassifier",
            "ResistiveRegressor",
        ),
        "estimators",
    ),
    **dict.fromkeys(("Continuous", "Discrete"), "dynamics"),
    **dict.fromkeys(("Recognition", "Relaxation", "ResistiveRelaxation"), "relaxation"),
    **dict.fromkeys(
        (
            "BPTT",
            "EP",
            "ClampedSweep",
            "ContinualEP",
            "ContinualVectorField",
            "Contrastive",
            "Coupled",
            "Implicit",
            "RecurrentBackprop",
            "ResistiveEP",
            "VectorField",
        ),
        "rules",
    ),
    **dict.fromkeys(("DeepBoltzmannMachine", "DeepHopfieldNetwork", "LogPartition"), "generative"),
    **dict.fromkeys(("CrossEntropy", "SquaredError"), "costs"),
    "Checkpoint": "training.checkpoint",
    **dict.fromkeys(("Cosine", "Exponential", "InverseScaling"), "training.schedules"),
    **dict.fromkeys(("FanInUniform", "GlorotUniform", "Orthogonal"), "networks.initial"),
    **dict.fromkeys(("Connection", "Conv", "Dense", "Graph", "Layer", "ReadOut"), "networks.graph"),
    **dict.fromkeys(("Crop", "Flip", "Shift"), "training.augment"),
    "ResistiveCircuit": "networks.resistive",
    **dict.fromkeys(
        ("list_conv_presets", "list_graph_presets", "list_presets", "list_resistive_presets"),
        "presets",
    ),
    **dict.fromkeys(
        (
            "BackendUnavailableError",
            "DivergenceError",
            "NudgeError",
            "available_backends",
            "get_backend",
        ),
        "kernels",
    ),
    "show_backends": "_backends",
}

__getattr__, __dir__, __all__ = lazy(__name__, _EXPORTS)
