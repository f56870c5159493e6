raise ImportError("the Numba kernels are not written yet")
