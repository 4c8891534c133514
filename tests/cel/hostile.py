"""Expressions that mean harm: each is to be refused by a named limit, or to end at once.

cases() yields (name, expression, document). Stack, time and memory are the caller's to watch.
"""


def nest(before, after, depth, inner="1"):
    return before * depth + inner + after * depth


def chain(operator, count, term="1"):
    return operator.join([term] * count)


def doubling(turns):
    """Each turn makes a value twice as large: 2^turns letters at the end."""
    return "['aa']" + ".map(x, [x + x, x + x])" * turns


def nested_all(depth, items=10):
    numbers = "[" + ",".join(map(str, range(items))) + "]"
    return "".join(f"{numbers}.all(x{i}, " for i in range(depth)) + "true" + ")" * depth


def from_reports():
    """What has hurt other implementations, by their reports."""
    yield "240 brackets", nest("[", "]", 240)
    yield "260 brackets", nest("[", "]", 260)
    yield "doubling 12 times", doubling(12)
    yield "doubling 40 times", doubling(40)
    yield "six nested loops", nested_all(6)
    yield "nested repetition", "'a'.matches('(a{1,1000}){1,1000}')"
    yield "exclamation and parentheses", "!!(!!!(" * 18
    yield "exclamation and parentheses, closed", "!!(!!!(" * 60 + "true" + ")" * 120
    yield "ternaries to the right", "true ? 1 : " * 5000 + "2"
    yield "ternaries to the left", nest("(", " ? true : false)", 3000, "true")
    yield "a sum of 10,000", chain(" + ", 10000)
    yield "evil repetition", "doc.s.matches('^(a+)+$')"
    yield "alternatives that overlap", "doc.s.matches('(a|aa)*b')"


def nesting():
    """Every construct inside itself, 10,000 deep."""
    deep = 10000
    yield "parentheses", nest("(", ")", deep)
    yield "lists", nest("[", "]", deep)
    yield "maps", nest("{1:", "}", deep)
    yield "map keys", nest("{", ":1}", deep)
    yield "messages", nest("a{b:", "}", deep)
    yield "calls", nest("size(", ")", deep)
    yield "indexes", "doc" + nest("[", "]", deep)
    yield "unclosed parentheses", "(" * deep
    yield "unclosed brackets", "[" * deep
    yield "unclosed braces", "{" * deep
    yield "closing only", ")" * deep
    yield "nots", "!" * deep + "true"
    yield "minuses", "-" * deep + "1"
    yield "minuses with blanks", "- " * deep + "doc.n"
    yield "conditions in conditions", nest("(true ? ", " : 1)", deep)
    yield "has in has", nest("has(", ".a)", deep, "doc.a")
    yield "loops in ranges", "[1]" + ".map(x, x)" * deep
    yield "loops in bodies", nest("[1].map(x, ", ")", deep)
    yield "binds", nest("cel.bind(x, 1, ", ")", deep)
    yield "binds in values", nest("cel.bind(x, ", ", x)", deep)
    yield "optional maps", nest("optional.of(1).optMap(x, ", ")", deep)
    yield "optionals", nest("optional.of(", ")", deep)
    yield "two-variable loops", nest("[1].transformList(i, v, ", ")", deep)
    yield "blocks", nest("cel.block([1], ", ")", deep)


def length():
    """Long and flat."""
    yield "ors", chain(" || ", 10000, "false")
    yield "ands", chain(" && ", 10000, "true")
    yield "differences", chain(" - ", 10000)
    yield "products", chain(" * ", 10000)
    yield "comparisons", chain(" == ", 5000)
    yield "selections", "doc" + ".a" * 10000
    yield "optional selections", "doc" + ".?a" * 10000
    yield "list items", "[" + chain(",", 200000) + "]"
    yield "map entries", "{" + ",".join(f"{i}:{i}" for i in range(100000)) + "}"
    yield "arguments", "size(" + chain(",", 20000) + ")"
    yield "one long string", "'" + "a" * 1000000 + "'"
    yield "one long name", "a" * 1000000
    yield "one long number", "1" * 1000000
    yield "one long fraction", "0." + "1" * 100000
    yield "one long exponent", "1e" + "9" * 100000
    yield "one long comment", "1 //" + "x" * 1000000
    yield "blanks", " " * 1000000 + "1"
    yield "line ends", "\n" * 1000000 + "1"
    yield "an unclosed string", "'" + "a" * 100000
    yield "an unclosed triple quote", "'''" + "a" * 100000
    yield "escapes", "'" + "\\u00e9" * 20000 + "'"
    yield "quoted selections", "doc" + ".`a-b`" * 10000


