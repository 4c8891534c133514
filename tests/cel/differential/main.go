// Differential test of millrace-cel against cel-go: random expressions over random documents, compared for value or
// error. Usage:
//
//	differential -command build/bin/millrace-cel [-count N] [-seed N] [-coverage] [-cases FILE]
//
// Exits 1 when a case differs that no named difference (known.go) explains, or when a production of the generator
// never gave a value. Every difference is printed as the NDJSON line that shows it again.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand"
	"os"
	"os/exec"
	"runtime"
	"sort"
	"sync"
)

// Case is one line of the command's input.
type Case struct {
	ID           string           `json:"id"`
	Expr         string           `json:"expr"`
	DisableCheck bool             `json:"disable_check,omitempty"`
	TypeEnv      []Declaration    `json:"type_env"`
	Bindings     map[string]Value `json:"bindings"`
	Doc          json.RawMessage  `json:"doc"`
	used         []int            // productions of the generator that are in it
}

// Declaration is a variable's name and type.
type Declaration struct {
	Name string `json:"name"`
	Type string `json:"type"`
}

// Answer is one line of the command's output.
type Answer struct {
	ID    string  `json:"id"`
	Value Value   `json:"value"`
	Error *Reason `json:"error"`
}

// Reason is why there is no value.
type Reason struct {
	Stage   string `json:"stage"`
	Message string `json:"message"`
}

const batchSize = 2000

// tally is what the workers add up.
type tally struct {
	sync.Mutex
	compared, values, errors int
	known                    map[string]int
	unknown                  int
	used, gaveValue          []int
}

func fail(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "differential: "+format+"\n", args...)
	os.Exit(2)
}

// ask gives a batch of cases to one process of the command and returns its answers, in order.
func ask(command string, cases []Case) []Answer {
	process := exec.Command(command, "--ndjson")
	process.Stderr = os.Stderr
	input, err := process.StdinPipe()
	if err != nil {
		fail("%v", err)
	}
	output, err := process.StdoutPipe()
	if err != nil {
		fail("%v", err)
	}
	if err := process.Start(); err != nil {
		fail("start %s: %v", command, err)
	}
	go func() {
		writer := bufio.NewWriterSize(input, 1<<20)
		encoder := json.NewEncoder(writer)
		encoder.SetEscapeHTML(false)
		for i := range cases {
			if err := encoder.Encode(&cases[i]); err != nil {
				fail("write a case: %v", err)
			}
		}
		writer.Flush()
		input.Close()
	}()
	answers := readAnswers(output, len(cases))
	if err := process.Wait(); err != nil {
		fail("%s: %v, after case %d", command, err, len(answers))
	}
	if len(answers) != len(cases) {
		fail("%d answers to %d cases", len(answers), len(cases))
	}
	return answers
}

func readAnswers(output io.Reader, count int) []Answer {
	answers := make([]Answer, 0, count)
	lines := bufio.NewReaderSize(output, 1<<20)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var answer Answer
			if err := json.Unmarshal(line, &answer); err != nil {
				fail("answer %d: %v: %s", len(answers), err, line)
			}
			answers = append(answers, answer)
		}
		if err == io.EOF {
			return answers
		}
		if err != nil {
			fail("read answers: %v", err)
		}
	}
}

// compare counts one case; what differs without a name is printed.
func (t *tally) compare(c *Case, ours Answer, theirs Result, peer *peer) {
	agreed, name := agree(ours, theirs), ""
	if !agreed {
		name = explain(c, ours, theirs)
	}
	for turn := 0; turn < 20 && !agreed && name == ""; turn++ {
		if agree(ours, peer.evaluate(c)) {
			name = "map_order"
		}
	}
	t.Lock()
	defer t.Unlock()
	t.compared++
	for _, production := range c.used {
		t.used[production]++
		if theirs.Error == "" {
			t.gaveValue[production]++
		}
	}
	if theirs.Error == "" {
		t.values++
	} else {
		t.errors++
	}
	if agreed {
		return
	}
	if name != "" {
		t.known[name]++
		return
	}
	t.unknown++
	if t.unknown <= 200 {
		line, _ := json.Marshal(c)
		answer, _ := json.Marshal(ours)
		their, _ := json.Marshal(theirs)
		fmt.Printf("case %s\n  %s\n  ours   %s\n  cel-go %s\n", line, c.Expr, answer, their)
	}
}

