"""The prototypical convolutional network of 1905.13633, for its gradient-match figures
(docs/equations.md 10.4).
"""

from __future__ import annotations

import numpy as np

from ..gradients.record import check_count
from ..networks.graph import Conv, Dense, chain, draw_parameters
from .models import GraphModel
from .values import check_dtype, check_sizes, generator_of


class ConvNetwork(GraphModel):
    """Convolutional layers with 2x2 max pooling and a dense output, a `GraphModel`.

    Parameters
    ----------
    channels : tuple of int
        Of the image and of every convolutional layer; the paper's 1, 32, 64.
    n_outputs, image_size, kernel_size : int
    random_state : None, int or numpy.random.Generator
        Parameters are U(-1/sqrt(fan_in), 1/sqrt(fan_in)).
    activation : str
    nudge_inside : bool
        ``rho(field + nudge)`` instead of the paper's ``rho(field) + nudge``.

    Raises
    ------
    ValueError
        A layer's map has an odd size, or none is left.
    """

    def __init__(
        self,
        channels=(1, 32, 64),
        n_outputs=10,
        random_state=None,
        *,
        image_size=28,
        kernel_size=5,
        activation="hard_sigmoid",
        nudge_inside=False,
        dtype=np.float64,
    ):
        channels = check_sizes(channels, "channels")
        for name, value in dict(
            n_outputs=n_outputs, image_size=image_size, kernel_size=kernel_size
        ).items():
            check_count(value, name)
        dtype = check_dtype(dtype)
        maps = [Conv(n, kernel_size, pool="max") for n in channels[1:]]
        image = channels[0], image_size, image_size
        try:
            graph = chain(image, [*maps, Dense(n_outputs)])
        except ValueError as error:
            raise ValueError(f"image_size={image_size}: {error}") from error
        spec = graph.spec(
            activation=activation, out_activation=activation, nudge_inside=nudge_inside
        )
        weights, biases = draw_parameters(spec, generator_of(random_state), dtype)
        names = ["input", *[f"conv {k}" for k in range(1, len(maps) + 1)], "output"]
        synapses = [f"K{k}{k + 1}" for k in range(len(maps))] + ["W dense"]
        super().__init__(spec, weights, biases, names, synapses)
