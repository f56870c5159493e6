"""2509.26003, Hopfield-ResNet: residual blocks whose second layer has a skip connection past the first.

Numbers of the authors' EquiProp/dhcnresnet.py.
"""

from ..networks.graph import Connection, Graph, Layer
from ..networks.initial import FanInUniform
from ..rules import EP
from ..training.augment import Crop, Flip
from ..training.schedules import Cosine
from .paper_2312_15103 import FLOOR
from .paper_2402_11674 import hopfield
from .record import Preset, sizes_of

GAINS = 0.6, 0.6, 0.7  # of a block: into it, on within it, past it
RATE = 0.03


def resnet(channels=(128, 256, 512, 512), image=(3, 32, 32), n_outputs=10):
    """The `Graph`: a block for each number of channels, which halves the sides of its maps."""
    layers, connections, below, side = [Layer("input", image)], [], "input", image[1]
    for k, n in enumerate(channels, start=1):
        a, b = f"block {k} a", f"block {k} b"
        layers += [Layer(a, (n, side, side)), Layer(b, (n, side // 2, side // 2))]
        connections += [
            Connection(below, a, kernel=3, padding=1),
            Connection(a, b, kernel=3, stride=2, padding=1),
            Connection(below, b, kernel=1, stride=2),
        ]
        below, side = b, side // 2
    layers.append(Layer("output", n_outputs))
    return Graph(layers, [*connections, Connection(below, "output")])


def _parameters(network):
    n = len(network.connections)
    return hopfield(
        120,
        50,
        300,
        (RATE,) * n,
        network=network,
        activation="relu6",
        learning_rule=EP(beta=0.1, nudging="centered", n_steps=50, tol=None),
        solver="nesterov",
        momentum=0.9,
        weight_decay=2.5e-4,
        learning_rate=Cosine(min_factor=FLOOR / RATE),
        batch_size=128,
        weight_init=FanInUniform(gain=(*GAINS * (n // 3), 0.8), bias_gain=0.5),
        augment=[Flip(0.5), Crop(4, fill="edge")],
    )


_RESNET13 = resnet()
GRAPH_PRESETS = [
    Preset(
        "2509.26003/hopfield-resnet13",
        "2509.26003, authors' EquiProp/dhcnresnet.py",
        _parameters(_RESNET13),
        sizes_of(_RESNET13),
        n_train=50_000,
        test_error=6.08,
        notes="the authors also use RandAugment(3, 9), which is not built in; their sweeps move odd layers, "
        "then even ones, though skip connections join even layers; ours have three colours",
        dataset="CIFAR-10, (x - mean) / (3 deviations) of each channel",
        data="cifar10",
    ),
]
