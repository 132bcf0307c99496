package asynciosql_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"math"
	"net"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio/asynciosql"
)

// Destinations of types that database/sql does not know.
type (
	number int16
	name   string
	flag   bool
	words  []byte
)

func into[T any]() any { return new(T) }

// A row scans as database/sql's rows do, with the same errors.
func TestRow_Scan(t *testing.T) {
	s := newServer(t, 1)
	when := time.Date(2026, 11, 30, 12, 0, 0, 5, time.UTC)
	zone := time.FixedZone("east", 3600)
	text, one := "text", 1
	sources := []any{
		nil, int64(42), int64(0), int64(1), int64(-1), int64(300), int64(1 << 40), int64(math.MinInt64), 3.5, 42.0, math.Inf(-1), 1e300,
		true, false, "text", "", "42", "-7", "3.5", "1e3", "t", "TRUE", "yes", "300", "99999999999999999999", when.Format(time.RFC3339),
		[]byte("bytes"), []byte("7"), []byte{}, []byte(nil), []byte{0, 255}, []byte("null"), when, when.In(zone), time.Time{},
	}
	dests := []func() any{
		into[any], into[string], into[[]byte], into[sql.RawBytes], into[json.RawMessage], into[net.IP], into[words],
		into[int], into[int8], into[int16], into[int32], into[int64], into[uint], into[uint8], into[uint16], into[uint32], into[uint64],
		into[float32], into[float64], into[complex128], into[bool], into[time.Time], into[time.Duration], into[number], into[name], into[flag],
		into[*int], into[**int], into[*string], into[*[]byte], into[*time.Time], into[*any], into[*bool], into[*upper],
		into[sql.NullString], into[sql.NullInt64], into[sql.NullInt32], into[sql.NullInt16], into[sql.NullByte], into[sql.NullFloat64], into[sql.NullBool],
		into[sql.NullTime], into[sql.Null[int32]], into[sql.Null[string]], into[sql.Null[[]byte]], into[sql.Null[time.Time]], into[sql.Null[any]], into[sql.Null[upper]],
		into[upper], into[sql.Rows], into[struct{ X int }], into[[]int], into[[4]byte], into[chan int], into[map[string]int], into[error], into[fmt.Stringer], into[func()],
		func() any { return 0 }, func() any { return (*int)(nil) }, func() any { return nil }, func() any { return sql.NullString{} },
		func() any { kept := any("before"); return &kept }, func() any { kept := &text; return &kept }, func() any { kept := &one; return &kept },
		func() any { kept := []byte("before"); return &kept },
	}
	type scanned struct {
		dest any
		err  error
	}
	var want []scanned
	for _, src := range sources {
		for _, dest := range dests {
			rows, err := s.DB.Query("echo", src)
			must(t, err)
			rows.Next()
			w := scanned{dest: dest()}
			w.err = rows.Scan(w.dest)
			must(t, rows.Close())
			want = append(want, w)
		}
	}
	run(t, func(ctx context.Context) error {
		db := asynciosql.New(s.DB)
		for i, src := range sources {
			row := db.QueryRow(ctx, "echo", src)
			for j, dest := range dests {
				got, want := dest(), want[i*len(dests)+j]
				err := row.Scan(got)
				if fmt.Sprint(err) != fmt.Sprint(want.err) {
					t.Errorf("%T into %T: error %v, want %v", src, got, err, want.err)
				}
				if !reflect.DeepEqual(got, want.dest) {
					t.Errorf("%T into %T: %v, want %v", src, got, got, want.dest)
				}
			}
		}
		return nil
	})
}

// upper is a Scanner.
type upper string

func (u *upper) Scan(src any) error {
	s, ok := src.(string)
	switch {
	case !ok:
		return fmt.Errorf("%T is no text", src)
	case s == "panic":
		panic("a scanner's panic")
	}
	*u = upper(strings.ToUpper(s))
	return nil
}

