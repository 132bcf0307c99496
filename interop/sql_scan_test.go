//go:build unix

package interop

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciosql"
)

// TestSQL_Scan: a row of asynciosql scans as one of database/sql does, with the values that drivers
// have for the types of their servers.
func TestSQL_Scan(t *testing.T) {
	postgres := []string{
		"null::int", "42", "-1::smallint", "9007199254740993::bigint", "3.5::real", "3.5::float8", "12.50::numeric", "'NaN'::float8", "true",
		"'text'", "'42'::varchar", "''", "'\\x00ff41'::bytea", "''::bytea", "date '2026-11-30'", "timestamp '2026-11-30 12:00:00.000005'",
		"timestamptz '2026-11-30 12:00:00+03'", "time '12:00'", "interval '1 day'", `'{"a": [1, null]}'::jsonb`, "'null'::json", "array[1, 2]",
		"array['x', null]", "'0b5c7a34-0000-4000-8000-000000000001'::uuid", "'10.0.0.1'::inet", "'a'::\"char\"", "17::oid",
	}
	mariadb := []string{
		"null", "42", "cast(-1 as signed)", "18446744073709551615", "3.5", "cast(3.5 as double)", "cast(12.50 as decimal(10,2))", "true", "'text'", "''",
		"x'00ff41'", "date '2026-11-30'", "timestamp '2026-11-30 12:00:00.000005'", "time '12:00:01'", `json_object('a', 1)`, "b'101'",
	}
	for _, c := range []struct {
		drivers     string
		start       func(t *testing.T) string
		expressions []string
	}{{"postgres pgx", startPostgres, postgres}, {"mysql", startMariaDB, mariadb}} {
		source := c.start(t)
		for driver := range strings.FieldsSeq(c.drivers) {
			t.Run(driver, func(t *testing.T) {
				before := survey(t)
				pool, err := sql.Open(driver, source)
				must(t, err)
				pool.SetMaxOpenConns(1)
				for _, expression := range c.expressions {
					compareScans(t, pool, "select "+expression)
				}
				must(t, pool.Close())
				before.check(t)
			})
		}
	}
}

// compareScans compares the scans of the only value of a query into each type.
func compareScans(t *testing.T, pool *sql.DB, query string) {
	dests := []func() any{
		into[any], into[string], into[[]byte], into[sql.RawBytes], into[json.RawMessage], into[int], into[int8], into[uint64], into[float64], into[bool],
		into[time.Time], into[*string], into[*time.Time], into[sql.NullString], into[sql.NullInt64], into[sql.NullFloat64], into[sql.NullBool],
		into[sql.NullTime], into[sql.Null[string]], into[sql.Null[[]byte]],
	}
	want := make([]any, len(dests))
	errs := make([]error, len(dests))
	for i, dest := range dests {
		rows, err := pool.Query(query)
		must(t, err)
		if !rows.Next() {
			t.Fatal(query, rows.Err())
		}
		want[i] = dest()
		errs[i] = rows.Scan(want[i])
		if raw, ok := want[i].(*sql.RawBytes); ok && *raw != nil {
			*raw = append(sql.RawBytes{}, *raw...) // before the rows are closed
		}
		must(t, rows.Close())
	}
	_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
		row := asynciosql.New(pool).QueryRow(ctx, query)
		for i, dest := range dests {
			got := dest()
			err := row.Scan(got)
			if fmt.Sprint(err) != fmt.Sprint(errs[i]) {
				t.Errorf("%s into %T: error %v, want %v", query, got, err, errs[i])
			}
			// NaN is not equal to itself, nor are the zones of two equal times.
			if !reflect.DeepEqual(got, want[i]) && fmt.Sprintf("%#v", reflect.ValueOf(got).Elem()) != fmt.Sprintf("%#v", reflect.ValueOf(want[i]).Elem()) {
				t.Errorf("%s into %T: %v, want %v", query, got, reflect.ValueOf(got).Elem(), reflect.ValueOf(want[i]).Elem())
			}
		}
		return nil
	}))
	must(t, err)
}

func into[T any]() any { return new(T) }
