"""Mutation testing: small faults put into a copy of the tree, and whether a family's tests see
them.

make mutate MUTANTS=20 FAMILY="nodal crossbar" SEED=1
"""
