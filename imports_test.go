package asyncio_test

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/goasyncio/asyncio"

// importPolicy says which package may import which. It is a statement of policy; do not adapt it to
// make the test pass. Each rule stands below its reason.
//
//	a < b, c    a imports nothing but b and c
//	a !< b      nor b
//	a !<< b     nor b by way of any other package
//
// If several rules of the first kind match a package, the narrowest holds.
//
// A path that begins with a dot is in this repository, x/... is x and everything below it, and std
// is the standard library. Imports of tests do not count.
const importPolicy = `
# Who uses the library takes on the standard library and golang.org/x/sys, nothing else.
. < std, golang.org/x/sys/..., ./internal/coro, ./internal/driver, ./internal/inspection, ./internal/metering, ./internal/recording

# A mechanism knows nothing of the loop that uses it.
./internal/coro < std
./internal/driver < std, golang.org/x/sys/...

# Looking at loops is a mechanism too: it knows them by an interface.
./internal/inspection < std, golang.org/x/sys/..., ./internal/recording

# A recording is words and a file, for the loop that writes it and for whoever reads it.
./internal/recording < std

# A picture of a recording needs both, and neither needs the other.
./internal/recording/picture < std, ./internal/recording, ./internal/timeline

# So is counting what they do.
./internal/metering < std, ./internal/inspection

# The numbers are for exporters, whose formats stay in modules of their own.
./metrics < std, ./internal/metering

# These are users of the numbers, and of tasks.
./asyncioprometheus < std, ., ./metrics, third-party
./asynciootel < std, ., ./metrics, third-party

# The page of it is served by net/http, which is not in every program; so it is a package of its own,
# and sees nothing of a loop but what is sent to other processes as well.
./inspect < std, ./internal/inspection, ./internal/recording, ./internal/recording/picture, ./internal/timeline

# A timeline is data about a run, and formats that others have defined. It knows no loop.
./internal/timeline < std

# Handlers for package slog know a task by the public interface.
./asynciolog < std, .

# What tests have in common is in no program.
./internal/leaktest < std
./internal/lessontest < std, ., ./sim

# Simulation reaches the loop through the seam, and sees nothing else of its inside.
./sim < std, ., ./internal/driver, ./internal/bubble, ./internal/timeline
./internal/bubble < std

# Package testing stays out of it: only this one, which is for tests alone, imports testing.
./sim/simtest < std, ./sim, ./internal/bubble
./sim !<< testing

# HTTP is for those who want it, and a user of the loop like any other. golang.org/x/net stays in its
# module.
./asynciohttp < std, ., ./asynciohttp/internal/handling, golang.org/x/net/...
./asynciohttp/internal/handling < std, .

# Its tools for tests are a user of it, and share with it what a request and its handler have in common.
./asynciohttp/asynciohttptest < std, ., ./asynciohttp, ./asynciohttp/internal/handling

# gRPC is for those who want it too. What it needs stays in its module.
./asynciogrpc < std, ., third-party

# So are databases; the drivers are the program's.
./asynciosql < std, .

# Scenarios are programs like any other: beyond the public interface they have only the clock, which
# counts iterations for them.
./internal/scenario < std, ., ./internal/driver
./internal/scenario/cmd/... < std, ./internal/scenario

# The interpreter of the lessons is a user of the loop, and of its virtual clock.
./lab/... < std, ., ./sim, ./lab/...

# Examples show what users can write: the public packages are all they have.
./examples/... < std, ., ./sim

# The crawler is in a module of its own, as asynciohttp is.
./examples/crawler < std, ., ./sim, ./asynciohttp

# So is the service of two programs.
./examples/orders < std, ., ./sim, ./asynciohttp

# Histories of the gallery's programs are checked by a library, which stays in its module.
./examples/gallery < std, ., ./sim, third-party

# The replicated store is there to run code that nobody here wrote under tasks: that is third-party by intent, and stays in its module.
./examples/raft/... < std, ., ./sim, third-party

# The command is a user too. What it needs beyond the library stays in its module.
./cmd/... < std, ., ./sim, ./inspect, ./lab, ./examples/..., ./cmd/..., third-party

# The comparison with others is made from outside too, and what that needs stays in its module.
./bench/... < std, ., ./asynciohttp, ./bench/..., third-party

# The same of the drivers that it is tried with. (There are only tests.)
./interop < std, .

# What is shown is tried with the programs that show it; these are third-party. (There are only tests.)
./browser < std, .

# The vet tool reads programs, the library among them, as text and as types. It calls nothing of it.
./asynciovet/... < std, ./asynciovet/..., third-party

# A program that does not serve HTTP must not carry a server.
. !<< net/http

# Package testing registers flags and belongs in no program.
. !<< testing

# The loop has no wire format; tools that show it can have theirs.
. !< encoding/json

# What must be said goes to the exception handler, and from there to log/slog.
. !< log
`

