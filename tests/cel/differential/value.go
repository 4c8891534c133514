package main

import (
	"encoding/hex"
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
	"cel.dev/cel-go/ext"
)

// Value is a VALUE of the NDJSON: one key, the type; JSON's own types below it.
type Value map[string]any

func seconds(s int64, ns int64) map[string]any {
	return map[string]any{"s": strconv.FormatInt(s, 10), "ns": float64(ns)}
}

func doubleText(f float64) string {
	switch {
	case math.IsNaN(f):
		return "NaN"
	case math.IsInf(f, 0):
		return map[bool]string{true: "Infinity", false: "-Infinity"}[f > 0]
	}
	return strconv.FormatFloat(f, 'g', -1, 64)
}

// encode turns a value of cel-go into the NDJSON's form.
func encode(v ref.Val) Value {
	switch v := v.(type) {
	case types.Null:
		return Value{"null": nil}
	case types.Bool:
		return Value{"bool": bool(v)}
	case types.Int:
		return Value{"int64": strconv.FormatInt(int64(v), 10)}
	case types.Uint:
		return Value{"uint64": strconv.FormatUint(uint64(v), 10)}
	case types.Double:
		return Value{"double": doubleText(float64(v))}
	case types.String:
		return Value{"string": string(v)}
	case types.Bytes:
		return Value{"bytes": hex.EncodeToString([]byte(v))}
	case types.Timestamp:
		return Value{"timestamp": seconds(v.Unix(), int64(v.Nanosecond()))}
	case types.Duration:
		return Value{"duration": seconds(int64(v.Duration)/1e9, int64(v.Duration)%1e9)}
	case *types.Type:
		return Value{"type": v.TypeName()}
	case *types.Optional:
		if !v.HasValue() {
			return Value{"optional": nil}
		}
		return Value{"optional": map[string]any(encode(v.GetValue()))}
	case ext.IP:
		return Value{"ip": v.Addr.String()}
	case ext.CIDR:
		return Value{"cidr": v.Prefix.String()}
	case traits.Mapper:
		return encodeMap(v)
	case traits.Lister:
		items := []any{}
		for it := v.Iterator(); it.HasNext() == types.True; {
			items = append(items, map[string]any(encode(it.Next())))
		}
		return Value{"list": items}
	}
	return Value{"other": fmt.Sprintf("%T", v)}
}

func encodeMap(v traits.Mapper) Value {
	entries := []any{}
	for it := v.Iterator(); it.HasNext() == types.True; {
		key := it.Next()
		entries = append(entries, []any{map[string]any(encode(key)), map[string]any(encode(v.Get(key)))})
	}
	return Value{"map": entries}
}

// decode turns a bound VALUE into what cel-go takes.
func decode(v Value) any {
	for kind, content := range v {
		switch kind {
		case "bool", "string":
			return content
		case "int64":
			n, _ := strconv.ParseInt(content.(string), 10, 64)
			return n
		case "uint64":
			n, _ := strconv.ParseUint(content.(string), 10, 64)
			return n
		case "double":
			f, _ := strconv.ParseFloat(content.(string), 64)
			return f
		case "bytes":
			b, _ := hex.DecodeString(content.(string))
			return b
		case "timestamp":
			s, ns := secondsOf(content)
			return time.Unix(s, ns).UTC()
		case "duration":
			s, ns := secondsOf(content)
			return time.Duration(s*1e9 + ns)
		case "list":
			items := []any{}
			for _, item := range content.([]any) {
				items = append(items, decode(item.(map[string]any)))
			}
			return items
		case "map":
			entries := map[string]any{}
			for _, entry := range content.([]any) {
				pair := entry.([]any)
				entries[decode(pair[0].(map[string]any)).(string)] = decode(pair[1].(map[string]any))
			}
			return entries
		case "ip":
			return netip.MustParseAddr(content.(string))
		}
	}
	return nil
}

func secondsOf(content any) (int64, int64) {
	parts := content.(map[string]any)
	s, _ := strconv.ParseInt(parts["s"].(string), 10, 64)
	switch ns := parts["ns"].(type) {
	case float64:
		return s, int64(ns)
	case int64:
		return s, ns
	}
	return s, 0
}

func parseDouble(text string) float64 {
	f, _ := strconv.ParseFloat(strings.Replace(text, "Infinity", "Inf", 1), 64)
	return f
}

// sameValue compares two VALUEs: maps in any order, NaN like NaN, -0 apart from 0.
func sameValue(a, b map[string]any) bool {
	if len(a) != 1 || len(b) != 1 {
		return false
	}
	for kind, left := range a {
		right, there := b[kind]
		if !there {
			return false
		}
		switch kind {
		case "double":
			l, r := parseDouble(left.(string)), parseDouble(right.(string))
			return math.IsNaN(l) && math.IsNaN(r) || l == r && math.Signbit(l) == math.Signbit(r)
		case "list":
			return sameList(left.([]any), right.([]any))
		case "map":
			return sameMap(left.([]any), right.([]any))
		case "optional":
			if left == nil || right == nil {
				return left == nil && right == nil
			}
			return sameValue(left.(map[string]any), right.(map[string]any))
		case "timestamp", "duration":
			ls, ln := secondsOf(left)
			rs, rn := secondsOf(right)
			return ls == rs && ln == rn
		default:
			return left == right
		}
	}
	return false
}

func sameList(a, b []any) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !sameValue(a[i].(map[string]any), b[i].(map[string]any)) {
			return false
		}
	}
	return true
}

func sameMap(a, b []any) bool {
	if len(a) != len(b) {
		return false
	}
	for _, entry := range a {
		pair, found := entry.([]any), false
		for _, other := range b {
			o := other.([]any)
			if sameValue(pair[0].(map[string]any), o[0].(map[string]any)) {
				found = sameValue(pair[1].(map[string]any), o[1].(map[string]any))
				break
			}
		}
		if !found {
			return false
		}
	}
	return true
}
