package asynciosql_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciosql"
)

// TestModel runs 300 random programs, or as many as ASYNCIO_MODELS says. In each, tasks run
// statements and transactions, and something happens to every statement that waits in the server:
// it goes on, or its task is stopped, or both. What the tasks were told must be true, and the pool
// in order.
func TestModel(t *testing.T) {
	runs := 300
	if text := os.Getenv("ASYNCIO_MODELS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		runs = n / 10
	}
	for seed := range uint64(runs) {
		s := newServer(t, 1+int(seed%4))
		run(t, func(ctx context.Context) error {
			m := &model{t: t, s: s, db: asynciosql.New(s.DB), random: rand.New(rand.NewPCG(seed, 0)), journal: &journal{s, make(map[string]error)}}
			err := m.run(ctx)
			if err == nil {
				err = m.journal.check()
			}
			s.set(func() { s.commit = "" })
			s.works(t, ctx, m.db)
			return err
		})
		must(t, s.DB.Close()) // and not at the end of all
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

type model struct {
	t       *testing.T
	s       *server
	db      *asynciosql.DB
	random  *rand.Rand
	journal *journal
	keys    int
	stops   []func() // of the tasks
	left    int      // tasks that are not done
	over    chan struct{}
}

// run starts tasks and acts on what they wait for, until all are done.
func (m *model) run(ctx context.Context) error {
	m.over = make(chan struct{}, 1000)
	for range 8 {
		steps := 1 + m.random.IntN(4)
		m.start(ctx, func(ctx context.Context) error {
			for range steps {
				if err := m.step(ctx); err != nil {
					return err
				}
			}
			return nil
		})
	}
	done, entered, goes := asyncio.OnRecv(m.over), asyncio.OnRecv(m.s.entered), asyncio.OnSend(m.s.goOn, struct{}{})
	for m.left > 0 {
		won, err := asyncio.Select(ctx, done, entered, goes)
		switch {
		case err != nil:
			return err
		case won == done:
			m.left--
		case won == entered:
			for range m.random.IntN(4) { // somebody is stopped, perhaps the one that waits
				if m.random.IntN(3) == 0 {
					m.stops[m.random.IntN(len(m.stops))]()
				}
				if m.random.IntN(2) == 0 {
					if err := asyncio.Sleep(ctx, 0); err != nil {
						return err
					}
				}
			}
		}
	}
	return nil
}

// start runs fn in a task that may be stopped.
func (m *model) start(ctx context.Context, fn func(ctx context.Context) error) {
	task, stop := stops[m.random.IntN(len(stops))].run(ctx, fn)
	m.left++
	m.stops = append(m.stops, stop)
	task.AddDoneCallback(func(task *aTask) {
		m.over <- struct{}{}
		if task.Exception() == nil {
			return
		}
		for _, expected := range []error{asyncio.ErrCancelled, errStopped, errFake, driver.ErrBadConn, sql.ErrConnDone, asyncio.ErrBusy} {
			if errors.Is(task.Exception(), expected) {
				return
			}
		}
		m.t.Error(task.Exception())
	})
}

// words returns what happens to a statement.
func (m *model) words() string {
	return []string{"", "", "wait", "wait", "after", "late", "fail", "wait fail", "bad"}[m.random.IntN(9)]
}

func (m *model) key() string { m.keys++; return fmt.Sprint("k", m.keys) }

// step does one thing with the database.
func (m *model) step(ctx context.Context) error {
	switch m.random.IntN(7) {
	case 0:
		key := m.key()
		_, err := m.db.Exec(ctx, m.words()+" set "+key+" 1")
		m.journal.told[key] = err
		return err
	case 1:
		n, most := 0, 1+m.random.IntN(60)
		for _, err := range m.db.Query(ctx, fmt.Sprintf("%s rows 50 %s 20", m.words(), m.words())) {
			if err != nil {
				return err
			}
			if n++; n == most {
				break
			}
		}
		return nil
	case 2:
		return m.db.OnConn(ctx, func(ctx context.Context, c *asynciosql.Conn) error {
			if _, err := c.Exec(ctx, m.words()+" let x"); err != nil {
				return err
			}
			return m.transaction(ctx, c.InTx)
		})
	case 3:
		key := m.key()
		stmt, err := m.db.Prepare(ctx, m.words()+" set "+key+" 1")
		if err != nil {
			return err
		}
		defer func() { must(m.t, stmt.Close(ctx)) }()
		_, m.journal.told[key] = stmt.Exec(ctx)
		return m.journal.told[key]
	case 4: // leaves a task behind
		return m.db.OnConn(ctx, func(ctx context.Context, c *asynciosql.Conn) error {
			m.start(ctx, func(ctx context.Context) error {
				if m.random.IntN(2) == 0 {
					_, err := c.Prepare(ctx, m.words()+" get a")
					return err
				}
				return m.transaction(ctx, c.InTx)
			})
			for range m.random.IntN(6) {
				if err := asyncio.Sleep(ctx, 0); err != nil {
					return err
				}
			}
			return nil
		})
	default:
		return m.transaction(ctx, m.db.InTx)
	}
}

func (m *model) transaction(ctx context.Context, inTx func(ctx context.Context, opts *sql.TxOptions, body func(ctx context.Context, tx *asynciosql.Tx) error) error) error {
	keys := []string{m.key(), m.key()}
	m.s.set(func() { m.s.commit = m.words() })
	err := inTx(ctx, &sql.TxOptions{ReadOnly: m.random.IntN(4) == 0}, func(ctx context.Context, tx *asynciosql.Tx) error {
		for _, key := range keys {
			if _, err := tx.Exec(ctx, m.words()+" set "+key+" 1"); err != nil && (errors.Is(err, asyncio.ErrCancelled) || m.random.IntN(2) == 0) {
				return err
			}
			switch m.random.IntN(4) {
			case 0:
				if err := asyncio.Sleep(ctx, 0); err != nil {
					return err
				}
			case 1:
				n, most := 0, 1+m.random.IntN(60)
				for _, err := range tx.Query(ctx, fmt.Sprintf("rows 50 %s 20", m.words())) {
					if err != nil {
						return err
					}
					if n++; n == most {
						break
					}
				}
			}
		}
		return nil
	})
	for _, key := range keys {
		if err != nil { // with nil, a statement may still have failed
			m.journal.told[key] = err
		}
	}
	return err
}
