"""Benchmarks of eqprop_fast; `python -m bench.run` runs them all (see `bench/run.py`)."""
