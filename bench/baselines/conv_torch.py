"""P-conv of 1905.13633 (two pooled convolutions under a dense output) trained by equilibrium
propagation, in PyTorch: the baseline of bench_graph.

Idiomatic: oneDNN convolutions under inference mode, the places of the maxima kept from pooling and
used by unpooling and by the update. `hoisted`: the convolution of the input, which stays, once a
batch; else once a step, as the authors' code has it.
"""

import torch
import torch.nn.functional as F


class TorchConv:
    """Weights, biases: arrays as `graph_train` takes them, copied: (32, 1, 5, 5), (64, 32, 5, 5),
    (1024, 10).
    """

    def __init__(self, weights, biases, plan, hoisted=True, channels_last=False):
        self.weights = [torch.tensor(w) for w in weights]
        self.biases = [torch.tensor(b) for b in biases]
        self.plan, self.hoisted = plan, hoisted
        self.layout = torch.channels_last if channels_last else torch.contiguous_format

    def _pooled(self, z):
        return F.max_pool2d(z, 2, return_indices=True)

    def _input(self, x):
        first, places = self._pooled(F.conv2d(x, self.weights[0]))
        return first + self.biases[0][:, None, None], places

    def _step(self, drive, states, beta, y):
        one, two, out = states
        high, places = self._pooled(F.conv2d(one, self.weights[1]))
        down = F.conv_transpose2d(F.max_unpool2d(two, places, 2), self.weights[1])
        back = (out @ self.weights[2].T).view_as(two)
        new = (two.flatten(1) @ self.weights[2] + self.biases[2]).clamp_(0, 1)
        if beta:
            new = new + beta * (y - out)
        return [
            (drive + down).clamp_(0, 1),
            (high + self.biases[1][:, None, None] + back).clamp_(0, 1),
            new,
        ]

    def _relax(self, x, drive, states, n_steps, beta=0.0, y=None):
        for _ in range(n_steps):
            if not self.hoisted:
                drive, _ = self._input(x)
            states = self._step(drive, states, beta, y)
        return states

    def _correlation(self, low, high, places, c):
        unpooled = F.max_unpool2d(high, places, 2)
        return torch.nn.grad.conv2d_weight(low, self.weights[c].shape, unpooled)

    @torch.inference_mode()
    def train_batch(self, x, y, sign=1.0):
        """One batch (B, 1, 28, 28), (B, 10) of one-sided EP."""
        x = x.contiguous(memory_format=self.layout)
        plan, beta = self.plan, self.plan.beta * sign
        shapes = ((32, 12, 12), (64, 4, 4))
        states = [
            torch.zeros(len(x), *s, dtype=x.dtype).contiguous(memory_format=self.layout)
            for s in shapes
        ] + [torch.zeros_like(y)]
        drive, first = self._input(x)
        free = self._relax(x, drive, states, plan.n_free_steps)
        nudged = self._relax(x, drive, free, plan.n_nudged_steps, beta, y)
        scale, ends = 1 / (beta * len(x)), []
        for one, two, out in (free, nudged):
            _, places = self._pooled(F.conv2d(one, self.weights[1]))
            ends.append((self._correlation(one, two, places, 1), two.flatten(1).T @ out))
        change = [b - a for a, b in zip(free, nudged)]
        gradients = [
            self._correlation(x, change[0], first, 0),
            ends[1][0] - ends[0][0],
            ends[1][1] - ends[0][1],
        ]
        sums = [change[0].sum((0, 2, 3)), change[1].sum((0, 2, 3)), change[2].sum(0)]
        for group, steps, rates in (
            (self.weights, gradients, plan.rate),
            (self.biases, sums, plan.bias_rate),
        ):
            for p, g, rate in zip(group, steps, rates):
                p += rate * scale * g
