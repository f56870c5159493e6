"""NAME.h and NAME.c of a layered resistive network: csrc/embedded/resistive.c filled in."""

from __future__ import annotations

from .csource import FloatParts
from .curves import LARGEST_FLOAT
from .template import c_float


class ResistiveParts(FloatParts):
    """Conductances, bias currents and diodes in float32; voltages are referred to the output."""

    def flags(self):
        on = {"RESISTIVE": True, "PAIRS": self.model.spec.pairs}
        return {**super().flags(), **{f"NET_{key}": value for key, value in on.items()}}

    def what(self):
        return "of conductances, in float32"

    def kind_of_network(self):
        spec = self.model.spec
        text = f"Conductances between layers, {spec.diodes} diodes at the hidden nodes"
        text += ", two nodes an output" if spec.pairs else ""
        return f"{text}; {spec.schedule} sweeps."

    def words(self):
        gain = self.model.spec.amplifier_gain
        return {
            **super().words(),
            "RESIDUAL": ", in volt",
            "STATES": f"; volt, times {gain:g} for each amplifier behind"
            if gain != 1
            else "; volt",
            "NUDGED": ", or a nudge exceeds the conductance at an output",
        }

    def private(self):
        gain = self.model.spec.source_gain
        return {**super().private(), "GAIN": c_float(gain)}

    def learning(self):
        plan, spec = self.model.learn, self.model.spec
        beta = abs(plan.beta)
        span = beta * (2 if plan.nudging == "centered" else 1)
        return {
            "BETA": c_float(beta),
            "PER_SPAN": c_float(1 / span),
            "MAX_RATE": "100.0f",
            "G_MIN": c_float(spec.g_min),
            "G_MAX": c_float(min(spec.g_max, LARGEST_FLOAT)),
        }

    def layer_numbers(self, k):
        """Lowest and highest voltage of the first nodes, and from which on they are mirrored."""
        spec, n = self.model.spec, self.model.biases[k].size
        if k == len(self.model.weights) - 1 or spec.diodes == "none":
            return [c_float(-LARGEST_FLOAT), c_float(LARGEST_FLOAT), n]
        if spec.diodes == "signed":
            return [c_float(0), c_float(LARGEST_FLOAT), n // 2]
        return [c_float(0), c_float(spec.referred(k + 1)), n]
