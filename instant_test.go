package asyncio_test

import (
	"encoding/json"
	"go/ast"
	"go/build"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"math"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

// A span in place of an Instant used to compile: WithDeadline(ctx, 20*time.Millisecond) returned a
// context that was done.
func TestInstant_IsNoDuration(t *testing.T) {
	imports, std := someImports{}, importer.Default()
	for _, name := range []string{"context", "time"} {
		p, err := std.Import(name)
		must(t, err)
		imports[name] = p
	}
	imports["github.com/goasyncio/asyncio"] = rootPackage(t, imports)
	for _, c := range []struct{ code, message string }{
		{"WithDeadline(ctx, l.Time().Add(20*time.Millisecond))", ""},
		{"WithDeadline(ctx, 20*time.Millisecond)", "cannot use 20 * time.Millisecond (constant 20000000 of int64 type time.Duration) as asyncio.Instant value"},
		{"WithDeadline(ctx, 20)", "cannot use 20 (untyped int constant) as asyncio.Instant value"},
		{"WithDeadline(ctx, 0)", "cannot use 0 (untyped int constant) as asyncio.Instant value"},
		{"WithDeadline(ctx, l.Now())", "as asyncio.Instant value"},
		{"WithTimeout(ctx, l.Time())", "as time.Duration value"},
		{"WithTimeout(ctx, l.Time().Sub(Instant{}))", ""},
		{"TimeoutAt(ctx, Never, body)", ""},
		{"TimeoutAt(ctx, Forever, body)", "as asyncio.Instant value"},
		{"TimeoutAt(ctx, time.Second, body)", "as asyncio.Instant value"},
		{"Timeout(ctx, Never, body)", "as time.Duration value"},
		{"tm.Reschedule(time.Second)", "as asyncio.Instant value"},
		{"l.CallAt(time.Second, func() {})", "as asyncio.Instant value"},
		{"Sleep(ctx, h.When())", "as time.Duration value"},
		{"Instant(time.Second)", "cannot convert"},
		{"time.Duration(l.Time())", "cannot convert"},
		{"l.Time() + time.Second", "mismatched types"},
		{"l.Time() + l.Time()", "not defined"},
		{"l.Time() - l.Time()", "not defined"},
		{"l.Time() < time.Second", "mismatched types"},
		{"l.Time() == h.When()", ""},
		{"TimeoutError{When: time.Second}", "as asyncio.Instant value"},
	} {
		src := `package p
			import ("context"; "time"; . "github.com/goasyncio/asyncio")
			var _ time.Time
			func _(ctx context.Context, l *EventLoop, tm *TimeoutScope, h *TimerHandle, body func(context.Context, *TimeoutScope) error) {
				use(` + c.code + `)
			}
			func use(...any)`
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, "snippet", src, parser.SkipObjectResolution)
		must(t, err)
		message := ""
		if _, err := (&types.Config{Importer: imports}).Check("p", fset, []*ast.File{f}, nil); err != nil {
			message = err.Error()
		}
		if !strings.Contains(message, c.message) || c.message == "" && message != "" {
			t.Errorf("%s: %q, want %q", c.code, message, c.message)
		}
	}
}

// rootPackage returns the package without the bodies of its functions.
func rootPackage(t *testing.T, imports types.Importer) *types.Package {
	t.Helper()
	listed, err := build.ImportDir(".", 0)
	must(t, err)
	fset := token.NewFileSet()
	var files []*ast.File
	for _, name := range listed.GoFiles {
		f, err := parser.ParseFile(fset, name, nil, parser.SkipObjectResolution)
		must(t, err)
		files = append(files, f)
	}
	config := types.Config{IgnoreFuncBodies: true, Error: func(error) {}, Importer: imports}
	p, _ := config.Check("github.com/goasyncio/asyncio", fset, files, nil)
	return p
}

// someImports has the packages that the snippets need; any other is empty.
type someImports map[string]*types.Package

func (m someImports) Import(path string) (*types.Package, error) {
	if p := m[path]; p != nil {
		return p, nil
	}
	return noImports{}.Import(path)
}

// Sums and differences are those of the integers, as far as they can be counted.
func TestInstant_AddAndSub(t *testing.T) {
	spans := []time.Duration{0, 1, 2, time.Second, time.Hour, math.MaxInt64 / 2, math.MaxInt64/2 + 1, math.MaxInt64 - 1, math.MaxInt64}
	for _, d := range spans {
		spans = append(spans, -d)
	}
	spans = append(spans, math.MinInt64)
	clamped := func(n *big.Int, least int64) time.Duration {
		switch {
		case n.Cmp(big.NewInt(math.MaxInt64)) > 0:
			return math.MaxInt64
		case n.Cmp(big.NewInt(least)) < 0:
			return time.Duration(least)
		}
		return time.Duration(n.Int64())
	}
	for _, a := range spans {
		i := asyncio.Instant{}.Add(a)
		if i.SinceStart() != a || i.Sub(asyncio.Instant{}) != max(a, -asyncio.Forever) {
			t.Errorf("%v since the start is %v", a, i)
		}
		for _, b := range spans {
			want := clamped(new(big.Int).Add(big.NewInt(int64(a)), big.NewInt(int64(b))), math.MinInt64)
			if i == asyncio.Never {
				want = asyncio.Forever
			}
			if got := i.Add(b); got.SinceStart() != want {
				t.Errorf("%v.Add(%v) = %v, want %v", i, b, got, want)
			}

			u := asyncio.Instant{}.Add(b)
			want = clamped(new(big.Int).Sub(big.NewInt(int64(a)), big.NewInt(int64(b))), -math.MaxInt64)
			switch {
			case i == u:
			case i == asyncio.Never:
				want = asyncio.Forever
			case u == asyncio.Never:
				want = -asyncio.Forever
			}
			if got := i.Sub(u); got != want || got != -u.Sub(i) {
				t.Errorf("%v.Sub(%v) = %v, want %v", i, u, got, want)
			}
			if i.Before(u) != (a < b) || i.After(u) != (a > b) || (i == u) != (a == b) {
				t.Errorf("%v, %v: before %v, after %v, equal %v", i, u, i.Before(u), i.After(u), i == u)
			}
			if c := i.Compare(u); (c < 0) != (a < b) || (c > 0) != (a > b) {
				t.Errorf("%v.Compare(%v) = %d", i, u, c)
			}
		}
	}
}

func TestInstant_Prints(t *testing.T) {
	for i, want := range map[asyncio.Instant]string{
		{}: "0s",
		asyncio.Instant{}.Add(1500 * time.Millisecond): "1.5s",
		asyncio.Instant{}.Add(-time.Minute):            "-1m0s",
		asyncio.Never:                                  "never",
	} {
		is(t, "String", i.String(), want)
		text, err := json.Marshal(i)
		must(t, err)
		is(t, "JSON", string(text), `"`+want+`"`)
	}
}
