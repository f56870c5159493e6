"""Estimators by flat parameter names, those of their parts too."""


def build(kind, *args, **params):
    """``kind(*args)`` with parameters set, nested ones (``learning_rule__beta``) as well."""
    return kind(*args).set_params(**params)


# what was the default when some tests were written: plain numbers, inputs as they are
PLAIN_NUMBERS = dict(
    activation="shifted_sigmoid",
    input_scaling=None,
    learning_rate_init=0.002,
    layer_decay=1.0,
    weight_decay=0.0,
    batch_size=32,
    relaxation__over_relaxation=1.0,
)
