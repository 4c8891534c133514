package main

import (
	"encoding/hex"
	"encoding/json"
	"math/rand"
	"strconv"
	"strings"
)

// kind is a type of the generator: a name and parameters.
type kind struct {
	name   string
	params []kind
}

func (k kind) String() string {
	if len(k.params) == 0 {
		return k.name
	}
	inner := make([]string, len(k.params))
	for i, p := range k.params {
		inner[i] = p.String()
	}
	return k.name + "(" + strings.Join(inner, ", ") + ")"
}

func parseKind(text string) kind {
	open := strings.IndexByte(text, '(')
	if open < 0 {
		return kind{name: strings.TrimSpace(text)}
	}
	k := kind{name: strings.TrimSpace(text[:open])}
	depth, start := 0, open+1
	for i := open + 1; i < len(text); i++ {
		switch text[i] {
		case '(':
			depth++
		case ')', ',':
			if depth == 0 {
				k.params = append(k.params, parseKind(text[start:i]))
				start = i + 1
			} else if text[i] == ')' {
				depth--
			}
		}
	}
	return k
}

// variable of the environment or of a macro.
type local struct {
	name string
	kind kind
}

// piece of a production: text, a hole of a type, or a variable that is declared or named.
type piece struct {
	text, variable string
	hole           *kind
	declares       bool
}

type rule struct {
	result kind
	pieces []piece
}

var rules = compileRules()

func compileRules() []rule {
	compiled := make([]rule, len(productions))
	for i, p := range productions {
		compiled[i] = rule{result: parseKind(p.result), pieces: compileText(p.text)}
	}
	return compiled
}

// compileText splits a production's text. A brace opens a hole when a type or a word follows and closes it.
func compileText(text string) []piece {
	var pieces []piece
	for text != "" {
		if text[0] == '<' && len(text) > 2 && text[1] >= 'a' && text[1] <= 'z' {
			end := strings.IndexByte(text, '>')
			name, declared, declares := strings.Cut(text[1:end], ":")
			p := piece{variable: name, declares: declares}
			if declares {
				k := parseKind(declared)
				p.hole = &k
			}
			pieces = append(pieces, p)
			text = text[end+1:]
			continue
		}
		if text[0] == '{' {
			if end := strings.IndexByte(text, '}'); end > 0 && isKind(text[1:end]) {
				k := parseKind(text[1:end])
				pieces = append(pieces, piece{hole: &k})
				text = text[end+1:]
				continue
			}
		}
		pieces = append(pieces, piece{text: text[:1]})
		text = text[1:]
	}
	return pieces
}

func isKind(text string) bool {
	return text != "" && strings.Trim(text, "abcdefghijklmnopqrstuvwxyzABK146(), ") == ""
}

type generator struct {
	random *rand.Rand
	locals []local
	used   []int
	names  int
}

func newGenerator(random *rand.Rand) *generator {
	return &generator{random: random}
}

func (g *generator) pick(texts []string) string {
	return texts[g.random.Intn(len(texts))]
}

var scalars = []string{"bool", "int", "int", "uint", "double", "string", "string", "bytes", "timestamp", "duration", "null", "type"}

func (g *generator) anyKind(depth int) kind {
	switch n := g.random.Intn(20); {
	case n < 13 || depth <= 0:
		return kind{name: g.pick(scalars)}
	case n < 16:
		return kind{name: "list", params: []kind{g.anyKind(depth - 1)}}
	case n < 18:
		return kind{name: "map", params: []kind{g.keyKind(), g.anyKind(depth - 1)}}
	case n < 19:
		return kind{name: "dyn"}
	default:
		return kind{name: g.pick([]string{"ip", "cidr", "dyn"})}
	}
}

func (g *generator) keyKind() kind {
	return kind{name: g.pick([]string{"string", "string", "int", "uint", "bool"})}
}

// unify binds the parameters of a pattern so that it is the wanted type.
func unify(pattern, wanted kind, bound map[string]kind) bool {
	if pattern.name == "A" || pattern.name == "B" || pattern.name == "K" {
		if was, there := bound[pattern.name]; there {
			return was.String() == wanted.String()
		}
		if pattern.name == "K" && !strings.Contains("string int uint bool", wanted.name) {
			return false
		}
		bound[pattern.name] = wanted
		return true
	}
	if pattern.name != wanted.name || len(pattern.params) != len(wanted.params) {
		return false
	}
	for i := range pattern.params {
		if !unify(pattern.params[i], wanted.params[i], bound) {
			return false
		}
	}
	return true
}

