"""What schemathesis must be told about our document. It runs in the environment of its own."""

import schemathesis


def is_text(value):
    """As it arrives: a list is its items one after the other, an object its names."""
    if isinstance(value, str):
        return value not in ("true", "false", "null")
    return isinstance(value, (list, dict)) and len(value) > 1


@schemathesis.hook
def filter_query(context, query):
    """A number, true or null in a query where a string is expected is a string there like any other, and so is a list
    of one: no wrong data, which the server would have to refuse."""
    return not query or all(is_text(query.get(name, "")) for name in ("gatewayId", "database", "collection"))
