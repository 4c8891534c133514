package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/ext"
)

// Result is what cel-go says to a case.
type Result struct {
	Value Value  `json:"value,omitempty"`
	Error string `json:"error,omitempty"`
	Stage string `json:"stage,omitempty"`
}

// variables are the same in every case: one environment is enough.
var variables = []Declaration{
	{"doc", "dyn"}, {"b", "bool"}, {"i", "int"}, {"u", "uint"}, {"d", "double"}, {"s", "string"}, {"y", "bytes"},
	{"t", "google.protobuf.Timestamp"}, {"p", "google.protobuf.Duration"}, {"li", "list(int)"}, {"ld", "list(double)"},
	{"ls", "list(string)"}, {"ms", "map(string, dyn)"}, {"mi", "map(string, int)"}, {"x", "dyn"},
}

var celTypes = map[string]*cel.Type{
	"dyn": cel.DynType, "bool": cel.BoolType, "int": cel.IntType, "uint": cel.UintType, "double": cel.DoubleType,
	"string": cel.StringType, "bytes": cel.BytesType, "google.protobuf.Timestamp": cel.TimestampType,
	"google.protobuf.Duration": cel.DurationType, "list(int)": cel.ListType(cel.IntType),
	"list(double)": cel.ListType(cel.DoubleType), "list(string)": cel.ListType(cel.StringType),
	"map(string, dyn)": cel.MapType(cel.StringType, cel.DynType),
	"map(string, int)": cel.MapType(cel.StringType, cel.IntType),
}

type peer struct {
	env *cel.Env
}

// Where the conformance suite and cel-go differ in one function's result, cel-go is given the suite's, so that whatever
// is computed with it is compared, too: getMilliseconds() of a duration is the part behind the seconds; string() of a
// duration has all its digits; a timestamp is a moment, and forgets the offset that it was read with.
func bySuite() []cel.EnvOption {
	milliseconds := func(v ref.Val) ref.Val {
		return types.Int(v.(types.Duration).Duration.Milliseconds() % 1000)
	}
	text := func(v ref.Val) ref.Val {
		ns := v.(types.Duration).Duration.Nanoseconds()
		digits := strconv.FormatUint(magnitude(ns), 10)
		if len(digits) < 10 {
			digits = strings.Repeat("0", 10-len(digits)) + digits
		}
		whole, part := digits[:len(digits)-9], strings.TrimRight(digits[len(digits)-9:], "0")
		if part != "" {
			whole += "." + part
		}
		if ns < 0 {
			whole = "-" + whole
		}
		return types.String(whole + "s")
	}
	moment := func(v ref.Val) ref.Val {
		read := v.ConvertToType(types.TimestampType)
		if t, ok := read.(types.Timestamp); ok {
			return types.Timestamp{Time: t.Time.UTC()}
		}
		return read
	}
	return []cel.EnvOption{
		cel.Function("getMilliseconds", cel.MemberOverload("duration_to_milliseconds", []*cel.Type{cel.DurationType},
			cel.IntType, cel.UnaryBinding(milliseconds))),
		cel.Function("string", cel.Overload("duration_to_string", []*cel.Type{cel.DurationType}, cel.StringType,
			cel.UnaryBinding(text))),
		cel.Function("timestamp", cel.Overload("string_to_timestamp", []*cel.Type{cel.StringType}, cel.TimestampType,
			cel.UnaryBinding(moment))),
	}
}

// magnitude is the absolute value; that of the least int64 fits no int64.
func magnitude(n int64) uint64 {
	if n < 0 {
		return -uint64(n)
	}
	return uint64(n)
}

func newPeer() *peer {
	options := []cel.EnvOption{
		cel.OptionalTypes(), cel.DefaultUTCTimeZone(true), cel.CrossTypeNumericComparisons(true),
		cel.EnableErrorOnBadPresenceTest(true), cel.EnableIdentifierEscapeSyntax(), cel.EagerlyValidateDeclarations(true),
		ext.Strings(), ext.Math(), ext.Lists(), ext.Sets(), ext.Encoders(), ext.Bindings(),
		ext.TwoVarComprehensions(), ext.Network(),
	}
	options = append(options, bySuite()...)
	for _, v := range variables {
		options = append(options, cel.Variable(v.Name, celTypes[v.Type]))
	}
	env, err := cel.NewEnv(options...)
	if err != nil {
		fail("cel-go: %v", err)
	}
	return &peer{env: env}
}

func (p *peer) evaluate(c *Case) (result Result) {
	defer func() {
		if reason := recover(); reason != nil {
			result = Result{Error: "panic", Stage: "panic"}
		}
	}()
	ast, issues := p.env.Parse(c.Expr)
	if issues.Err() != nil {
		return Result{Error: issues.Err().Error(), Stage: "parse"}
	}
	if !c.DisableCheck {
		ast, issues = p.env.Check(ast)
		if issues.Err() != nil {
			return Result{Error: issues.Err().Error(), Stage: "check"}
		}
	}
	program, err := p.env.Program(ast)
	if err != nil {
		return Result{Error: err.Error(), Stage: "plan"}
	}
	activation := map[string]any{"doc": document(c.Doc)}
	for name, value := range c.Bindings {
		activation[name] = decode(value)
	}
	out, _, err := program.Eval(activation)
	if err != nil {
		return Result{Error: err.Error(), Stage: "eval"}
	}
	if types.IsUnknownOrError(out) {
		return Result{Error: "error as a value", Stage: "eval"}
	}
	return Result{Value: encode(out)}
}

// document reads JSON as the command does: whole numbers that fit are ints, $date is a timestamp, $binary bytes.
func document(text json.RawMessage) any {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var parsed any
	if err := decoder.Decode(&parsed); err != nil {
		return nil
	}
	return plain(parsed)
}

func plain(v any) any {
	switch v := v.(type) {
	case json.Number:
		if !strings.ContainsAny(string(v), ".eE") {
			if n, err := strconv.ParseInt(string(v), 10, 64); err == nil {
				return n
			}
		}
		f, _ := v.Float64()
		return f
	case []any:
		for i := range v {
			v[i] = plain(v[i])
		}
		return v
	case map[string]any:
		if date, there := v["$date"].(string); there {
			t, _ := time.Parse(time.RFC3339, date)
			return t.UTC()
		}
		if binary, there := v["$binary"].(map[string]any); there {
			b, _ := base64.StdEncoding.DecodeString(binary["base64"].(string))
			return b
		}
		if oid, there := v["$oid"].(string); there {
			return oid
		}
		for key := range v {
			v[key] = plain(v[key])
		}
		return v
	}
	return v
}
