package main

import (
	"encoding/json"
	"regexp"
	"strings"
)

// known are the differences that are meant, by name, each with its reason. docs/cel.md has the same list.
var known = map[string]string{
	"map_keys": "a map literal refuses keys of other types than bool, int, uint and string, and a key twice, as the " +
		"specification says; cel-go keeps both",
	"search_offset":  "indexOf and lastIndexOf refuse an offset behind the string's end, as the conformance suite says",
	"type_variables": "cel-go's checker takes a macro's variable whose value is a type for the name of a type",
	"literal_checks": "cel-go looks at some calls with literal arguments when it checks (format, ip, cidr, math.least, " +
		"sortBy) and refuses what is not even reached; here they fail when they are evaluated",
	"constant_patterns": "a constant pattern that is none is refused when the expression is compiled; cel-go finds out " +
		"when it is evaluated",
	"planned":          "cel-go fails while it plans, for code that is not reached",
	"empty_zone":       "the time zone \"\" is an error; cel-go takes it for UTC",
	"format_bytes":     "%s of bytes that are no UTF-8 is an error; cel-go makes a string of them",
	"format_duration":  "%s of a duration is exact; cel-go makes a double of its seconds",
	"bytes_range":      "bytes and strings are no range of a macro, even when they are empty",
	"sort_nan":         "NaN has no place in an order: a list with it cannot be sorted",
	"type_of_types":    "cel-go's checker tells type(int) from type(string); here both are types",
	"negated_duration": "- is defined for int and double; cel-go also negates durations, when unchecked",
	"double_negation":  "cel-go drops pairs of ! and - before it looks at what they are about",
	"flat_map_null":    "what optFlatMap computes must be an optional; cel-go lets null pass, and anything when unchecked",
	"sort_by_type":     "the type of [].sortBy(...) is a list of anything; cel-go's checker has it of something",
	"none_index": "an index is computed even when there is nothing to take it from; cel-go leaves it out behind " +
		"optional.none()",
	"nan_order": "values of different types have no order, NaN included; cel-go looks for NaN first",
	"sort_keys": "keys without an order are refused when the expression is checked; cel-go finds nothing to compare " +
		"in an empty list",
	"optional_index":    "an optional index of a dyn is an optional; for cel-go's checker it is a dyn",
	"null_for_abstract": "where null is an address or an optional, and an index of null, the two checkers deduce different types",
	"panics":            "cel-go reports a panic of its own: a key that cannot be one, looked for in a map literal",
	"or_unchecked":      "or() has optionals on both sides; cel-go, unchecked, gives whatever stands behind it",
	"limits":            "an evaluation has a budget of steps and memory",
	"map_order":         "cel-go goes through a map in another order each time",
}

// oddKey finds a map literal whose key is none of the four types; aDuration, one as %s prints it.
var (
	oddKey    = regexp.MustCompile(`\{(\[|\{|doc\b|[dtpyx]: )`)
	aDuration = regexp.MustCompile(`[0-9.]+s`)
)

func mentions(text string, words ...string) bool {
	for _, word := range words {
		if strings.Contains(text, word) {
			return true
		}
	}
	return false
}

// hasNaN: can NaN come up in the case?
func hasNaN(c *Case) bool {
	if mentions(c.Expr, "NaN", "sqrt(", "0.0", "inf", " / ", " * ") {
		return true
	}
	for _, value := range c.Bindings {
		if text, err := json.Marshal(value); err == nil && mentions(string(text), "NaN", "Infinity") {
			return true
		}
	}
	return false
}

// permuted: lists of the same elements in another order, or of such lists.
func permuted(a, b Value) bool {
	left, okA := a["list"].([]any)
	right, okB := b["list"].([]any)
	if !okA || !okB || len(left) != len(right) {
		return false
	}
	taken := make([]bool, len(right))
	for _, element := range left {
		found := false
		for i := range right {
			l, r := element.(map[string]any), right[i].(map[string]any)
			if !taken[i] && (sameValue(l, r) || permuted(l, r)) {
				taken[i], found = true, true
				break
			}
		}
		if !found {
			return false
		}
	}
	return true
}

// absorbed: cel-go's other side of && or || decides, where ours fails too; of two errors ours tells the first.
func absorbed(c *Case, ours Answer, theirs Result) bool {
	return ours.Error != nil && theirs.Error == "" && mentions(c.Expr, "&&", "||")
}

func sameButDurations(a, b Value) bool {
	left, okA := a["string"].(string)
	right, okB := b["string"].(string)
	return okA && okB && aDuration.ReplaceAllString(left, "") == aDuration.ReplaceAllString(right, "")
}

