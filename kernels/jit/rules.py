"""Codes of the learning rules, as kernels compare them."""

from .. import spec

EP, CONTINUAL, VECTOR_FIELD, CONTINUAL_VECTOR_FIELD, CLAMPED_SWEEP, CONTRASTIVE, COUPLED = (
    spec.RULES[rule]
    for rule in (
        "ep", "continual", "vector_field", "continual_vector_field", "clamped_sweep", "contrastive", "coupled"
    )
)
BPTT, RECURRENT, _ = (spec.RULES[rule] for rule in spec.GRADIENT_RULES)
