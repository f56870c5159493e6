"""From checked arguments to jobs: one place for the C and the Numba callers, one file a family."""
