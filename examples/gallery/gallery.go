// Package gallery has known bugs of real systems, each in a small program of its kind and beside
// its corrected version ([Bugs]), and some small classics on one loop. Between two awaits nothing
// else runs, so none of them is a data race. Each is an order of events, or something that goes
// wrong at the wrong moment, that its author did not think of, and none happens in the order in
// which the program runs on a quiet machine. The tests find every one with package sim.
package gallery

import (
	"context"
	"errors"
	"time"

	"github.com/goasyncio/asyncio"
)

// roundTrip stands for a call of another service, or of a disk.
func roundTrip(ctx context.Context) error { return asyncio.Sleep(ctx, 0) }

// An Account is kept by a ledger that takes a round trip to write to.
type Account struct {
	balance int
	mu      asyncio.Lock
}

// DepositWrong loses an update: another deposit may come between the read and the write.
func (a *Account) DepositWrong(ctx context.Context, amount int) error {
	balance := a.balance
	if err := roundTrip(ctx); err != nil {
		return err
	}
	a.balance = balance + amount
	return nil
}

// Deposit holds a lock from the read to the write.
func (a *Account) Deposit(ctx context.Context, amount int) error {
	if err := a.mu.Acquire(ctx); err != nil {
		return err
	}
	defer a.mu.Release()
	return a.DepositWrong(ctx, amount)
}

// A Cache keeps one value of a database.
type Cache struct {
	stored  int // in the database
	cached  *int
	version int // of the stored value
}

// GetWrong checks, then acts on what it saw: if the value changes during the load, the loaded value
// is stale, and stays in the cache.
func (c *Cache) GetWrong(ctx context.Context) (int, error) {
	if c.cached == nil {
		v := c.stored
		if err := roundTrip(ctx); err != nil {
			return 0, err
		}
		c.cached = &v
	}
	return *c.cached, nil
}

// Get keeps the loaded value only if it is still current.
func (c *Cache) Get(ctx context.Context) (int, error) {
	for c.cached == nil {
		v, version := c.stored, c.version
		if err := roundTrip(ctx); err != nil {
			return 0, err
		}
		if version == c.version {
			c.cached = &v
		}
	}
	return *c.cached, nil
}

// Set changes the database and invalidates the cache.
func (c *Cache) Set(v int) {
	c.stored, c.cached = v, nil
	c.version++
}

// A Pool lends connections.
type Pool struct{ free *asyncio.Semaphore }

// UseWrong loses a permit for ever if it is cancelled while it connects.
func (p *Pool) UseWrong(ctx context.Context) error {
	if err := p.free.Acquire(ctx); err != nil {
		return err
	}
	if err := roundTrip(ctx); err != nil { // to connect
		return err
	}
	defer p.free.Release()
	return roundTrip(ctx)
}

// Use gives the permit back whatever happens.
func (p *Pool) Use(ctx context.Context) error {
	if err := p.free.Acquire(ctx); err != nil {
		return err
	}
	defer p.free.Release()
	if err := roundTrip(ctx); err != nil { // to connect
		return err
	}
	return roundTrip(ctx)
}

// A Bank takes payments over a network that is slow at times.
type Bank struct {
	paid map[string]int // by key
	keys int
}

// call books a payment, and answers later.
func (b *Bank) call(ctx context.Context, key string, amount int) error {
	if _, known := b.paid[key]; !known {
		b.paid[key] = amount
	}
	latency := time.Duration(asyncio.Rand(ctx).IntN(1050)) * time.Millisecond
	return asyncio.Sleep(ctx, latency)
}

// newKey names a payment.
func (b *Bank) newKey() string {
	b.keys++
	return string(rune('a' + b.keys))
}

// payTimeout is the time after which a payment is tried again.
const payTimeout = time.Second

// PayWrong pays twice if the answer is late: to the bank the second try is another payment.
func (b *Bank) PayWrong(ctx context.Context, amount int) error {
	for {
		err := asyncio.FailAfter(ctx, payTimeout, func(ctx context.Context) error { return b.call(ctx, b.newKey(), amount) })
		if !errors.Is(err, asyncio.ErrTimeout) {
			return err
		}
	}
}

// Pay names the payment once, so the bank recognises a second try as the same payment.
func (b *Bank) Pay(ctx context.Context, amount int) error {
	key := b.newKey()
	for {
		err := asyncio.FailAfter(ctx, payTimeout, func(ctx context.Context) error { return b.call(ctx, key, amount) })
		if !errors.Is(err, asyncio.ErrTimeout) {
			return err
		}
	}
}

// A Mailer sends the mails in its queue, until it is closed.
type Mailer struct {
	queue  *asyncio.Queue[string]
	closed bool
	sent   []string
}

// RunWrong drops mails put just before the mailer was closed: it looks at closed first.
func (m *Mailer) RunWrong(ctx context.Context) error {
	for {
		mail, err := m.queue.Get(ctx)
		if err != nil {
			return err
		}
		if m.closed {
			return nil
		}
		m.sent = append(m.sent, mail)
		m.queue.TaskDone()
	}
}

// CloseWrong sets the flag, and wakes RunWrong.
func (m *Mailer) CloseWrong(ctx context.Context) error {
	m.closed = true
	return m.queue.Put(ctx, "")
}

// Run ends when the queue is shut down and empty.
func (m *Mailer) Run(ctx context.Context) error {
	for mail, err := range m.queue.All(ctx) {
		if err != nil {
			return err
		}
		m.sent = append(m.sent, mail)
	}
	return nil
}

// Close shuts the queue down behind the mails in it.
func (m *Mailer) Close() { m.queue.Shutdown(false) }

// TransferWrong moves an amount between two accounts and takes their locks in the order of the
// arguments: two transfers in opposite directions wait for each other.
func TransferWrong(ctx context.Context, from, to *Account, amount int) error {
	return transfer(ctx, from, to, from, to, amount)
}

// Transfer takes the locks in the same order in every transfer: first before second, wherever the
// money goes.
func Transfer(ctx context.Context, first, second, from, to *Account, amount int) error {
	return transfer(ctx, first, second, from, to, amount)
}

func transfer(ctx context.Context, first, second, from, to *Account, amount int) error {
	if err := first.mu.Acquire(ctx); err != nil {
		return err
	}
	defer first.mu.Release()
	if err := roundTrip(ctx); err != nil {
		return err
	}
	if err := second.mu.Acquire(ctx); err != nil {
		return err
	}
	defer second.mu.Release()
	from.balance -= amount
	to.balance += amount
	return nil
}
