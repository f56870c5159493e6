"""2205.15021, agnostic physics-driven learning: its network, trained by centered EP.

Outputs in [-1, 2]; Glorot's bound halved, then gains 0.8 and 1.2. The authors' rate multiplies the
difference of the phases itself, not the gradient: times 2 beta = 0.5.
"""

from ..networks.initial import GlorotUniform
from ..relaxation import Relaxation
from ..rules import EP
from .paper_2402_11674 import hopfield
from .record import mnist

PRESETS = [
    mnist(
        "2205.15021/1h",
        "2205.15021, authors' code hyperparameters.py",
        hopfield(
            100, 100, 200, (0.05, 0.025),
            hidden_layer_sizes=(2048,),
            out_activation="wide_hard_sigmoid",
            weight_init=GlorotUniform(gain=(0.4, 0.6)),
            batch_size=32,
            relaxation=Relaxation(
                "asynchronous", n_steps=100, tol=1e-5, over_relaxation=1.0, start="carry_over"
            ),
            learning_rule=EP(beta=0.25, nudging="centered", n_steps=100, tol=1e-5),
            bias_learning_rate_init=(0.01, 0.005),
        ),
        notes="nudged to either side by half of the authors' 0.5; they stop a batch when the summed change "
        "of a layer is below 1e-3, here each sample stops when no unit moves by more than 1e-5",
    ),
]
