"""Estimators by flat parameter names, those of their parts too."""


def build(kind, *args, **params):
    """``kind(*args)`` with parameters set, nested ones (``learning_rule__beta``) as well."""
    return kind(*args).set_params(**params)