// A rule is one line of importPolicy.
type rule struct{ pkg, op, list, reason string }

func importRules(t *testing.T) []rule {
	t.Helper()
	var rules []rule
	reason := ""
	for line := range strings.Lines(importPolicy) {
		line = strings.TrimSpace(line)
		if after, ok := strings.CutPrefix(line, "#"); ok {
			reason = strings.TrimSpace(after)
		} else if f := strings.SplitN(line, " ", 3); len(f) == 3 {
			rules = append(rules, rule{f[0], f[1], f[2], reason})
		} else if line != "" {
			t.Fatalf("importPolicy: cannot read %q", line)
		}
	}
	return rules
}

// matches reports whether the import path p matches pattern, a pattern of importPolicy.
func matches(pattern, p string) bool {
	first, _, _ := strings.Cut(p, "/")
	switch pattern {
	case "std":
		return !strings.Contains(first, ".")
	case "third-party":
		return strings.Contains(first, ".") && !matches("./...", p)
	}
	if strings.HasPrefix(pattern, ".") {
		pattern = module + pattern[1:]
	}
	if above, ok := strings.CutSuffix(pattern, "/..."); ok {
		return p == above || strings.HasPrefix(p, above+"/")
	}
	return p == pattern
}

func matchesAny(list, p string) bool {
	return slices.ContainsFunc(strings.Split(list, ", "), func(pattern string) bool { return matches(pattern, p) })
}

type listedPackage struct {
	ImportPath, Name string
	Imports, Deps    []string
}

// listPackages lists the packages of the module in dir for goos. It downloads nothing: a missing
// module is an import like any other.
func listPackages(t *testing.T, dir, goos string) []listedPackage {
	t.Helper()
	cmd := exec.Command("go", "list", "-e", "-json=ImportPath,Name,Imports,Deps", "./...")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOPROXY=off", "GOOS="+goos, "GOARCH=amd64", "CGO_ENABLED=0")
	var all []listedPackage
	dec := json.NewDecoder(strings.NewReader(output(t, cmd)))
	for dec.More() {
		var p listedPackage
		if err := dec.Decode(&p); err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	if len(all) == 0 {
		t.Fatalf("no packages in %s", dir)
	}
	return all
}

func output(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, stderr.String())
	}
	return string(out)
}

