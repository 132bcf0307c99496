package asynciosql

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"io"
	"slices"
	"sync"
)

// A Row is one row of a result. It is a copy of the values: it stays valid, and any goroutine may
// have it.
type Row struct {
	columns []string
	values  []any
	err     error
}

// Err returns the error of [DB.QueryRow], which Scan would return. It does not suspend, and any
// goroutine may call it.
func (r *Row) Err() error { return r.err }

// Columns returns the names of the columns. It does not suspend, and any goroutine may call it.
func (r *Row) Columns() []string { return slices.Clone(r.columns) }

// Scan copies the values into dest, with the conversions and errors of [sql.Rows.Scan], which does
// the work. A cursor as a value cannot be scanned, and conversions of the driver's own
// (driver.RowsColumnScanner in Go 1.27) are not used; [Conn.Raw] leads to the driver. Scan does not
// suspend, and any goroutine may call it.
func (r *Row) Scan(dest ...any) error {
	if r.err != nil {
		return r.err
	}
	p := replays.Get().(*replay)
	p.source.row = r
	// The first call forgets the columns of the row before.
	p.rows.NextResultSet() //asynciovet:allow blocking our source only copies
	p.rows.Next()          //asynciovet:allow blocking our source only copies
	err := p.rows.Scan(dest...)
	p.source.row = nil
	// A panic of a Scanner leaves the rows locked, and sql.RawBytes may be in a buffer of theirs.
	if !slices.ContainsFunc(dest, isRaw) {
		replays.Put(p)
	}
	return err
}

func isRaw(dest any) bool { _, ok := dest.(*sql.RawBytes); return ok }

// A replay is an open sql.Rows of a driver that has nothing but the row that it is given. So the
// conversions are those of database/sql itself. The sql.DB behind it is closed, and so costs no
// goroutine.
type replay struct {
	rows   *sql.Rows
	source *source
}

var replays = sync.Pool{New: func() any {
	s := new(source)
	db := sql.OpenDB(s)
	defer db.Close()
	rows, err := db.QueryContext(context.Background(), "")
	if err != nil {
		panic(err) // none of source's methods fails
	}
	return &replay{rows, s}
}}

// A source is a connector, a driver, its connection and its rows.
type source struct{ row *Row }

func (s *source) Connect(context.Context) (driver.Conn, error) { return s, nil }
func (s *source) Driver() driver.Driver                        { return s }
func (s *source) Open(string) (driver.Conn, error)             { return s, nil }
func (s *source) Prepare(string) (driver.Stmt, error)          { return nil, driver.ErrSkip }
func (s *source) Begin() (driver.Tx, error)                    { return nil, driver.ErrSkip }
func (s *source) Close() error                                 { return nil }
func (s *source) HasNextResultSet() bool                       { return true }
func (s *source) NextResultSet() error                         { return nil }

func (s *source) QueryContext(context.Context, string, []driver.NamedValue) (driver.Rows, error) {
	return s, nil
}

func (s *source) Columns() []string {
	if s.row == nil {
		return nil
	}
	return s.row.columns
}

func (s *source) Next(dest []driver.Value) error {
	if s.row == nil {
		return io.EOF
	}
	for i, v := range s.row.values {
		dest[i] = v
	}
	return nil
}
