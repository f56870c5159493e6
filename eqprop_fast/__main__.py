"""`python -m eqprop_fast`."""

from .cli import main

main(prog_name="eqprop-fast")
