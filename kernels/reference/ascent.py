"""What a learning rule gives: a direction for every parameter of a network."""

from dataclasses import dataclass


def _each(function, *groups):
    """`function` of the entries of lists; None where an entry, or the list, is."""
    if groups[0] is None:
        return None
    return [None if a[0] is None else function(*a) for a in zip(*groups)]


@dataclass
class Ascent:
    """Minus the gradient estimate, averaged over the batch: what the weights should move along.

    `back`: of weights of their own for the way back; None, as its entries, where there are none.
    """

    weights: list
    biases: list
    back: list | None = None

    def scaled(self, factor):
        return Ascent(*[_each(lambda a: a * a.dtype.type(factor), p) for p in self._parts()])

    def plus(self, other):
        pairs = zip(self._parts(), other._parts())
        return Ascent(*[_each(lambda a, b: a + b, p, q) for p, q in pairs])

    def _parts(self):
        return self.weights, self.biases, self.back
