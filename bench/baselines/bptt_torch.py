"""PyTorch CPU baseline of back-propagation through time (1905.13633): autograd through the last K
free steps.

The steps before those run under `no_grad`; then the loss is differentiated by autograd, as anybody
would write it, and plain SGD steps the parameters in place. `torch-hoisted` computes the input
drive W x + b once per mini-batch, so that autograd also makes the gradient of the input weights as
one product; `torch-published` computes it at every step. The shifted sigmoid is sigmoid(4 x - 2).

Weights are (n_in, n_out) NumPy arrays, shared with the tensors (no copy).
"""

from __future__ import annotations

import torch

from .layered_torch import HOISTED, PUBLISHED


class TorchBPTT:
    """BPTT training step of the prototypical dynamics; see `bench.settings.LayeredSetting`."""

    def __init__(self, setting, weights, biases, variant=HOISTED):
        if variant not in (HOISTED, PUBLISHED):
            raise ValueError(f"variant={variant!r}: expected {HOISTED!r} or {PUBLISHED!r}")
        if setting.kind != "prototypical" or setting.activation != "shifted_sigmoid":
            raise ValueError(
                f"no torch baseline of BPTT for {setting.kind!r}, {setting.activation!r}"
            )
        self.setting, self.hoist = setting, variant == HOISTED
        self.weights = [torch.from_numpy(w).requires_grad_() for w in weights]
        self.biases = [torch.from_numpy(b).requires_grad_() for b in biases]

    def prepare(self, x, y, states=None):
        return torch.from_numpy(x), torch.from_numpy(y)

    def _drive(self, x):
        return torch.addmm(self.biases[0], x, self.weights[0])

    def _steps(self, x, drive, states, n_steps):
        last = len(self.weights) - 1
        for _ in range(n_steps):
            new = []
            for k in range(last + 1):
                if k > 0:
                    field = torch.addmm(self.biases[k], states[k - 1], self.weights[k])
                else:
                    field = drive if self.hoist else self._drive(x)
                if k < last:
                    field = torch.addmm(field, states[k + 1], self.weights[k + 1].t())
                new.append(torch.sigmoid(4.0 * field - 2.0))
            states = new
        return states

    def step(self, batch, sign=1.0):
        """Free phase from zero, back-propagation through its last n_nudged_steps steps, SGD."""
        x, y = batch
        setting = self.setting
        drive = self._drive(x) if self.hoist else None
        with torch.no_grad():
            states = [x.new_zeros(len(x), n) for n in setting.layers[1:]]
            states = self._steps(x, drive, states, setting.n_free_steps - setting.n_nudged_steps)
        states = self._steps(x, drive, states, setting.n_nudged_steps)
        loss = setting.cost_scale * (states[-1] - y).square().sum() / len(x)
        parameters = [*self.weights, *self.biases]
        gradients = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            for p, g, rate in zip(parameters, gradients, setting.learning_rates * 2, strict=True):
                p.sub_(g, alpha=rate)
