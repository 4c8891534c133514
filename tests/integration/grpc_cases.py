"""Broken gRPC messages: how each ends its stream, or how its subscription is refused. test_grpc.py shows them to the
sink alone, test_errors_grpc.py to a real pipeline."""

import grpc

from subscriber import make_filter, stubs

Code = grpc.StatusCode

# Name, bytes of one GatewayMessage, how the stream ends, part of the text.

def field(number, data):
    return bytes([number << 3 | 2, len(data)]) + data


def subscribe_bytes(data):
    return field(1, data)


BROKEN = [
    ("empty message", b"", Code.INVALID_ARGUMENT, "payload: expected subscribe, unsubscribe, heartbeat or register"),
    ("unknown payload only", b"\xd2\x05\x01x", Code.INVALID_ARGUMENT, "payload: expected subscribe"),
    ("payload is a number", b"\x08\x01", Code.INVALID_ARGUMENT, "payload: expected a string or message"),
    ("random bytes", bytes(range(200, 256)), Code.INVALID_ARGUMENT, "expected a protobuf message"),
    ("cut within a number", b"\x0a\x80", Code.INVALID_ARGUMENT, "it ends within a number"),
    ("field longer than the message", b"\x0a\x7f", Code.INVALID_ARGUMENT,
     "a field is longer than the message"),
    ("field number zero", b"\x00\x00", Code.INVALID_ARGUMENT, "a field number is out of range"),
    ("group", b"\x0b\x0c", Code.INVALID_ARGUMENT, "a field has an unknown wire type"),
    ("number of 11 bytes", b"\xff" * 10 + b"\x01", Code.INVALID_ARGUMENT, "more than 64 bits"),
    ("collection not UTF-8", subscribe_bytes(field(2, b"\xff\xfe")), Code.INVALID_ARGUMENT,
     "subscribe.collection: expected UTF-8"),
    ("id not UTF-8", subscribe_bytes(field(1, b"\xed\xa0\x80")), Code.INVALID_ARGUMENT,
     "subscribe.subscription_id: expected UTF-8"),
    ("collection is a number", subscribe_bytes(b"\x10\x01"), Code.INVALID_ARGUMENT,
     "subscribe.collection: expected a string or message, got a number"),
    ("filter cut short", subscribe_bytes(field(3, b"\x0a\x05x")), Code.INVALID_ARGUMENT,
     "filters[0]: expected a protobuf message"),
    ("filter value cut short", subscribe_bytes(field(3, field(3, b"\x10\x80"))), Code.INVALID_ARGUMENT,
     "filters[0].value: expected a protobuf message"),
    ("double as a varint", subscribe_bytes(field(3, field(3, b"\x18\x01"))), Code.INVALID_ARGUMENT,
     "filters[0].value: expected a fixed-width number"),
    ("unsubscribe without id", b"\x12\x00", Code.INVALID_ARGUMENT,
     "unsubscribe.subscription_id: expected the id of a subscription"),
    ("heartbeat time is text", field(3, field(2, b"x")), Code.INVALID_ARGUMENT,
     "heartbeat.timestamp: expected a number"),
    ("register: cut short behind a subscription", b"\xa2\x06\x03\x1a\x00\x0a", Code.INVALID_ARGUMENT,
     "register: expected a protobuf message, but it ends within a number"),
    ("register: 10001 subscriptions", b"\xa2\x06\xa2\x9c\x01" + b"\x1a\x00" * 10001, Code.INVALID_ARGUMENT,
     "register.subscriptions: expected at most 10000 in a message, got 10001"),
    ("message over the limit", subscribe_bytes(b"\x12\xff\xff\xff\x7f") + b"x" * 5000000,
     Code.RESOURCE_EXHAUSTED, "larger than max"),
]


def value(**kind):
    return stubs().Value(**kind)


def refusals():
    """Name, fields of a SubscribeRequest, part of the response's error."""
    pb = stubs()
    deep = value(list_value=pb.ListValue(values=[value(list_value=pb.ListValue())]))
    long_list = value(list_value=pb.ListValue(values=[value(bool_value=True)] * 4097))
    return [
        ("33 filters", {"filters": [make_filter("a", "==", 1)] * 33}, "filters: expected at most 32, got 33"),
        ("filter without field", {"filters": [make_filter("", "==", 1)]},
         "filters[0].field: expected a dotted path"),
        ("operator as a word", {"filters": [make_filter("a", "==", 1), make_filter("a", "eq", 1)]},
         'filters[1].op: expected ==, !=, >, >=, <, <=, in or contains, got "eq"'),
        ("filter without operator", {"filters": [make_filter("a", "", 1)]}, 'filters[0].op: expected =='),
        ("filter without value", {"filters": [pb.Filter(field="a", op="==")]},
         "filters[0].value: expected a value, got none"),
        ("empty value", {"filters": [pb.Filter(field="a", op="==", value=pb.Value())]},
         "filters[0].value: expected string_value, int_value"),
        ("list inside a list", {"filters": [pb.Filter(field="a", op="in", value=deep)]},
         "filters[0].value.list_value.values[0]: expected no list inside a list"),
        ("list of 4097", {"filters": [pb.Filter(field="a", op="in", value=long_list)]},
         "filters[0].value.list_value: expected at most 4096 values, got 4097"),
        ("value of 65537 bytes", {"filters": [make_filter("a", "==", "x" * 65537)]},
         "filters[0].value: expected at most 65536 bytes, got 65537"),
        ("path of 65537 bytes", {"filters": [make_filter("x" * 65537, "==", 1)]},
         "filters[0].field: expected at most 65536 bytes, got 65537"),
        ("collection of 1025 bytes", {"collection": "x" * 1025},
         "collection: expected at most 1024 bytes, got 1025"),
        ("database of 1025 bytes", {"database": "x" * 1025},
         "database: expected at most 1024 bytes, got 1025"),
        ("marker of 65537 bytes", {"after": "x" * 65537}, "after: expected at most 65536 bytes, got 65537"),
    ]
