"""Are two values of the NDJSON the same value? Maps in any order, NaN like NaN."""
import math


def double(text):
    return float(text.replace("Infinity", "inf"))


def same(a, b):
    if not isinstance(a, dict) or not isinstance(b, dict) or set(a) != set(b):
        return False
    (kind, left), right = next(iter(a.items())), next(iter(b.values()))
    if kind == "double":
        left, right = double(left), double(right)
        if math.isnan(left) or math.isnan(right):
            return math.isnan(left) and math.isnan(right)
        return left == right and math.copysign(1, left) == math.copysign(1, right)
    if kind == "list":
        return len(left) == len(right) and all(map(same, left, right))
    if kind == "map":
        return len(left) == len(right) and all(
            any(same(key, other) and same(value, found) for other, found in right) for key, value in left)
    if kind == "optional":
        return left is right is None or (left is not None and right is not None and same(left, right))
    return left == right
