"""Deep resistive network trained by equilibrium propagation, in PyTorch: the baseline of
bench_crossbar.

Idiomatic and hoisted: the input drive and the total conductances are computed once per batch, all
else is matmul, clamp and in-place arithmetic. `gradient` is how the update is formed:

* "drops": as the equation reads, the squared voltage drops over every conductance, (batch, rows,
cols) tensors,
  averaged over the batch (this is also how the authors' public code goes about it);
* "expanded": the square multiplied out, so that no (batch, rows, cols) tensor appears: one matmul
and two rank-one terms.
"""

import torch


class TorchDRN:
    """Weights, biases: lists of arrays as `eqprop_fast.kernels.reference.crossbar` takes them
    (copied).
    """

    def __init__(
        self, weights, biases, lower, upper, *, input_gain, n_steps, beta, rates, gradient="drops"
    ):
        def tensors(arrays):
            return [torch.tensor(a) for a in arrays]

        self.weights, self.biases = tensors(weights), tensors(biases)
        self.lower, self.upper = tensors(lower), tensors(upper)
        self.input_gain, self.n_steps, self.beta, self.rates = input_gain, n_steps, beta, rates
        self.gradient = {"drops": self._gradient_drops, "expanded": self._gradient_expanded}[
            gradient
        ]
        self.states = None

    def _relax(self, drive, totals, states, beta, y):
        w, n = self.weights, len(self.weights)
        for _ in range(self.n_steps):
            for first in (0, 1):
                for k in range(first, n, 2):
                    num = drive if k == 0 else states[k - 1] @ w[k] + self.biases[k]
                    den = totals[k]
                    if k + 1 < n:
                        num = num + states[k + 1] @ w[k + 1].T
                    elif beta:
                        num, den = num + beta * y, den + beta
                    states[k] = torch.clamp(num / den, self.lower[k], self.upper[k])
        return states

    @staticmethod
    def _gradient_drops(a, b):
        def squares(v):
            return [(i.unsqueeze(2) - j.unsqueeze(1)).pow(2).mean(0) for i, j in zip(v, v[1:])]

        return [p - q for p, q in zip(squares(a), squares(b))]

    @staticmethod
    def _gradient_expanded(a, b):
        out = []
        # a_i^2 - b_i^2 and so on through sums and differences of the two states: small numbers are
        # never lost in large
        diff, mean = [i - j for i, j in zip(a, b)], [i + j for i, j in zip(a, b)]
        for di, dj, mi, mj in zip(diff, diff[1:], mean, mean[1:]):
            n = len(di)
            g = torch.cat([di, mi]).T @ torch.cat([mj, dj]).mul_(-1 / n)
            g += (di * mi).mean(0)[:, None]
            g += (dj * mj).mean(0)
            out.append(g)
        return out

    @torch.no_grad()
    def train_batch(self, x, y):
        w = self.weights
        x = torch.cat([x, -x], 1) * self.input_gain
        drive = x @ w[0] + self.biases[0]
        totals = [w[k].sum(0) + (w[k + 1].sum(1) if k + 1 < len(w) else 0) for k in range(len(w))]
        if self.states is None or len(self.states[0]) != len(x):
            self.states = [torch.zeros(len(x), k.shape[1], dtype=k.dtype) for k in w]
        free = self._relax(drive, totals, list(self.states), 0.0, y)
        plus = self._relax(drive, totals, list(free), self.beta, y)
        minus = self._relax(drive, totals, list(free), -self.beta, y)
        self.states = plus
        for k, g in enumerate(self.gradient([x, *plus], [x, *minus])):
            w[k].sub_(g, alpha=self.rates[k] / (4 * self.beta)).clamp_(min=0)
            self.biases[k].add_((plus[k] - minus[k]).mean(0), alpha=self.rates[k] / (2 * self.beta))
        return free[-1]