func TestRow_IsACopy(t *testing.T) {
	s := newServer(t, 1)
	run(t, func(ctx context.Context) error {
		db := asynciosql.New(s.DB)
		var all []*asynciosql.Row
		for row, err := range db.Query(ctx, "rows 100") {
			must(t, err)
			all = append(all, row)
		}
		for i := len(all) - 1; i >= 0; i-- {
			for range 2 {
				var n int
				must(t, all[i].Scan(&n, new(any)))
				is(t, "n", n, i)
			}
		}
		is(t, "columns", strings.Join(all[0].Columns(), " "), "n text")
		if err := all[0].Scan(new(int)); err == nil || err.Error() != "sql: expected 2 destination arguments in Scan, not 1" {
			t.Error(err)
		}
		// What a row was scanned into is the caller's.
		row := db.QueryRow(ctx, "echo", []byte("bytes"), "text")
		var first, second []byte
		must(t, row.Scan(&first, new(any)))
		first[0] = 'X'
		must(t, row.Scan(&second, new(any)))
		is(t, "bytes", string(second), "bytes")
		// RawBytes of two rows do not share a buffer.
		var a, b sql.RawBytes
		must(t, db.QueryRow(ctx, "echo", int64(111)).Scan(&a))
		must(t, db.QueryRow(ctx, "echo", int64(222)).Scan(&b))
		if !bytes.Equal(a, []byte("111")) || !bytes.Equal(b, []byte("222")) {
			t.Errorf("%s, %s", a, b)
		}
		// The panic of a Scanner does no harm to later scans.
		func() {
			defer func() { is(t, "panic", recover(), any("a scanner's panic")) }()
			_ = db.QueryRow(ctx, "echo", "panic").Scan(new(upper))
		}()
		var u upper
		must(t, db.QueryRow(ctx, "echo", "x").Scan(&u))
		is(t, "upper", u, "X")
		return nil
	})
}

// All columns are scanned up to one that fails.
func TestRow_ScanSeveral(t *testing.T) {
	s := newServer(t, 1)
	args := []any{int64(1), nil, "x", sql.Named("four", 4.5)}
	type row struct {
		a   int
		b   sql.NullInt64
		c   int
		d   float64
		err string
	}
	scan := func(scan func(dest ...any) error) (r row) {
		r = row{-1, sql.NullInt64{Int64: 5, Valid: true}, -1, -1, ""}
		r.err = fmt.Sprint(scan(&r.a, &r.b, &r.c, &r.d))
		return r
	}
	want := scan(s.DB.QueryRow("echo", args...).Scan)
	run(t, func(ctx context.Context) error {
		r := asynciosql.New(s.DB).QueryRow(ctx, "echo", args...)
		is(t, "the row", scan(r.Scan), want)
		is(t, "columns", fmt.Sprint(r.Columns()), "[arg0 arg1 arg2 four]")
		return nil
	})
	if !strings.Contains(want.err, `column index 2, name "arg2"`) || want.a != 1 || want.b.Valid || want.d != -1 {
		t.Error(want)
	}
}

// Drivers may use the memory of a row for the next one.
func TestRow_OfADriverWithOneBuffer(t *testing.T) {
	s := newServer(t, 1)
	run(t, func(ctx context.Context) error {
		var rows []*asynciosql.Row
		for row, err := range asynciosql.New(s.DB).Query(ctx, "buffer 100") {
			must(t, err)
			rows = append(rows, row)
		}
		for i, row := range rows {
			var b, raw []byte
			must(t, row.Scan(&b))
			must(t, row.Scan((*sql.RawBytes)(&raw)))
			is(t, "byte", int(b[0]), i)
			is(t, "raw byte", int(raw[0]), i)
		}
		is(t, "rows", len(rows), 100)
		return nil
	})
}

// A query with several results yields the rows of the first, and the connection is in order.
func TestQuery_SeveralResults(t *testing.T) {
	s := newServer(t, 1)
	run(t, func(ctx context.Context) error {
		db := asynciosql.New(s.DB)
		for _, n := range []int{0, 1, 16, 100} {
			got := 0
			for _, err := range db.Query(ctx, fmt.Sprint("sets ", n)) {
				must(t, err)
				got++
			}
			is(t, "rows", got, n)
			is(t, "connections in use", s.Stats().InUse, 0)
		}
		_, ever := s.open()
		is(t, "connections", ever, 1)
		return nil
	})
}
