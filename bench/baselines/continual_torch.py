"""PyTorch CPU baselines of continual EP (C-EP) and its vector-field form (C-VF), discrete nets
(2005.04168).

The nudged phase updates the parameters after every neuron step, and the next neuron step uses them,
so only the free phase can hoist the input drive; inside the nudged phase the input's part of the
update is a rank-B product a step whatever one does. The drive is not recomputed from x there
either: it moves by exactly x (dW), so its change is (x x^T) (ds), a B x B Gram matrix computed once
per batch. Whether that is used is the `variant`, as in `layered_torch`: `torch-published`
multiplies x by the input weights at every step.

Weights are (n_in, n_out), input -> output, shared with the caller's NumPy arrays and updated in
place. In C-VF, `back[k]` is (n_k+1, n_k) and untied; `back[0]` is unused (the input does not move).
"""

from __future__ import annotations

import torch

from .layered_torch import HOISTED, PUBLISHED


class TorchContinual:
    """C-EP or C-VF training step; see `bench.settings.ContinualSetting`.

    Update after each nudged step t, for every pair of layers (lr and bias rate of that pair): C-EP:
    W += lr/(beta B) (s_k(t+1)^T s_k+1(t+1) - s_k(t)^T s_k+1(t)), input layer with x; C-VF: W +=
    lr/(beta B) s_k(t)^T (s_k+1(t+1) - s_k+1(t)), back += lr/(beta B) s_k+1(t)^T (s_k(t+1) -
    s_k(t)). The bias of the first hidden layer is not trained in C-VF, as in the authors' discrete
    class.
    """

    def __init__(self, setting, weights, biases, back=None, variant=HOISTED):
        if variant not in (HOISTED, PUBLISHED):
            raise ValueError(f"variant={variant!r}: expected {HOISTED!r} or {PUBLISHED!r}")
        if setting.vector_field != (back is not None):
            raise ValueError("back: give untied backward weights exactly when setting.vector_field")
        self.setting, self.hoist = setting, variant == HOISTED
        self.weights = [torch.from_numpy(w) for w in weights]
        self.biases = [torch.from_numpy(b) for b in biases]
        self.untied = None if back is None else [None, *(torch.from_numpy(b) for b in back[1:])]
        self.dtype = self.weights[0].dtype
        self._minus_two = torch.tensor(-2.0, dtype=self.dtype)
        self._batch_size = None

    def prepare(self, x, y, states=None):
        return torch.from_numpy(x), torch.from_numpy(y)

    def _allocate(self, batch_size):
        if batch_size != self._batch_size:
            layers = self.setting.layers[1:]
            self.state, self.new = (
                [torch.empty(batch_size, n, dtype=self.dtype) for n in layers] for _ in range(2)
            )
            self.shift = torch.empty(batch_size, layers[-1], dtype=self.dtype)
            self._batch_size = batch_size

    @torch.inference_mode()
    def step(self, batch, sign=1.0):
        """Free phase (weights frozen), then n_nudged_steps of neuron step + parameter update."""
        x, y = batch
        setting, beta = self.setting, sign * self.setting.beta
        self._allocate(len(x))
        for state in self.state:
            state.zero_()
        self.drive = torch.addmm(self.biases[0], x, self.weights[0])
        gram = torch.addmm(torch.ones((), dtype=self.dtype), x, x.t()) if self.hoist else None
        back = self._backward_copy()
        for _ in range(setting.n_free_steps):
            self._neurons(x, back)
        rate = 1.0 / (beta * len(x))
        for _ in range(setting.n_nudged_steps):
            force = torch.sub(y, self.state[-1], out=self.shift)
            self._neurons(x, self._backward_view(), force, beta)
            # `_neurons` swapped: self.new now holds the states before the step
            self._learn(x, gram, rate)

    def _backward_copy(self):
        """Contiguous backward weights for the free phase, where they are frozen and used many
        times.
        """
        if self.untied is not None:
            return self.untied
        return [None, *(w.t().contiguous() for w in self.weights[1:])]

    def _backward_view(self):
        return (
            self.untied if self.untied is not None else [None, *(w.t() for w in self.weights[1:])]
        )

    def _neurons(self, x, back, force=None, beta=0.0):
        state, new, last = self.state, self.new, len(self.weights) - 1
        for k, field in enumerate(new):
            if k > 0:
                torch.addmm(self.biases[k], state[k - 1], self.weights[k], out=field)
            elif self.hoist and last > 0:
                torch.addmm(self.drive, state[1], back[1], out=field)
            elif self.hoist:
                field.copy_(self.drive)
            else:
                torch.addmm(self.biases[0], x, self.weights[0], out=field)
            if k < last and not (k == 0 and self.hoist):
                field.addmm_(state[k + 1], back[k + 1])
            torch.add(self._minus_two, field, alpha=4.0, out=field).sigmoid_()
        if force is not None:
            new[-1].add_(force, alpha=beta)
        self.state, self.new = new, state

    def _learn(self, x, gram, rate):
        old, new, rates = self.new, self.state, self.setting.learning_rates
        vector_field = self.untied is not None
        for k, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            step = rates[k] * rate
            moved = new[k] - old[k]
            if k == 0:
                weight.addmm_(x.t(), moved, alpha=step)
                if (
                    gram is not None
                ):  # gram holds x x^T + 1: the 1 is the bias' part; C-VF does not train that bias
                    self.drive.addmm_(gram, moved, alpha=step)
                    if vector_field:
                        self.drive.sub_(moved.sum(0), alpha=step)
            elif vector_field:
                weight.addmm_(old[k - 1].t(), moved, alpha=step)
                self.untied[k].addmm_(old[k].t(), new[k - 1] - old[k - 1], alpha=step)
            else:
                weight.addmm_(new[k - 1].t(), new[k], alpha=step)
                weight.addmm_(old[k - 1].t(), old[k], alpha=-step)
            if not (vector_field and k == 0):
                bias.add_(moved.sum(0), alpha=step)