// fill replaces parameters by what they are bound to, and binds those that are not.
func (g *generator) fill(pattern kind, bound map[string]kind) kind {
	switch pattern.name {
	case "A", "B":
		if _, there := bound[pattern.name]; !there {
			bound[pattern.name] = g.anyKind(1)
		}
		return bound[pattern.name]
	case "K":
		if _, there := bound["K"]; !there {
			bound["K"] = g.keyKind()
		}
		return bound["K"]
	case "number":
		return kind{name: g.pick([]string{"int", "uint", "double", "int"})}
	case "ordered":
		return kind{name: g.pick([]string{"int", "string", "bytes", "bool", "timestamp", "duration"})}
	}
	filled := kind{name: pattern.name}
	for _, p := range pattern.params {
		filled.params = append(filled.params, g.fill(p, bound))
	}
	return filled
}

// expression of a type.
func (g *generator) expression(wanted kind, depth int) string {
	if choices, isWord := words[wanted.name]; isWord {
		return g.pick(choices)
	}
	if g.random.Intn(40) == 0 { /* of another type than it should be */
		wanted = g.anyKind(1)
	}
	if depth <= 0 || g.random.Intn(8) == 0 {
		return g.leaf(wanted)
	}
	if wanted.name == "map1" {
		return "{" + g.expression(wanted.params[0], 0) + ": " + g.expression(wanted.params[1], depth-1) + "}"
	}
	for attempt := 0; attempt < 400; attempt++ {
		number := g.random.Intn(len(rules))
		bound := map[string]kind{}
		if !unify(rules[number].result, wanted, bound) {
			continue
		}
		text := g.produce(number, bound, depth)
		if g.random.Intn(10) == 0 || len(rules[number].pieces) == 0 {
			return text
		}
		return "(" + text + ")"
	}
	return g.leaf(wanted)
}

func (g *generator) produce(number int, bound map[string]kind, depth int) string {
	g.used = append(g.used, number)
	var out strings.Builder
	scope := len(g.locals)
	for _, p := range rules[number].pieces {
		switch {
		case p.declares:
			g.names++
			declared := local{name: p.variable + strconv.Itoa(g.names%4), kind: g.fill(*p.hole, bound)}
			g.locals = append(g.locals, declared)
			out.WriteString(declared.name)
		case p.variable != "":
			out.WriteString(g.named(p.variable, scope))
		case p.hole != nil:
			out.WriteString(g.expression(g.fill(*p.hole, bound), depth-1))
		default:
			out.WriteString(p.text)
		}
	}
	g.locals = g.locals[:scope]
	text := out.String()
	return g.bindOrder(text)
}

// named finds the variable that this production declared under a letter.
func (g *generator) named(letter string, scope int) string {
	for _, l := range g.locals[scope:] {
		if strings.HasPrefix(l.name, letter) {
			return l.name
		}
	}
	return letter
}

// bindOrder turns cel.bind!(value, variable, body), whose value must not see the variable, into cel.bind's order.
func (g *generator) bindOrder(text string) string {
	if !strings.HasPrefix(text, "cel.bind!(") {
		return text
	}
	parts, depth, start := []string{}, 0, len("cel.bind!(")
	quote := byte(0)
	for i := start; i < len(text); i++ {
		switch c := text[i]; {
		case quote != 0:
			if c == '\\' {
				i++
			} else if c == quote {
				quote = 0
			}
		case c == '\'' || c == '"':
			quote = c
		case strings.IndexByte("([{", c) >= 0:
			depth++
		case c == ',' && depth == 0, c == ')' && depth == 0:
			parts = append(parts, text[start:i])
			start = i + 1
		case strings.IndexByte(")]}", c) >= 0:
			depth--
		}
	}
	if len(parts) < 3 {
		return "cel.bind(v, 1, v)"
	}
	return "cel.bind(" + parts[1] + ", " + parts[0] + ", " + strings.Join(parts[2:], ",") + ")"
}

// leaf is a variable or a literal.
func (g *generator) leaf(wanted kind) string {
	if g.random.Intn(3) > 0 {
		var fitting []string
		for _, l := range g.locals {
			if l.kind.String() == wanted.String() {
				fitting = append(fitting, l.name)
			}
		}
		if len(fitting) > 0 {
			return g.pick(fitting)
		}
	}
	if g.random.Intn(2) == 0 {
		for _, v := range variables {
			if v.Type == celName(wanted) {
				return v.Name
			}
		}
	}
	switch wanted.name {
	case "list":
		items := make([]string, g.random.Intn(3))
		for i := range items {
			items[i] = g.leaf(wanted.params[0])
		}
		return "[" + strings.Join(items, ", ") + "]"
	case "map", "map1":
		return "{" + g.leaf(wanted.params[0]) + ": " + g.leaf(wanted.params[1]) + "}"
	case "optional":
		return "optional.of(" + g.leaf(wanted.params[0]) + ")"
	}
	return g.pick(literals[wanted.name])
}

func celName(k kind) string {
	name := strings.ReplaceAll(k.String(), "timestamp", "google.protobuf.Timestamp")
	return strings.ReplaceAll(name, "duration", "google.protobuf.Duration")
}