def bytes_that_are_none():
    yield "a NUL", "1 + \0 1"
    yield "a NUL in a string", "'a\0b' == doc.s"
    yield "a NUL at the end", "1\0"
    yield "half a surrogate", "'\\ud800'"
    yield "beyond Unicode", "'\\U00110000'"
    yield "control characters", "".join(map(chr, range(1, 32)))
    yield "letters of other scripts", "переменная == 1"
    yield "text from right to left", "'\u202e' == \u202e"
    yield "a byte-order mark", "\ufeff1"
    yield "an escape at the end", "'\\"


def work():
    """Short, but a lot to compute."""
    numbers = "lists.range(1000)"
    yield "a range of 2^31", "lists.range(2147483647).size()"
    yield "a range of 2^63", "lists.range(9223372036854775807).size()"
    yield "a million turns", f"{numbers}.all(x, {numbers}.all(y, x + y >= 0))"
    yield "a billion turns", f"{numbers}.all(x, {numbers}.all(y, {numbers}.all(z, x + y + z >= 0)))"
    yield "nested maps", f"{numbers}.map(x, {numbers}.map(y, {numbers}))"
    yield "strings doubled", "cel.bind(a, 'x', " + "".join(
        f"cel.bind({chr(98 + i)}, {chr(97 + i)} + {chr(97 + i)}, " for i in range(20)) + "u.size()" + ")" * 21
    yield "lists doubled", "[1].map(x, [x, x])" + ".map(x, [x, x])" * 25
    yield "maps doubled", "[{'a': 1}]" + ".map(x, {'a': x, 'b': x})" * 25 + "[0] == {}"
    yield "a format of itself", "'%s%s%s%s'" + ".format([doc.s, doc.s, doc.s, doc.s])"
    yield "replaced everywhere", "doc.s.replace('', doc.s).replace('', doc.s)"
    yield "replaced by itself", "doc.s.replace('a', doc.s).replace('a', doc.s)"
    yield "split to letters and joined", f"{numbers}.map(x, doc.s.split('').join(doc.s))"
    yield "a sort of many", "lists.range(100000).map(x, 100000 - x).sort()[0]"
    yield "distinct of many", "lists.range(20000).distinct().size()"
    yield "sets of many", "sets.equivalent(lists.range(10000), lists.range(10000))"
    yield "equal lists of many", f"{numbers}.all(x, {numbers} == {numbers})"
    yield "in a list of many", f"{numbers}.all(x, -1 in {numbers})"
    yield "flattened", "[[[[1]]]].flatten(9223372036854775807)"
    yield "patterns from the document", f"{numbers}.all(x, doc.s.matches(string(x) + '.*' + doc.p))"
    yield "a pattern of 100 kB", "'a'.matches('" + "(a|b)" * 2000 + "')"
    yield "a pattern with big classes", "doc.s.matches('[\\\\pL\\\\pN]{1,100}[\\\\pL\\\\pN]{1,100}')"
    yield "a pattern that is nested", "doc.s.matches('" + "(" * 2000 + "a" + ")" * 2000 + "')"
    yield "a pattern that is starred", "doc.s.matches('" + "(" * 500 + "a" + ")*" * 500 + "')"
    yield "base64 of base64", f"{numbers}.map(x, base64.encode(bytes(doc.s)))"
    yield "hex of everything", "'%x%x%x%x'.format([doc.s, doc.s, doc.s, doc.s])"
    yield "the last index of", "doc.s.lastIndexOf(doc.s.substring(1) + 'b')"
    yield "index of by turns", f"{numbers}.all(x, doc.s.indexOf('ab') < 0)"
    yield "zones that are none", f"{numbers}.exists(x, timestamp(0).getHours('A' + string(x)) == 25)"
    yield "reversals", f"{numbers}.all(x, doc.s.reverse().reverse() == doc.s)"
    yield "deep document", "doc.deep == doc.deep && '%s'.format([doc.deep]) != '' && [doc.deep].flatten(1000) != []"
    yield "transformed maps", f"{numbers}.transformMap(i, v, {numbers}.transformMap(j, w, w))"
    yield "merged maps", f"{numbers}.transformMapEntry(i, v, {{string(v): doc.s + doc.s}})"


def document():
    deep = 1
    for _ in range(90):
        deep = [deep]
    return {"s": "a" * 20000, "n": 1, "p": "(x+x+)+y", "deep": deep, "a": {"a": {"a": 1}}}


def cases():
    for part in (from_reports, nesting, length, bytes_that_are_none, work):
        yield from part()
