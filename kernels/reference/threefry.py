"""Random numbers by counter: the draw of a unit is a function of seed, sweep, row, layer and unit,
so that neither threads nor chunks change it.

Threefry-4x32 with 20 rounds (Salmon et al., SC 2011): additions, rotations and exclusive ors of 32
bits, which every instruction set has in vectors.
"""

import numpy as np

ROTATIONS = ((10, 26), (11, 21), (13, 27), (23, 5), (6, 20), (17, 11), (25, 10), (18, 20))
PARITY = 0x1BD11BDA
ROUNDS = 20
LANES = 16  # counters side by side; each has 4 words, which serve LANES units in turn
GROUP = 4 * LANES  # units that LANES counters serve


def threefry(counter, key):
    """Four words for each counter.

    Parameters
    ----------
    counter : uint32 (4, ...)
    key : sequence of 4 int

    Returns
    -------
    uint32 (4, ...)
    """
    ks = [np.uint32(k) for k in key]
    ks.append(np.uint32(PARITY) ^ ks[0] ^ ks[1] ^ ks[2] ^ ks[3])
    x = [c + k for c, k in zip(np.asarray(counter, np.uint32), ks)]
    for r in range(ROUNDS):
        one, three = (1, 3) if r % 2 == 0 else (3, 1)
        first, second = (np.uint32(n) for n in ROTATIONS[r % 8])
        x[0] = x[0] + x[one]
        x[one] = _rotated(x[one], first) ^ x[0]
        x[2] = x[2] + x[three]
        x[three] = _rotated(x[three], second) ^ x[2]
        if r % 4 == 3:
            s = r // 4 + 1
            x = [word + ks[(s + i) % 5] for i, word in enumerate(x)]
            x[3] = x[3] + np.uint32(s)
    return np.array(x)


def _rotated(x, n):
    return x << n | x >> np.uint32(32) - n


def uniform(rows, n, layer, sweep, seed):
    """Numbers in (0, 1), odd multiples of 2^-24: exact in float32, alike in both precisions.

    Parameters
    ----------
    rows : int
    n : int
        Units of the layer.

    Returns
    -------
    float64 (rows, n)
    """
    groups = -(-n // GROUP)
    block = np.arange(groups * LANES, dtype=np.uint32)[None]
    row = np.arange(rows, dtype=np.uint32)[:, None]
    layer, low = np.uint32(layer), np.uint32(sweep & 0xFFFFFFFF)
    counter = np.broadcast_arrays(block, row, layer, low)
    words = threefry(counter, (seed & 0xFFFFFFFF, seed >> 32, sweep >> 32, 0))
    # word w of the LANES counters of a group are its units w LANES, w LANES + 1, ...
    words = words.reshape(4, rows, groups, LANES).transpose(1, 2, 0, 3).reshape(rows, -1)
    return ((words[:, :n] >> np.uint32(9)) * 2.0 + 1) * 2.0**-24