// explain names the difference of a case, or returns "".
func explain(c *Case, ours Answer, theirs Result) string {
	message := ""
	if ours.Error != nil {
		message = ours.Error.Message
	}
	switch {
	case mentions(message, "unsupported key type", "repeated key", "as a map's key"):
		return "map_keys"
	case absorbed(c, ours, theirs) && oddKey.MatchString(c.Expr):
		return "map_keys"
	case mentions(c.Expr, "ndexOf(") && mentions(message, "out of range") && theirs.Error == "":
		return "search_offset"
	case mentions(theirs.Error, "reference to undefined type"):
		return "type_variables"
	case theirs.Stage == "check" && mentions(theirs.Error, "supplied to string.format", "error during formatting",
		"could not parse formatting clause", "invalid ip argument", "invalid cidr argument", "simple literal arguments",
		"sortBy can only be applied", "out of range", "invalid single argument value", "unexpected end of string"):
		return "literal_checks"
	case theirs.Stage == "parse" && mentions(theirs.Error, "simple literal arguments", "sortBy can only be applied",
		"invalid single argument value"):
		return "literal_checks"
	case ours.Error != nil && ours.Error.Stage != "eval" && mentions(message, "regular expression"):
		return "constant_patterns"
	case mentions(message, "no time zone \"\""):
		return "empty_zone"
	case mentions(message, "string from bytes") && mentions(c.Expr, "format("):
		return "format_bytes"
	case mentions(message, "a list or a map is needed here") ||
		absorbed(c, ours, theirs) && mentions(c.Expr, ".exists(", ".all(") && mentions(string(c.Doc), `:""`):
		return "bytes_range"
	case mentions(c.Expr, "format(") && sameButDurations(ours.Value, theirs.Value):
		return "format_duration"
	case mentions(c.Expr, "sort") && mentions(message, "no such overload") && hasNaN(c) && theirs.Error == "":
		return "sort_nan"
	case theirs.Stage == "check" && mentions(theirs.Error, "overload for '_?_:_'", "overload for 'orValue'") && mentions(theirs.Error, "type("):
		return "type_of_types"
	case mentions(c.Expr, "-p", "-duration(", "-(") && mentions(message, "no such overload") && c.DisableCheck && theirs.Error == "":
		return "negated_duration"
	case mentions(c.Expr, "!!", "!(!", "--", "-(-") && mentions(message, "no such overload", "a bool is needed", "there is no -") && theirs.Error == "":
		return "double_negation"
	case theirs.Stage == "check" && mentions(theirs.Error, "no matching overload for '_==_'", "no matching overload for '_!=_'") &&
		mentions(theirs.Error, "(type("):
		return "type_of_types"
	case mentions(c.Expr, "sort") && mentions(c.Expr, "&&", "||") && hasNaN(c) && message != "" && theirs.Error == "":
		return "sort_nan" // the error of the other side is the one that is told
	case mentions(message, "a key that has an order"):
		return "sort_keys"
	case mentions(c.Expr, "[?") && mentions(message, "there is no ==", "there is no !=") && mentions(message, "optional_type(dyn)"):
		return "optional_index"
	case mentions(message, "orValue(A), got", "or(optional(A)), got", "for optional values, not for null_type") ||
		mentions(c.Expr, "null[") && mentions(message, "optional_type(dyn)"):
		return "null_for_abstract"
	case mentions(message, "from optFlatMap") || mentions(c.Expr, "optFlatMap(") && mentions(message, "no such overload"):
		return "flat_map_null"
	case theirs.Stage == "check" && mentions(c.Expr, "[]") && mentions(c.Expr, "sortBy("):
		return "sort_by_type"
	case (mentions(c.Expr, ".last()[", ".first()[", "optional.none()[") || mentions(c.Expr, "optional.none()") && mentions(c.Expr, ")[")) && ours.Error != nil && theirs.Error == "":
		return "none_index"
	case mentions(message, "no such overload") && hasNaN(c) && mentions(c.Expr, "<", ">") && theirs.Error == "":
		return "nan_order"
	case ours.Error != nil && ours.Error.Stage == "limit":
		return "limits"
	case mentions(theirs.Error, "internal error: runtime error"):
		return "panics"
	case c.DisableCheck && mentions(c.Expr, ".or(") && mentions(message, "no such overload") && theirs.Error == "":
		return "or_unchecked"
	case ours.Error == nil && theirs.Error == "" && mentions(c.Expr, "map(", "filter(", "transformList(") && permuted(ours.Value, theirs.Value):
		return "map_order"
	case theirs.Stage == "plan":
		return "planned"
	}
	return ""
}
