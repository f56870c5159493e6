"""eqprop_fast."""