// next makes one case.
func (g *generator) next(id string) Case {
	g.locals, g.used = g.locals[:0], nil
	wanted := kind{name: "bool"}
	if g.random.Intn(2) == 0 {
		wanted = g.anyKind(2)
	}
	if g.random.Intn(10) == 0 {
		wanted = kind{name: "optional", params: []kind{g.anyKind(1)}}
	}
	c := Case{ID: id, DisableCheck: g.random.Intn(2) == 0, TypeEnv: variables}
	c.Expr = g.expression(wanted, 1+g.random.Intn(4))
	c.used = g.used
	c.Bindings = g.bindings()
	c.Doc = g.document()
	return c
}

var (
	someInts    = []int64{0, 1, -1, 2, 3, 5, 42, 9223372036854775807, -9223372036854775808, 1000000}
	someDoubles = []string{"0", "-0", "1.5", "-2.25", "3", "1e300", "NaN", "Infinity", "0.1", "42"}
	someStrings = []string{"", "a", "abc", "hello", "é€😀", "2", "x,y", "Europe/Berlin", "aab", "name", "1.5", "a\x00b"}
)

func text(s string) Value { return Value{"string": s} }

func (g *generator) int() Value {
	return Value{"int64": strconv.FormatInt(someInts[g.random.Intn(len(someInts))], 10)}
}

func (g *generator) bindings() map[string]Value {
	list := func(item func() Value) Value {
		items := []any{}
		for n := g.random.Intn(4); n > 0; n-- {
			items = append(items, map[string]any(item()))
		}
		return Value{"list": items}
	}
	word := func() Value { return text(g.pick(someStrings)) }
	double := func() Value { return Value{"double": g.pick(someDoubles)} }
	entries := func(item func() Value) Value {
		pairs := []any{}
		for _, key := range []string{"a", "b", "name"}[:g.random.Intn(4)] {
			pairs = append(pairs, []any{map[string]any(text(key)), map[string]any(item())})
		}
		return Value{"map": pairs}
	}
	kinds := []func() Value{word, double, g.int, func() Value { return Value{"null": nil} }, func() Value { return list(g.int) }}
	anything := func() Value { return kinds[g.random.Intn(len(kinds))]() }
	return map[string]Value{
		"b": {"bool": g.random.Intn(2) == 0}, "i": g.int(), "u": {"uint64": strconv.FormatUint(uint64(someInts[g.random.Intn(6)]&0xff), 10)},
		"d": double(), "s": word(), "y": {"bytes": hex.EncodeToString([]byte(g.pick(someStrings)))},
		"t":  {"timestamp": map[string]any{"s": strconv.Itoa(g.random.Intn(4e9) - 2e9), "ns": g.random.Int63n(1e9)}},
		"p":  {"duration": map[string]any{"s": strconv.Itoa(g.random.Intn(200000) - 100000), "ns": int64(0)}},
		"li": list(g.int), "ld": list(double), "ls": list(word), "ms": entries(anything), "mi": entries(g.int), "x": anything(),
	}
}

// jsonValue is a random value of a document.
func (g *generator) jsonValue(depth int) any {
	switch n := g.random.Intn(14); {
	case n < 3:
		return someInts[g.random.Intn(len(someInts))]
	case n < 5:
		return json.RawMessage(g.pick([]string{"0.5", "1.0", "-3.25", "1e3", "100.0", "12345678901234567890"}))
	case n < 8:
		return g.pick(someStrings)
	case n < 9:
		return g.random.Intn(2) == 0
	case n < 10:
		return nil
	case n < 11:
		return map[string]any{"$date": "2024-02-29T12:30:00.125Z"}
	case n < 12 && depth > 0:
		return map[string]any{"$binary": map[string]any{"base64": "YWJj", "subType": "00"}}
	case n < 13 && depth > 0:
		items := make([]any, g.random.Intn(4))
		for i := range items {
			items[i] = g.jsonValue(depth - 1)
		}
		return items
	case depth > 0:
		fields := map[string]any{}
		for i := g.random.Intn(4); i > 0; i-- {
			fields[g.pick(words["field"])] = g.jsonValue(depth - 1)
		}
		return fields
	}
	return "abc"
}

func (g *generator) document() json.RawMessage {
	doc := map[string]any{}
	for _, field := range words["field"] {
		if g.random.Intn(4) > 0 && field != "none" {
			doc[field] = g.jsonValue(2)
		}
	}
	if g.random.Intn(2) == 0 {
		doc["tags"] = []any{"a", "b", g.pick(someStrings)}
		doc["user"] = map[string]any{"name": g.pick(someStrings), "a": g.jsonValue(1)}
		doc["items"] = []any{map[string]any{"name": "x", "price": 1.5, "n": g.random.Intn(5)}, map[string]any{"name": g.pick(someStrings)}}
		doc["price"] = g.random.Float64() * 200
	}
	encoded, err := json.Marshal(doc)
	if err != nil {
		fail("document: %v", err)
	}
	return encoded
}
