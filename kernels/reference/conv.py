"""Convolutions as matrix products over windows, and their two adjoints; the NumPy twin.

Maps are (M, C, H, W), kernels (O, C, k, k). `product` is what multiplies two matrices: `np.matmul`,
or `products.in_order`, whose rows do not depend on each other.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view


def _padded(x, padding):
    sides = (padding, padding)
    return np.pad(x, ((0, 0), (0, 0), sides, sides)) if padding else x


def _windows(x, k, stride, padding):
    """(M, C, H', W', k, k), a view of the padded map."""
    return sliding_window_view(_padded(x, padding), (k, k), axis=(2, 3))[:, :, ::stride, ::stride]


def conv(x, kernel, stride=1, padding=0, product=np.matmul):
    """Cross-correlation, (M, O, H', W') with H' = (H + 2 padding - k) // stride + 1."""
    windows = _windows(x, kernel.shape[2], stride, padding)
    m, _, h, w = windows.shape[:4]
    columns = windows.transpose(0, 2, 3, 1, 4, 5).reshape(m * h * w, -1)
    out = product(columns, kernel.reshape(len(kernel), -1).T)
    return out.reshape(m, h, w, -1).transpose(0, 3, 1, 2)


def conv_transpose(g, kernel, sides, stride=1, padding=0, product=np.matmul):
    """Adjoint of `conv` in x, whose maps have these `sides`: (M, C, *sides)."""
    m, o, h, w = g.shape
    k = kernel.shape[2]
    apart = np.zeros((m, o, (h - 1) * stride + 1, (w - 1) * stride + 1), g.dtype)
    apart[:, :, ::stride, ::stride] = g
    reached = conv(apart, kernel[:, :, ::-1, ::-1].swapaxes(0, 1), 1, k - 1, product)
    whole = np.zeros((m, kernel.shape[1], *(side + 2 * padding for side in sides)), g.dtype)
    whole[:, :, : reached.shape[2], : reached.shape[3]] = reached
    return whole[:, :, padding : padding + sides[0], padding : padding + sides[1]]


def kernel_gradient(x, g, k, stride=1, padding=0):
    """Adjoint of `conv` in the kernel, summed over the batch: (O, C, k, k)."""
    return np.tensordot(g, _windows(x, k, stride, padding), ([0, 2, 3], [0, 2, 3]))
