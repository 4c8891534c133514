// What cel-go takes for the filters of bench-cel, as JSON: standard input is bench-cel's output, whose filters are run
// over the same document, a Go map. Times are the process's own CPU time, garbage collection included.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"sort"
	"syscall"

	"cel.dev/cel-go/cel"
)

const rounds, evals, compiles = 7, 50000, 300

func cpuNs() int64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err)
	}
	return usage.Utime.Nano() + usage.Stime.Nano()
}

func median(values []float64) float64 {
	sort.Float64s(values)
	return values[len(values)/2]
}

func document() map[string]any {
	items := []any{}
	for i, sku := range []string{"x", "y", "y", "y", "y"} {
		items = append(items, map[string]any{"sku": sku, "qty": int64(i)})
	}
	return map[string]any{
		"_id": "65a1b2c3d4e5f60718293a4b", "status": "active", "price": 149.5, "n": int64(5),
		"title": "hello", "user": map[string]any{"id": "u-1001", "name": "alice"},
		"tags": []any{"c", "rust", "go", "zig"}, "items": items,
		"a":  map[string]any{"b": map[string]any{"c": int64(3)}},
		"at": "2024-06-01T12:30:00Z", "deleted": false,
		"note": "a text of some length that no filter reads",
	}
}

func evalNs(program cel.Program, variables map[string]any) float64 {
	times := []float64{}
	for round := 0; round < rounds; round++ {
		start := cpuNs()
		for i := 0; i < evals; i++ {
			value, _, err := program.Eval(variables)
			if err != nil || value.Value() != true {
				panic(fmt.Sprint("a filter does not match: ", err))
			}
		}
		times = append(times, float64(cpuNs()-start)/evals)
	}
	return median(times)
}

func compileNs(env *cel.Env, text string, options ...cel.ProgramOption) (cel.Program, float64) {
	var program cel.Program
	times := []float64{}
	for round := 0; round < rounds; round++ {
		start := cpuNs()
		for i := 0; i < compiles; i++ {
			ast, issues := env.Compile(text)
			if issues.Err() != nil {
				panic(issues.Err())
			}
			var err error
			if program, err = env.Program(ast, options...); err != nil {
				panic(err)
			}
		}
		times = append(times, float64(cpuNs()-start)/compiles)
	}
	return program, median(times)
}

func main() {
	var ours struct {
		Filters []struct {
			Filter string `json:"filter"`
		} `json:"filters"`
	}
	if err := json.NewDecoder(os.Stdin).Decode(&ours); err != nil {
		panic(err)
	}
	env, err := cel.NewEnv(cel.Variable("doc", cel.DynType))
	if err != nil {
		panic(err)
	}
	variables := map[string]any{"doc": document()}
	results := []map[string]any{}
	for _, f := range ours.Filters {
		program, compile := compileNs(env, f.Filter)
		optimized, _ := compileNs(env, f.Filter, cel.EvalOptions(cel.OptOptimize))
		results = append(results, map[string]any{
			"filter": f.Filter, "compile_ns": compile,
			"eval_ns": evalNs(program, variables), "optimized_ns": evalNs(optimized, variables),
		})
	}
	if err := json.NewEncoder(os.Stdout).Encode(map[string]any{"filters": results}); err != nil {
		panic(err)
	}
}
