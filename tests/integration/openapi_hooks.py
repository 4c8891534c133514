"""What schemathesis must be told about our document. It runs in the environment of its own."""

import schemathesis

TEXTS = ("gatewayId", "tenant", "collection")  # arguments in which every text is right


def sent(value):
    """What goes out for an argument: a list is its items one after the other, an object its names; null is nothing."""
    values = list(value) if isinstance(value, (list, dict)) else [value]
    return [each for each in values if each is not None]


@schemathesis.hook
def filter_query(context, query):
    """Passes over arguments that are meant to be wrong and arrive right: those that are not sent at all, and a number,
    true or null, or a list of one of them, where a string is expected."""
    for name, value in (query or {}).items():
        values = sent(value)
        if not values or (name in TEXTS and len(values) == 1 and
                          (not isinstance(value, str) or value in ("true", "false", "null"))):
            return False
    return True
