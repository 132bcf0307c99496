package asynciosql_test

import (
	"context"
	"testing"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciosql"
)

// benchmarkServer is a server for benchmarks: it answers at once.
func benchmarkServer(b *testing.B) *server {
	b.Helper()
	s := newServer(b, 1)
	s.table["a"] = "1"
	return s
}

// on runs a benchmark in a task.
func on(b *testing.B, body func(ctx context.Context) error) {
	b.Helper()
	_, err := asyncio.Run(b.Context(), asyncio.Do(func(ctx context.Context) error {
		b.ReportAllocs()
		b.ResetTimer()
		return body(ctx)
	}))
	if err != nil {
		b.Error(err)
	}
}

// BenchmarkExec is a statement, by database/sql on a goroutine, by ToThread and by this package.
func BenchmarkExec(b *testing.B) {
	b.Run("database-sql", func(b *testing.B) {
		s := benchmarkServer(b)
		b.ReportAllocs()
		for b.Loop() {
			if _, err := s.ExecContext(b.Context(), "set a 1"); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("ToThread", func(b *testing.B) {
		s := benchmarkServer(b)
		on(b, func(ctx context.Context) error {
			for b.Loop() {
				if _, err := asyncio.ToThread(ctx, func(ctx context.Context) (int, error) {
					_, err := s.ExecContext(ctx, "set a 1")
					return 0, err
				}); err != nil {
					return err
				}
			}
			return nil
		})
	})
	b.Run("asynciosql", func(b *testing.B) {
		s := benchmarkServer(b)
		on(b, func(ctx context.Context) error {
			db := asynciosql.New(s.DB)
			for b.Loop() {
				if _, err := db.Exec(ctx, "set a 1"); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

// BenchmarkRows is a query of 10,000 rows of a number and a text, all of them scanned.
func BenchmarkRows(b *testing.B) {
	const query = "rows 10000"
	b.Run("database-sql", func(b *testing.B) {
		s := benchmarkServer(b)
		b.ReportAllocs()
		for b.Loop() {
			rows, err := s.QueryContext(b.Context(), query)
			if err != nil {
				b.Fatal(err)
			}
			for rows.Next() {
				var n int
				var text string
				if err := rows.Scan(&n, &text); err != nil {
					b.Fatal(err)
				}
			}
			if err := rows.Err(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("asynciosql", func(b *testing.B) {
		s := benchmarkServer(b)
		on(b, func(ctx context.Context) error {
			db := asynciosql.New(s.DB)
			for b.Loop() {
				for row, err := range db.Query(ctx, query) {
					if err != nil {
						return err
					}
					var n int
					var text string
					if err := row.Scan(&n, &text); err != nil {
						return err
					}
				}
			}
			return nil
		})
	})
}

// BenchmarkInTx is a transaction of one statement.
func BenchmarkInTx(b *testing.B) {
	b.Run("database-sql", func(b *testing.B) {
		s := benchmarkServer(b)
		b.ReportAllocs()
		for b.Loop() {
			tx, err := s.BeginTx(b.Context(), nil)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := tx.ExecContext(b.Context(), "set a 1"); err != nil {
				b.Fatal(err)
			}
			if err := tx.Commit(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("asynciosql", func(b *testing.B) {
		s := benchmarkServer(b)
		on(b, func(ctx context.Context) error {
			db := asynciosql.New(s.DB)
			for b.Loop() {
				if err := db.InTx(ctx, nil, insert("a")); err != nil {
					return err
				}
			}
			return nil
		})
	})
}
