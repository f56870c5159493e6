"""2006.01981, end-to-end analog networks.

The paper names its network and its elements; its gain, beta, rates, bounds, batch, epochs and error
are not known to us. Ours: gain 4 (as in a public re-implementation), diodes at 0 and 1 V, the rest
chosen on a held-out tenth of the training set.
"""

from ..networks.resistive import ResistiveCircuit
from .paper_2402_11674 import resistive
from .record import mnist

RESISTIVE_PRESETS = [
    mnist(
        "2006.01981/mnist",
        "2006.01981 (784 x 2 - 100 - 10 pairs, diodes, amplifiers, complementary inputs); every number is "
        "ours",
        resistive(
            (100,), ResistiveCircuit("clipped", amplifier_gain=4.0, output_pairs=True), 12.0, 6, 1.0, 10,
            (0.02, 0.02),
        ),
        notes="the authors' constants are not published",
    ),
]
