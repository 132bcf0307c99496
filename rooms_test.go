package asyncio_test

import (
	"go/ast"
	"go/build"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// roomPolicy says which files of the root package may name what others declare. It is a statement
// of policy; do not adapt it to make the test pass. Each line gives a room and the rooms that it
// may name, below the reason. A file belongs to the room that its name begins with, up to the first
// underscore or the dot; files whose name begins with no room's are of the kernel.
const roomPolicy = `
# The kernel is what everything else is made of. A new combinator, primitive or kind of connection
# must not need a line of it: what the kernel has to know of a type, the type says by a method.
kernel <

# A primitive is a queue of waiting tasks.
sync < kernel

# What goroutines do for tasks.
threads < kernel

# Waits are made of futures and tasks, and Select waits for anything that tasks can wait for.
wait < kernel, sync, threads

# Connections, files and the like: nobody's foundation, so each of them can be replaced.
io < kernel, sync, threads, wait

# A loop's life from outside. It may know everything.
run < kernel, sync, threads, wait, io
`

// largestCycles bounds the groups of files that need each other. The kernel is one, because a task,
// its future, its loop and its stack are one thing in several files. Merging files to stay below
// is no way out: see longestFile.
const (
	largestKernelCycle = 20
	largestCycle       = 3
	longestFile        = 700 // lines
)

// TestRooms: the files of the root package name each other as roomPolicy says, and those that need
// each other are few.
func TestRooms(t *testing.T) {
	may := make(map[string][]string)
	why := make(map[string]string)
	reason := ""
	for line := range strings.Lines(roomPolicy) {
		line = strings.TrimSpace(line)
		if text, ok := strings.CutPrefix(line, "# "); ok {
			reason += text + " "
		} else if room, rest, ok := strings.Cut(line, " <"); ok {
			may[room] = append(strings.Split(strings.ReplaceAll(rest, " ", ""), ","), room)
			why[room], reason = reason, ""
		}
	}
	roomOf := func(file string) string {
		room, _, _ := strings.Cut(strings.TrimSuffix(file, ".go"), "_")
		if may[room] == nil {
			return "kernel"
		}
		return room
	}
	names := edges(t, ".")
	if len(names) < 50 {
		t.Fatalf("found %d files only", len(names))
	}
	used := make(map[string]bool)
	for _, file := range slices.Sorted(maps.Keys(names)) {
		room := roomOf(file)
		used[room] = true
		for _, other := range slices.Sorted(maps.Keys(names[file])) {
			if r := roomOf(other); !slices.Contains(may[room], r) {
				t.Errorf("%s names %s, which %s declares: %s does not know %s. %s", file, names[file][other], other, room, r, why[room])
			}
		}
	}
	for room := range may {
		if !used[room] {
			t.Errorf("roomPolicy has a room %q without files", room)
		}
	}
	for _, cycle := range cycles(names) {
		limit := largestCycle
		if slices.Contains(cycle, "loop.go") {
			limit = largestKernelCycle
		}
		if len(cycle) > limit {
			t.Errorf("%d files need each other, at most %d may: %v", len(cycle), limit, cycle)
		}
	}
}

// TestFiles_AreNotTooLong: a file of the library that a reader has to read whole can be read whole.
func TestFiles_AreNotTooLong(t *testing.T) {
	for _, file := range files(t, "*.go") {
		if strings.HasSuffix(file, "_test.go") || strings.Contains(file, "testdata") {
			continue
		}
		if n := strings.Count(readFile(t, file), "\n"); n > longestFile {
			t.Errorf("%s has %d lines, at most %d are allowed: cut it by what it is about", file, n, longestFile)
		}
	}
}

// edges returns for each file of the package in dir the files whose declarations it names, each
// with one such name.
func edges(t *testing.T, dir string) map[string]map[string]string {
	t.Helper()
	system := build.Default
	system.GOOS, system.GOARCH = "linux", "amd64"
	p, err := system.ImportDir(dir, 0)
	must(t, err)
	fset := token.NewFileSet()
	var parsed []*ast.File
	all := make(map[string]map[string]string)
	for _, name := range p.GoFiles {
		f, err := parser.ParseFile(fset, filepath.Join(dir, name), nil, parser.SkipObjectResolution)
		must(t, err)
		parsed = append(parsed, f)
		all[name] = make(map[string]string)
	}
	info := &types.Info{Uses: make(map[*ast.Ident]types.Object)}
	config := types.Config{Importer: exportData(t, fset, dir)}
	checked, err := config.Check(p.Name, fset, parsed, info)
	must(t, err)
	file := func(p token.Pos) string { return filepath.Base(fset.Position(p).Filename) }
	for id, o := range info.Uses {
		if o.Pkg() != checked || !o.Pos().IsValid() {
			continue
		}
		from, to := file(id.Pos()), file(o.Pos())
		if old := all[from][to]; from != to && (old == "" || o.Name() < old) {
			all[from][to] = o.Name()
		}
	}
	return all
}

// exportData returns an importer of the packages that the one in dir needs, as the go command has
// compiled them. Without their types, names behind a value of another package would be overlooked.
func exportData(t *testing.T, fset *token.FileSet, dir string) types.Importer {
	t.Helper()
	cmd := exec.Command("go", "list", "-export", "-deps", "-f", "{{.ImportPath}} {{.Export}}", ".")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH=amd64", "CGO_ENABLED=0")
	compiled := make(map[string]string)
	for line := range strings.Lines(output(t, cmd)) {
		path, file, _ := strings.Cut(strings.TrimSpace(line), " ")
		compiled[path] = file
	}
	return importer.ForCompiler(fset, "gc", func(path string) (io.ReadCloser, error) { return os.Open(compiled[path]) })
}

// cycles returns the groups of more than one file in which each leads to each other, by Tarjan's
// algorithm.
func cycles(names map[string]map[string]string) (all [][]string) {
	index, low := make(map[string]int), make(map[string]int)
	var path []string
	var visit func(file string)
	visit = func(file string) {
		index[file] = len(index) + 1
		low[file] = index[file]
		path = append(path, file)
		for other := range names[file] {
			if index[other] == 0 {
				visit(other)
			}
			if slices.Contains(path, other) {
				low[file] = min(low[file], low[other])
			}
		}
		if low[file] == index[file] {
			at := slices.Index(path, file)
			if group := slices.Clone(path[at:]); len(group) > 1 {
				slices.Sort(group)
				all = append(all, group)
			}
			path = path[:at]
		}
	}
	for file := range names {
		if index[file] == 0 {
			visit(file)
		}
	}
	return all
}
