"""PyTorch CPU baselines of our own: one EP training step of a fully connected layered net, made to
be fast.

Two variants. `torch-published` recomputes the input drive W x at every relaxation step, as the
papers' public code does. `torch-hoisted` computes W x + b once per mini-batch: the first thing a
PyTorch user who profiles would do. Neither uses autograd; everything runs under
`torch.inference_mode`, in place, into buffers allocated once. The shifted sigmoid 1 / (1 + exp(-4
(x - 1/2))) = sigmoid(4 x - 2) costs no extra passes: the factor 4 rides in addmm's alpha, the -2 in
drive and biases. `torch.compile` of ten unrolled steps was tried: no gain for the discrete map, 1.4
times for the Euler steps, for a minute of compilation and a C++ compiler at run time, so it is left
out.

Weights are (n_in, n_out) NumPy arrays, shared with the tensors (no copy), so a step can be compared
with another backend entry by entry.
"""

from __future__ import annotations

import numpy as np
import torch

HOISTED, PUBLISHED = "torch-hoisted", "torch-published"


class TorchLayered:
    """EP training step by step in PyTorch; `weights` and `biases` are updated in place.

    Parameters
    ----------
    setting : bench.settings.LayeredSetting
    weights : list of ndarray (n_k, n_k+1), float32 or float64
    biases : list of ndarray (n_k+1,)
    variant : "torch-hoisted" or "torch-published"
    """

    def __init__(self, setting, weights, biases, variant=HOISTED):
        if variant not in (HOISTED, PUBLISHED):
            raise ValueError(f"variant={variant!r}: expected {HOISTED!r} or {PUBLISHED!r}")
        self.setting, self.hoist = setting, variant == HOISTED
        self.weights = [torch.from_numpy(w) for w in weights]
        self.biases = [torch.from_numpy(b) for b in biases]
        self.dtype = self.weights[0].dtype
        self._minus_two = torch.tensor(-2.0, dtype=self.dtype)
        self._batch_size = None
        dynamics = {"prototypical": _Prototypical, "energy": _Energy}
        if setting.kind == "energy" and setting.activation == "hard_sigmoid":
            self.dynamics = _ClippedEnergy(self)
        else:
            if setting.activation != "shifted_sigmoid":
                raise ValueError(
                    f"no torch baseline for activation {setting.activation!r} with {setting.kind!r}"
                )
            self.dynamics = dynamics[setting.kind](self)

    def _allocate(self, batch_size):
        if batch_size == self._batch_size:
            return

        def buffers():
            return [torch.zeros(batch_size, n, dtype=self.dtype) for n in self.setting.layers[1:]]

        self.state, self.field, self.rate = buffers(), buffers(), buffers()
        self.free, self.force = (
            buffers(),
            torch.zeros(batch_size, self.setting.layers[-1], dtype=self.dtype),
        )
        self._batch_size = batch_size

    def prepare(self, x, y, states=None):
        """Tensors over the caller's arrays, made once outside the timed step."""
        tensors = [torch.from_numpy(s) for s in states] if states is not None else None
        return torch.from_numpy(x), torch.from_numpy(y), tensors

    @torch.inference_mode()
    def step(self, batch, sign=1.0):
        """Free phase from zero (or from the batch's persistent states), nudged phase, SGD update.

        `batch` comes from `prepare`; persistent states are overwritten by the end of the free
        phase.
        """
        x, y, persistent = batch
        setting = self.setting
        self._allocate(len(x))
        for k, state in enumerate(self.state):
            state.copy_(persistent[k]) if persistent is not None else state.zero_()
        nudge, dynamics = sign * setting.nudge, self.dynamics
        x = dynamics.start(x)
        dynamics.relax(x, setting.n_free_steps, 0.0, None)
        for free, state in zip(self.free, self.state, strict=True):
            free.copy_(state)
        if persistent is not None:
            for stored, state in zip(persistent, self.state, strict=True):
                stored.copy_(state)
        dynamics.relax(x, setting.n_nudged_steps, nudge, y)
        self._update(x, sign * setting.beta)

    def _update(self, x, beta):
        """W_k += lr_k / (beta B) [r_k^T r_k+1 (nudged) - same (free)]; the input rests."""
        free, nudged = self.dynamics.correlated(self.free, self.state)
        for k, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            rate = self.setting.learning_rates[k] / (beta * len(x))
            difference = torch.sub(nudged[k], free[k], out=self.field[k])
            if k == 0:
                weight.addmm_(x.t(), difference, alpha=rate)
            else:
                weight.addmm_(nudged[k - 1].t(), nudged[k], alpha=rate)
                weight.addmm_(free[k - 1].t(), free[k], alpha=-rate)
            bias.add_(difference.sum(0), alpha=rate)


