"""Baselines of our own, written idiomatically against other libraries; never imported by
eqprop_fast.
"""
