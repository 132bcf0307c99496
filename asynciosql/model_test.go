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
}

// run starts tasks and acts on what they wait for, until all are done.
func (m *model) run(ctx context.Context) error {
	const tasks = 8
	left := tasks
	over := make(chan struct{}, tasks)
	for range tasks {
		by := stops[m.random.IntN(len(stops))]
		steps := 1 + m.random.IntN(4)
		task, stop := by.run(ctx, func(ctx context.Context) error {
			for range steps {
				if err := m.step(ctx); err != nil {
					return err
				}
			}
			return nil
		})
		task.AddDoneCallback(func(task *aTask) {
			over <- struct{}{}
			if err := task.Exception(); err != nil && !errors.Is(err, asyncio.ErrCancelled) && !errors.Is(err, errStopped) && !errors.Is(err, errFake) && !errors.Is(err, driver.ErrBadConn) {
				m.t.Error(err)
			}
		})
		m.stops = append(m.stops, stop)
	}
	done, entered, goes := asyncio.OnRecv(over), asyncio.OnRecv(m.s.entered), asyncio.OnSend(m.s.goOn, struct{}{})
	for left > 0 {
		won, err := asyncio.Select(ctx, done, entered, goes)
		switch {
		case err != nil:
			return err
		case won == done:
			left--
		case won == entered:
			for range m.random.IntN(4) { // somebody is stopped, perhaps the one that waits
				if m.random.IntN(3) == 0 {
					m.stops[m.random.IntN(tasks)]()
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

// words returns what happens to a statement.
func (m *model) words() string {
	return []string{"", "", "wait", "wait", "after", "late", "fail", "wait fail", "bad"}[m.random.IntN(9)]
}

func (m *model) key() string { m.keys++; return fmt.Sprint("k", m.keys) }

// step does one thing with the database.
func (m *model) step(ctx context.Context) error {
	switch m.random.IntN(5) {
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
			if m.random.IntN(3) == 0 {
				if err := asyncio.Sleep(ctx, 0); err != nil {
					return err
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
