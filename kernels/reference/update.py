"""Optimiser steps: SGD, momentum, Nesterov, Adam; the NumPy twin.

`ascent` is minus the gradient (what EP estimates). Weight decay adds ``weight_decay * W`` to the
gradient of weights, never of biases. Momentum follows v <- m v + g, W <- W - rate v (Nesterov: W -
rate (g + m v)).
"""

import numpy as np


def apply_update(weights, biases, weight_ascent, bias_ascent, plan, state, batches_done=0):
    """Step `weights` and `biases` in place. `state` (OptimizerState) is needed by all but plain
    SGD.
    """
    n = len(weights)
    for k, (parameters, ascents, rates) in enumerate(
        [(weights, weight_ascent, plan.rate), (biases, bias_ascent, plan.bias_rate)]
    ):
        for i, (p, ascent, rate) in enumerate(zip(parameters, ascents, rates)):
            gradient = -ascent
            if k == 0 and plan.weight_decay:
                gradient = gradient + p.dtype.type(plan.weight_decay) * p
            p -= _step(gradient, rate, k * n + i, plan, state, batches_done)


def apply_back_update(back, back_ascent, learned, plan, state, batches_done=0):
    """Step independent backward weights, those of the connections `learned`, in place, at the rate
    of their connection.

    The optimiser's slots follow those of the weights and biases.
    """
    for i in learned:
        gradient = -back_ascent[i]
        if plan.weight_decay:
            gradient = gradient + back[i].dtype.type(plan.weight_decay) * back[i]
        slot = len(plan.rate) + len(plan.bias_rate) + i
        back[i] -= _step(gradient, plan.rate[i], slot, plan, state, batches_done)


def _step(gradient, rate, slot, plan, state, batches_done):
    rate = gradient.dtype.type(rate)
    if plan.optimizer == "sgd":
        return rate * gradient
    m = state.velocity[slot]
    if plan.optimizer in ("momentum", "nesterov"):
        momentum = gradient.dtype.type(plan.momentum)
        m *= momentum
        m += gradient
        return rate * (gradient + momentum * m) if plan.optimizer == "nesterov" else rate * m
    v = state.second[slot]
    t = plan.adam_step + batches_done + 1
    m *= plan.beta1
    m += (1 - plan.beta1) * gradient
    v *= plan.beta2
    v += (1 - plan.beta2) * gradient * gradient
    corrected = rate * (np.sqrt(1 - plan.beta2**t) / (1 - plan.beta1**t)).astype(gradient.dtype)
    return (
        corrected
        * m
        / (np.sqrt(v) + gradient.dtype.type(plan.epsilon * np.sqrt(1 - plan.beta2**t)))
    )