// files returns the paths of the repository's files that match pattern. It also makes the result of
// this test depend on those files, so that a stale result is not taken from the cache.
func files(t *testing.T, pattern string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "testdata" || p != "." && strings.HasPrefix(d.Name(), ".")) {
			return filepath.SkipDir
		}
		if ok, _ := path.Match(pattern, d.Name()); ok && !d.IsDir() {
			all = append(all, filepath.ToSlash(p))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestImports(t *testing.T) {
	for _, file := range files(t, "*.go") {
		// the read makes the test depend on the file; see files
		if _, err := os.ReadFile(file); err != nil {
			t.Fatal(err)
		}
	}
	rules := importRules(t)
	for _, goos := range []string{"linux", "darwin", "windows", "freebsd"} {
		t.Run(goos, func(t *testing.T) {
			used := make([]bool, len(rules))
			whole := false // whether the modules below are there
			for _, mod := range files(t, "go.mod") {
				whole = whole || mod == "cmd/go.mod"
				for _, p := range listPackages(t, path.Dir(mod), goos) {
					checkImports(t, p, rules, used)
				}
			}
			for i, r := range rules {
				nested := slices.ContainsFunc([]string{"./asynciohttp/", "./asynciovet/", "./bench/", "./cmd/", "./examples/raft/", "./lab/"}, func(dir string) bool {
					return strings.HasPrefix(r.pkg, dir)
				}) || r.pkg == "./asynciogrpc" || r.pkg == "./asyncioprometheus" || r.pkg == "./asynciootel" || r.pkg == "./asynciohttp" || r.pkg == "./asynciosql" || r.pkg == "./browser" || r.pkg == "./examples/crawler" || r.pkg == "./examples/gallery" || r.pkg == "./examples/orders" || r.pkg == "./interop"
				if !used[i] && (whole || !nested) {
					t.Errorf("importPolicy has a rule for %s, which does not exist", r.pkg)
				}
			}
		})
	}
}

func checkImports(t *testing.T, p listedPackage, rules []rule, used []bool) {
	t.Helper()
	name := p.ImportPath
	if below, ok := strings.CutPrefix(name, module); ok {
		name = "." + below
	}
	narrowest := "" // the narrowest rule of the first kind
	for _, r := range rules {
		if r.op == "<" && matches(r.pkg, p.ImportPath) && len(r.pkg) > len(narrowest) {
			narrowest = r.pkg
		}
	}
	for i, r := range rules {
		if !matches(r.pkg, p.ImportPath) || r.op == "<" && r.pkg != narrowest {
			continue
		}
		used[i] = true
		imports := p.Imports
		if r.op == "!<<" {
			imports = p.Deps
		}
		for _, imp := range imports {
			if matchesAny(r.list, imp) != (r.op == "<") {
				t.Errorf("%s imports %s. %s", name, imp, r.reason)
			}
		}
	}
	if narrowest == "" {
		t.Errorf("importPolicy does not say what %s may import", name)
	}
	switch strings.TrimSuffix(p.Name, "s") {
	case "util", "helper", "common":
		t.Errorf("package %s: a package is named for what it provides, and its users find it there", name)
	}
}

func TestModules(t *testing.T) {
	type goMod struct {
		Go, Toolchain string
		Require       []struct{ Path string }
		Use           []struct{ DiskPath string }
	}
	read := func(command, file string) (m goMod) {
		t.Helper()
		// the read makes the test depend on the file; see files
		if _, err := os.ReadFile(file); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(output(t, exec.Command("go", command, "edit", "-json", file))), &m); err != nil {
			t.Fatal(err)
		}
		return m
	}

	root := read("mod", "go.mod")
	for _, r := range root.Require {
		if !matches("golang.org/x/sys", r.Path) {
			t.Errorf("go.mod requires %s. What the library needs beyond golang.org/x/sys, every user would have to take on", r.Path)
		}
	}
	check := func(file string, m goMod) {
		// requirements may make the go command write 1.26.0, the first release of 1.26
		if strings.TrimSuffix(m.Go, ".0") != root.Go {
			t.Errorf("%s says go %s, go.mod says go %s. One project is for one release of Go", file, m.Go, root.Go)
		}
		if m.Toolchain != "" {
			t.Errorf("%s has a toolchain line. Which toolchain to use is for the user to say", file)
		}
	}
	mods := files(t, "go.mod")
	var dirs []string
	for _, mod := range mods {
		check(mod, read("mod", mod))
		dirs = append(dirs, path.Dir(mod))
	}
	if _, err := os.Stat("go.work"); os.IsNotExist(err) && len(mods) == 1 {
		return // the module by itself, as it is downloaded
	}
	work := read("work", "go.work")
	check("go.work", work)
	var use []string
	for _, u := range work.Use {
		use = append(use, path.Clean(u.DiskPath))
	}
	slices.Sort(dirs)
	slices.Sort(use)
	if !slices.Equal(use, dirs) {
		t.Errorf("go.work uses the modules %v, the repository has %v", use, dirs)
	}
}

// realSleeps lists the tests that may use time.Sleep, each with its reason. A test that waits for a
// fixed time is slow when it passes, and fails on a slow day. Use package sim, package
// testing/synctest, or wait for the event itself.
var realSleeps = map[string]string{
	"interop/bubble_test.go":     "it sleeps in a bubble of testing/synctest, on the clock of that",
	"sim/simtest/bubble_test.go": "it sleeps in a bubble of testing/synctest, on the clock of that",
	"sim/simtest/http_test.go":   "it sleeps in a bubble of testing/synctest, on the clock of that",
}

func TestTestsDoNotSleep(t *testing.T) {
	for _, file := range files(t, "*_test.go") {
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Error(err)
			continue
		}
		sleeps := false
		ast.Inspect(f, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok && s.Sel.Name == "Sleep" {
				if x, ok := s.X.(*ast.Ident); ok && x.Name == "time" {
					sleeps = true
					if realSleeps[file] == "" {
						t.Errorf("%v: a test sleeps on the real clock; see realSleeps", fset.Position(n.Pos()))
					}
				}
			}
			return true
		})
		if realSleeps[file] != "" && !sleeps {
			t.Errorf("realSleeps lists %s, which does not sleep", file)
		}
	}
}