func agree(ours Answer, theirs Result) bool {
	if (ours.Error != nil) != (theirs.Error != "") {
		return false
	}
	return ours.Error != nil || sameValue(ours.Value, theirs.Value)
}

// work generates, asks both and compares, batch by batch.
func work(command string, seeds <-chan int64, t *tally) {
	peer := newPeer()
	for seed := range seeds {
		generator := newGenerator(rand.New(rand.NewSource(seed)))
		cases := make([]Case, batchSize)
		for i := range cases {
			cases[i] = generator.next(fmt.Sprintf("%d/%d", seed, i))
		}
		answers := ask(command, cases)
		for i := range cases {
			if answers[i].ID != cases[i].ID {
				fail("answer to %s where %s was asked", answers[i].ID, cases[i].ID)
			}
			t.compare(&cases[i], answers[i], peer.evaluate(&cases[i]), peer)
		}
	}
}

// replay compares the cases of a file: found ones, kept as NDJSON.
func replay(command, path string, t *tally) {
	file, err := os.Open(path)
	if err != nil {
		fail("%v", err)
	}
	defer file.Close()
	var cases []Case
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		var c Case
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			fail("%s: %v", path, err)
		}
		cases = append(cases, c)
	}
	peer := newPeer()
	for i, answer := range ask(command, cases) {
		t.compare(&cases[i], answer, peer.evaluate(&cases[i]), peer)
	}
}

func (t *tally) report(coverage bool) bool {
	fmt.Printf("compared %d: %d values, %d errors; %d differences without a name\n", t.compared, t.values, t.errors,
		t.unknown)
	var names []string
	for name := range t.known {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		fmt.Printf("  %7d  %s: %s\n", t.known[name], name, known[name])
	}
	missing := 0
	for i, p := range productions {
		if coverage {
			fmt.Printf("  %7d used, %7d gave a value  %s\n", t.used[i], t.gaveValue[i], p.text)
		}
		if t.gaveValue[i] == 0 {
			missing++
		}
	}
	fmt.Printf("productions: %d, without a value so far: %d\n", len(productions), missing)
	if t.compared >= 100000 && missing > 0 {
		for i, p := range productions {
			if t.gaveValue[i] == 0 {
				fmt.Printf("never gave a value: %s\n", p.text)
			}
		}
		return false
	}
	return t.unknown == 0
}

func main() {
	command := flag.String("command", "build/bin/millrace-cel", "the command to test")
	count := flag.Int("count", 20000, "pairs of expression and document")
	seed := flag.Int64("seed", 1, "of the generator; batch i has seed + i")
	coverage := flag.Bool("coverage", false, "print how often each production was used")
	file := flag.String("cases", "", "compare the cases of this file instead")
	dump := flag.Bool("generate", false, "print the cases instead of comparing")
	flag.Parse()
	t := &tally{known: map[string]int{}, used: make([]int, len(productions)), gaveValue: make([]int, len(productions))}
	if *dump {
		generator := newGenerator(rand.New(rand.NewSource(*seed)))
		encoder := json.NewEncoder(os.Stdout)
		encoder.SetEscapeHTML(false)
		for i := 0; i < *count; i++ {
			c := generator.next(fmt.Sprintf("%d/%d", *seed, i))
			if err := encoder.Encode(&c); err != nil {
				fail("%v", err)
			}
		}
		return
	}
	if *file != "" {
		replay(*command, *file, t)
	} else {
		seeds := make(chan int64)
		var workers sync.WaitGroup
		for i := 0; i < runtime.NumCPU(); i++ {
			workers.Add(1)
			go func() {
				defer workers.Done()
				work(*command, seeds, t)
			}()
		}
		for i := 0; i*batchSize < *count; i++ {
			seeds <- *seed + int64(i)
		}
		close(seeds)
		workers.Wait()
	}
	if !t.report(*coverage) {
		os.Exit(1)
	}
}
