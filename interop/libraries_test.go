//go:build unix

package interop

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const document = "../docs/libraries.md"

// A rowsOf is what one test shows.
type rowsOf struct {
	test string
	rows []row
}

// kinds are the sections of the document that have a table.
var kinds = []struct {
	heading string
	tests   []rowsOf
}{
	{"Redis", []rowsOf{{"TestRedis", redisRows("")}}},
	{"SQL", []rowsOf{{"TestPostgresRows", postgresRows("")}, {"TestMariaDB", mariadbRows("")}}},
	{"HTTP clients and SDKs", []rowsOf{{"TestHTTP", httpRows("")}}},
	{"Web frameworks and HTTP servers", []rowsOf{{"TestFrameworks", frameworkRows(nil)}, {"TestServers", serverRows(nil)[:1]}}},
	{"gRPC", []rowsOf{{"TestGRPC", grpcRows("")}, {"TestFrameworks", []row{grpcServerRow(nil)}}, {"TestServers", serverRows(nil)[1:]}}},
	{"WebSocket", []rowsOf{{"TestWebSocket", webSocketRows("")}}},
	{"NATS", []rowsOf{{"TestNATS", natsRows("")}}},
	{"MQTT", []rowsOf{{"TestMQTT", mqttRows("")}}},
	{"SSH", []rowsOf{{"TestSSH", sshRows("", nil, "")}, {"TestSSHTunnel", sshTunnelRows("", nil, "")}}},
	{"SMTP", []rowsOf{{"TestSMTP", smtpRows("", "")}}},
	{"DNS", []rowsOf{{"TestDNS", dnsRows("")}}},
	{"net/rpc", []rowsOf{{"TestRPC", rpcRows("")}}},
	{"Logging, tracing, metrics", []rowsOf{{"", observeRows()}}},
	{"Only tried", []rowsOf{{"", triedRows}}},
}

// triedRows are of libraries that no test uses. Somebody has tried them once, against a server; by
// says in which release.
var triedRows = []row{
	{library: "quic-go", way: inThread + ", its streams " + asItIs, sim: "no", by: "a trial of 0.65"},
	{library: "go-imap", way: inThread, sim: "no", by: "a trial of 1.2.1"},
	{library: "x/net/http2, Framer", way: asItIs, sim: "yes", by: "a trial"},
	{library: "net/rpc/jsonrpc", way: callbacks, sim: "no", by: "a trial"},
}

// line returns the row as the document's tables have it.
func (r row) line(test string) string {
	done := r.done.String()
	if done != "" && r.done == r.cancel {
		done = "the same"
	}
	return fmt.Sprintf("| %s | %s | %s | %s | %s | %s | %s |", r.library, r.way, r.cancel, done, r.closing, r.sim, cmp.Or(r.by, test))
}

func readDocument(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(document)
	if err != nil {
		t.Skipf("%s is missing: this is the module by itself", document)
	}
	return string(text)
}

// TestLibraries_Tables: the document's tables say what the tests show, and no more.
func TestLibraries_Tables(t *testing.T) {
	const head = "| library | way | a cancel | a done ctx | Close | simulated | shown by |\n| --- | --- | --- | --- | --- | --- | --- |\n"
	sections := make(map[string]string)
	for _, section := range strings.Split(readDocument(t), "\n## ")[1:] {
		heading, body, _ := strings.Cut(section, "\n")
		sections[heading] = body
	}
	for _, kind := range kinds {
		want := head
		for _, shown := range kind.tests {
			for _, r := range shown.rows {
				want += r.line(shown.test) + "\n"
			}
		}
		table := regexp.MustCompile(`(?m)(^\|.*\n)+`).FindString(sections[kind.heading])
		if table != want {
			t.Errorf("the table of %s is\n%s\nwant\n%s", kind.heading, table, want)
		}
		delete(sections, kind.heading)
	}
	for heading, body := range sections {
		if strings.Contains(body, head) {
			t.Errorf("no test shows the table of %q", heading)
		}
	}
}

