package main

import "strings"

// known are the differences that are meant, by name, each with its reason. docs/cel.md has the same list.
var known = map[string]string{
	"map_keys": "a map literal refuses keys of other types than bool, int, uint and string, and a key twice, as the " +
		"specification says; cel-go keeps both",
	"duration_milliseconds": "getMilliseconds() of a duration is the part behind the seconds, as the conformance suite " +
		"says; cel-go gives all of it",
	"search_offset":  "indexOf and lastIndexOf refuse an offset behind the string's end, as the conformance suite says",
	"type_variables": "cel-go's checker takes a macro's variable whose value is a type for the name of a type",
	"literal_checks": "cel-go looks at some calls with literal arguments when it checks (format, ip, cidr, math.least, " +
		"sortBy) and refuses what is not even reached; here they fail when they are evaluated",
	"constant_patterns": "a constant pattern that is none is refused when the expression is compiled; cel-go finds out " +
		"when it is evaluated",
	"planned":   "cel-go fails while it plans, for code that is not reached",
	"map_order": "cel-go goes through a map in another order each time",
}

func mentions(text string, words ...string) bool {
	for _, word := range words {
		if strings.Contains(text, word) {
			return true
		}
	}
	return false
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
	case mentions(c.Expr, "getMilliseconds()"):
		return "duration_milliseconds"
	case mentions(message, "index out of range") && mentions(c.Expr, "ndexOf("):
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
	case theirs.Stage == "plan":
		return "planned"
	}
	return ""
}