class _Fields:
    """The synchronous fields `scale * (r_k-1 W_k-1 + r_k+1 W_k^T + b_k) + shift` of every layer k."""

    scale, shift = 1.0, 0.0

    def __init__(self, net):
        self.net = net
        self.n_layers = len(net.weights)
        self.transposed = [torch.empty(w.shape[::-1], dtype=w.dtype) for w in net.weights]

    def start(self, x):
        """Once per batch: biases, transposed weights, the input drive. Returns what the first layer
        sees.
        """
        net = self.net
        for transposed, weight in zip(self.transposed[1:], net.weights[1:], strict=True):
            transposed.copy_(
                weight.t()
            )  # a contiguous W^T: MKL is 1.6 times as fast on it as on the view
        self.bias = [
            torch.add(self.shift, b, alpha=self.scale) if self.shift else b for b in net.biases
        ]
        if net.hoist:
            self.drive = torch.addmm(self.bias[0], x, net.weights[0], alpha=self.scale)
        return x

    def compute(self, x, outputs):
        """Fields of all layers from the layers' current outputs (r = s or rho(s))."""
        net, scale, last = self.net, self.scale, self.n_layers - 1
        for k, field in enumerate(net.field):
            if k > 0:
                torch.addmm(self.bias[k], outputs[k - 1], net.weights[k], alpha=scale, out=field)
            elif net.hoist:
                if last > 0:
                    torch.addmm(self.drive, outputs[1], self.transposed[1], alpha=scale, out=field)
                    continue
                field.copy_(self.drive)
            else:
                torch.addmm(self.bias[0], x, net.weights[0], alpha=scale, out=field)
            if k < last:
                field.addmm_(outputs[k + 1], self.transposed[k + 1], alpha=scale)
        return net.field


class _Prototypical(_Fields):
    """s <- rho(field), the output's nudge added outside rho (1905.13633, "P")."""

    scale, shift = 4.0, torch.tensor(-2.0)

    def relax(self, x, n_steps, nudge, y):
        net = self.net
        for _ in range(n_steps):
            fields = self.compute(x, net.state)
            for field in fields:
                field.sigmoid_()
            if nudge:
                fields[-1].add_(torch.sub(y, net.state[-1], out=net.force), alpha=nudge)
            net.state, net.field = fields, net.state

    def correlated(self, free, nudged):
        return free, nudged


class _Energy(_Fields):
    """Euler steps s <- clip(s + dt (-s + rho'(s) field)), output without rho' (1905.13633, "EB")."""

    def _rho(self, s, out):
        return torch.add(self.net._minus_two, s, alpha=4.0, out=out).sigmoid_()

    def start(self, x):
        if self.net.setting.input_through_rho:
            x = self._rho(x, torch.empty_like(x))
        return super().start(x)

    def relax(self, x, n_steps, nudge, y):
        net, dt = self.net, self.net.setting.dt
        for _ in range(n_steps):
            for state, rate in zip(net.state, net.rate, strict=True):
                self._rho(state, out=rate)
            fields = self.compute(x, net.rate)
            if nudge:
                fields[-1].add_(torch.sub(y, net.state[-1], out=net.force), alpha=nudge)
            for state, rate, field in zip(net.state[:-1], net.rate[:-1], fields[:-1], strict=True):
                rate.addcmul_(
                    rate, rate, value=-1.0
                )  # rho' = 4 (rho - rho^2); the 4 rides in the next line
                state.mul_(1.0 - dt).addcmul_(rate, field, value=4.0 * dt).clamp_(0.0, 1.0)
            net.state[-1].lerp_(fields[-1], dt).clamp_(0.0, 1.0)

    def correlated(self, free, nudged):
        return [self._rho(s, out=s) for s in free], [self._rho(s, out=s) for s in nudged]


class _ClippedEnergy(_Fields):
    """The same with the hard sigmoid: on [0, 1], where s stays, rho(s) = s and rho' = 1
    (1602.05179).
    """

    def relax(self, x, n_steps, nudge, y):
        net, dt = self.net, self.net.setting.dt
        for _ in range(n_steps):
            fields = self.compute(x, net.state)
            if nudge:
                fields[-1].add_(torch.sub(y, net.state[-1], out=net.force), alpha=nudge)
            for state, field in zip(net.state, fields, strict=True):
                state.lerp_(field, dt).clamp_(0.0, 1.0)

    def correlated(self, free, nudged):
        return free, nudged


def persistent_states(setting, n_rows, dtype=np.float32):
    """Zero persistent particles for `n_rows` examples, one array a layer (1602.05179)."""
    return [np.zeros((n_rows, n), dtype=dtype) for n in setting.layers[1:]]