// TestLibraries_Rows: every row says all that the document promises, and names what there is; at
// least fifteen are backed by a test with a server.
func TestLibraries_Rows(t *testing.T) {
	functions := make(map[string]bool)
	for _, f := range parsedTests(t) {
		for _, d := range f.Decls {
			if f, ok := d.(*ast.FuncDecl); ok {
				functions[f.Name.Name] = true
			}
		}
	}
	seen, simulated, backed := make(map[string]bool), make(map[string]bool), 0
	for _, kind := range kinds {
		for _, shown := range kind.tests {
			for _, r := range shown.rows {
				name := r.library + " " + r.way
				if seen[name] {
					t.Errorf("there are two rows %q", name)
				}
				seen[name] = true
				by := cmp.Or(r.by, shown.test)
				_, err := os.Stat("../" + by)
				tried := strings.HasPrefix(by, "a trial")
				if !functions[by] && err != nil && !tried {
					t.Errorf("%s: there is no %s", name, by)
				}
				if r.sim == "yes" && r.open != nil {
					simulated[name] = true
				}
				if r.open == nil {
					continue
				}
				backed++
				if r.cancel == (outcome{}) || r.done == (outcome{}) || r.closing == "" || r.sim == "" {
					t.Errorf("%s: the row is incomplete: %s", name, r.line(by))
				}
			}
		}
	}
	if backed < 15 {
		t.Errorf("%d rows have a client that the battery uses", backed)
	}
	if got, want := slices.Sorted(maps.Keys(simulations)), slices.Sorted(maps.Keys(simulated)); !slices.Equal(got, want) {
		t.Errorf("the simulations are\n%q, want one for each row that says so\n%q", got, want)
	}
}

func parsedTests(t *testing.T) []*ast.File {
	t.Helper()
	var parsed []*ast.File
	for _, name := range testFiles(t, "*_test.go") {
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		must(t, err)
		parsed = append(parsed, f)
	}
	return parsed
}

func testFiles(t *testing.T, pattern string) []string {
	t.Helper()
	names, err := filepath.Glob(pattern)
	must(t, err)
	return names
}

// TestLibraries_Code: the document's code is taken from the tests. A block may leave lines out,
// where it has a line with three dots.
func TestLibraries_Code(t *testing.T) {
	var sources [][]string
	for _, name := range append(testFiles(t, "*_test.go"), testFiles(t, "../asynciogrpc/example_test.go")...) {
		text, err := os.ReadFile(name)
		must(t, err)
		sources = append(sources, strings.Split(string(text), "\n"))
	}
	blocks := regexp.MustCompile("(?ms)^```go\n(.*?)^```$").FindAllStringSubmatch(readDocument(t), -1)
	if len(blocks) < len(kinds)-2 {
		t.Errorf("the document has %d blocks of code", len(blocks))
	}
	for _, block := range blocks {
		for _, part := range regexp.MustCompile(`(?m)^\t*…\n`).Split(block[1], -1) {
			lines := strings.Split(strings.TrimSuffix(part, "\n"), "\n")
			if !slices.ContainsFunc(sources, func(source []string) bool { return haveLines(source, lines) }) {
				t.Errorf("no test has this code:\n%s", part)
			}
		}
	}
}

// haveLines reports whether a file has the lines one after the other, all indented more or less by
// the same.
func haveLines(source, lines []string) bool {
	shift := func(i, j int) (int, bool) {
		s, l := strings.TrimLeft(source[i], "\t"), strings.TrimLeft(lines[j], "\t")
		return (len(source[i]) - len(s)) - (len(lines[j]) - len(l)), s == l
	}
	for i := 0; i+len(lines) <= len(source); i++ {
		by, same := shift(i, 0)
		for j := 1; j < len(lines) && same; j++ {
			n, equal := shift(i+j, j)
			same = equal && (n == by || lines[j] == "")
		}
		if same {
			return true
		}
	}
	return false
}
