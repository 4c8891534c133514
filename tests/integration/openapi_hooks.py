"""What schemathesis must be told about our document. It runs in the environment of its own."""

import schemathesis


@schemathesis.hook
def filter_query(context, query):
    """A number, true or null that stands in a query where a string is expected is a string there like any other:
    no wrong data, which the server would have to refuse."""
    names = ("gatewayId", "database", "collection")
    return not query or all(isinstance(query.get(name, ""), (str, list, dict)) for name in names)
