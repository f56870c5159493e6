"""What follows the nodes of a V or I card: the value that counts at the operating point."""

import math

# Functions of time: least and most numbers, and which of them are times. SPICE takes the numbers
# that are left out from the .tran card, which is outside the subset; what may follow them (phases,
# a count of pulses) differs between simulators.
TIME_FUNCTIONS = {
    "sin": (3, 6, (3,)),
    "pulse": (7, 7, (2,)),
    "exp": (6, 6, (2, 4)),
    "pwl": (2, math.inf, (0,)),
    "sffm": (5, 5, ()),
}
_KEYWORDS = {*TIME_FUNCTIONS, "dc", "ac", "(", ")", "="}


def source_value(words, value):
    """Volt or ampere of a source at the operating point.

    Parameters
    ----------
    words : list of str
        Fields behind the nodes; brackets behind the name of a function are fields too.
    value : callable
        Makes a number of one field; ValueError if it is none.

    Notes
    -----
    As in ngspice: a value without a name in front of all others, else the last `dc`, else the
    function of time at time 0, else 0. `ac` and its one or two numbers are small-signal only.
    """
    words, bare, dc, start = list(words), None, None, None
    if words and words[0] not in _KEYWORDS:
        try:
            bare = value(words[0])
        except ValueError as error:
            raise ValueError(
                f"expected node node [dc] value, got {words[0][:40]!r} ({error})"
            ) from None
        words.pop(0)
    while words:
        word = words.pop(0)
        if word in ("dc", "ac"):
            if words[:1] == ["="]:
                words.pop(0)
            count = 0
            while words and words[0] not in _KEYWORDS and count < (1 if word == "dc" else 2):
                found, count = value(words.pop(0)), count + 1
            if word == "dc":
                if not count:
                    raise ValueError("expected a value after 'dc'")
                dc = found
        elif word in TIME_FUNCTIONS:
            if start is not None:
                raise ValueError(f"expected one function of time, got {word!r} too")
            start = _at_time_zero(word, [value(text) for text in _arguments(word, words)])
        else:
            raise ValueError(
                f"expected node node [dc] value [ac ...] [function], got {word[:40]!r}"
            )
    return next((v for v in (bare, dc, start) if v is not None), 0.0)


def _arguments(name, words):
    """Takes the arguments of a function from the front of the fields; brackets may be left out."""
    bracket = words[:1] == ["("]
    if bracket:
        words.pop(0)
    out = []
    while words and words[0] not in _KEYWORDS:
        out.append(words.pop(0))
    if bracket and words[:1] != [")"]:
        raise ValueError(
            f"expected numbers in {name}(...), got {words[0] if words else 'the end'!r}"
        )
    if bracket:
        words.pop(0)
    return out


def _at_time_zero(name, given):
    least, most, delays = TIME_FUNCTIONS[name]
    if not least <= len(given) <= most:
        raise ValueError(
            f"expected node node [dc] value, got {name}(...) of {len(given)} numbers "
            f"(it needs {least} to {most})"
        )
    for k in delays:
        if k < len(given) and given[k] < 0:
            raise ValueError(f"expected no negative time in {name}(...), got {given[k]}")
    if name == "sin":
        return given[0] + given[1] * math.sin(math.radians(given[5] if len(given) > 5 else 0.0))
    if name == "pwl":
        times = given[::2]
        if len(given) % 2 or any(b <= a for a, b in zip(times, times[1:], strict=False)):
            raise ValueError("expected pairs of increasing times and values in pwl(...)")
        return given[1]
    return given[0]
