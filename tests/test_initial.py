"""Initial weights: what each scheme promises of them, in chains and graphs."""

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from eqprop_fast import Conv, ConvEqPropClassifier, Orthogonal
from eqprop_fast.networks.initial import WEIGHT_INITS, FanInUniform

SIZES = 12, 40, 40, 7


def drawn(scheme, dtype="float64"):
    return scheme.draw(SIZES, np.random.default_rng(0), np.dtype(dtype))


@pytest.mark.parametrize("word", WEIGHT_INITS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_shapes_dtypes_and_gains(word, dtype):
    gains = 0.5, 2.0, 1.0
    weights, biases = drawn(WEIGHT_INITS[word](), dtype)
    scaled, same = drawn(WEIGHT_INITS[word](gain=gains), dtype)
    assert [w.shape for w in weights] == list(zip(SIZES[:-1], SIZES[1:]))
    assert {a.dtype for a in (*weights, *biases)} == {np.dtype(dtype)}
    for w, s, gain in zip(weights, scaled, gains):
        np.testing.assert_allclose(s, gain * w, rtol=1e-6)
        assert w.flags.c_contiguous
    for b, s in zip(biases, same):
        np.testing.assert_array_equal(b, s)


def test_orthogonal_weights_have_one_singular_value_but_for_those_of_the_input():
    (first, *above), _ = drawn(Orthogonal(gain=0.8))
    for w in above:
        np.testing.assert_allclose(np.linalg.svd(w, compute_uv=False), 0.4, rtol=1e-12)
    np.testing.assert_array_equal(first, drawn(FanInUniform(gain=0.8))[0][0])


def test_no_loop_of_a_chain_amplifies():
    weights, _ = drawn(Orthogonal())
    ends = np.cumsum((0, *SIZES[1:]))
    together = np.zeros((ends[-1], ends[-1]))
    for k, w in enumerate(weights[1:]):
        together[ends[k] : ends[k + 1], ends[k + 1] : ends[k + 2]] = w
    assert 0.5 < np.linalg.eigvalsh(together + together.T).max() < 1


def test_orthogonal_kernels():
    X = np.random.default_rng(0).normal(size=(8, 1, 10, 10))
    model = ConvEqPropClassifier(
        (Conv(4, 3), Conv(6, 3)), weight_init="orthogonal", max_iter=1, learning_rate_init=1e-30
    )
    model.fit(X, np.arange(8) % 2)
    kernel = model.coefs_[1].reshape(6, -1)
    np.testing.assert_allclose(np.linalg.svd(kernel, compute_uv=False), 0.5, rtol=1e-5)


def test_the_same_weights_for_any_number_of_blas_threads():
    scheme = Orthogonal()
    found = []
    for n in (1, 2, 4):
        with threadpool_limits(n):
            found.append(scheme.draw((3, 300, 200), np.random.default_rng(0), np.dtype("f8"))[0])
    for others in found[1:]:
        for a, b in zip(found[0], others):
            np.testing.assert_array_equal(a, b)
