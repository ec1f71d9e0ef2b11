"""How a rule says no: within this package by raising, so that a rule reads as a list of demands."""


class Refused(ValueError):
    """What was asked is refused. The text is the OK's reason, prefix included."""
