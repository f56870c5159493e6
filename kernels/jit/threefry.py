"""Random numbers by counter; twin of reference/threefry.py. Words are kept in 64 bits: there a sum of
two cannot overflow.
"""

from .compile import kernel, widest_vectors

LANES, GROUP = 16, 64
WORD = 0xFFFFFFFF
PARITY = 0x1BD11BDA


@kernel(inline=True)
def _turned(x, n):
    return (x << n | x >> (32 - n)) & WORD


@kernel(inline=True)
def _pair(x0, x1, x2, x3, a, b):
    """A round: x0 with x1, x2 with x3."""
    x0 = (x0 + x1) & WORD
    x2 = (x2 + x3) & WORD
    return x0, _turned(x1, a) ^ x0, x2, _turned(x3, b) ^ x2


@kernel(inline=True)
def _even_rounds(x0, x1, x2, x3):
    x0, x1, x2, x3 = _pair(x0, x1, x2, x3, 10, 26)
    x0, x3, x2, x1 = _pair(x0, x3, x2, x1, 11, 21)
    x0, x1, x2, x3 = _pair(x0, x1, x2, x3, 13, 27)
    x0, x3, x2, x1 = _pair(x0, x3, x2, x1, 23, 5)
    return x0, x1, x2, x3


@kernel(inline=True)
def _odd_rounds(x0, x1, x2, x3):
    x0, x1, x2, x3 = _pair(x0, x1, x2, x3, 6, 20)
    x0, x3, x2, x1 = _pair(x0, x3, x2, x1, 17, 11)
    x0, x1, x2, x3 = _pair(x0, x1, x2, x3, 25, 10)
    x0, x3, x2, x1 = _pair(x0, x3, x2, x1, 18, 20)
    return x0, x1, x2, x3


@kernel
def draw_row(out, row, layer, sweep, seed):
    """out[i] = the draw of unit i, in (0, 1); `out` has whole groups."""
    widest_vectors()
    k0, k1, k2 = seed & WORD, seed >> 32, sweep >> 32
    k4, low, real = PARITY ^ k0 ^ k1 ^ k2, sweep & WORD, out.dtype.type
    for first in range(0, out.size, GROUP):
        group = out[first : first + GROUP]
        block = first // GROUP * LANES
        for i in range(LANES):
            x0, x1 = (block + i + k0) & WORD, (row + k1) & WORD
            x2, x3 = (layer + k2) & WORD, low
            x0, x1, x2, x3 = _even_rounds(x0, x1, x2, x3)
            x0, x1, x2, x3 = (x0 + k1) & WORD, (x1 + k2) & WORD, x2, (x3 + k4 + 1) & WORD
            x0, x1, x2, x3 = _odd_rounds(x0, x1, x2, x3)
            x0, x1, x2, x3 = (x0 + k2) & WORD, x1, (x2 + k4) & WORD, (x3 + k0 + 2) & WORD
            x0, x1, x2, x3 = _even_rounds(x0, x1, x2, x3)
            x1, x2, x3 = (x1 + k4) & WORD, (x2 + k0) & WORD, (x3 + k1 + 3) & WORD
            x0, x1, x2, x3 = _odd_rounds(x0, x1, x2, x3)
            x0, x1, x2, x3 = (x0 + k4) & WORD, (x1 + k0) & WORD, (x2 + k1) & WORD, (x3 + k2 + 4) & WORD
            x0, x1, x2, x3 = _even_rounds(x0, x1, x2, x3)
            x0, x1, x2, x3 = (x0 + k0) & WORD, (x1 + k1) & WORD, (x2 + k2) & WORD, (x3 + 5) & WORD
            scale = real(5.9604644775390625e-08)  # 2^-24
            group[i] = real((x0 >> 9) * 2 + 1) * scale
            group[LANES + i] = real((x1 >> 9) * 2 + 1) * scale
            group[2 * LANES + i] = real((x2 >> 9) * 2 + 1) * scale
            group[3 * LANES + i] = real((x3 >> 9) * 2 + 1) * scale
