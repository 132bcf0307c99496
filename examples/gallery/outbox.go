package gallery

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/goasyncio/asyncio"
)

// A shop keeps orders and tells a broker of each. The mistake is to do the two one after the other:
// a crash in between leaves an order of which nobody else will ever hear. Instead, the order and
// the intent to tell are one write, and a relay carries out what is in the outbox.
//
// Kleppmann, "Using logs to build a solid data infrastructure (or: why dual writes are a bad
// idea)", https://martin.kleppmann.com/2015/05/27/logs-for-data-infrastructure.html
type shop struct {
	mistake bool
	orders  []string
	outbox  []string // orders that the broker may not know
	filled  asyncio.Event
}

func (p *shop) run(ctx context.Context) error {
	text, err := load(ctx, "shop")
	if err != nil {
		return err
	}
	orders, outbox, _ := strings.Cut(text, "/")
	p.orders, p.outbox = strings.Fields(orders), strings.Fields(outbox)
	p.filled.Set()
	return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
		tg.CreateTask(ctx, p.relay, asyncio.TaskName("relay"))
		return serve(ctx, inTurn(p.take))
	})
}

func (p *shop) save(ctx context.Context) error {
	return save(ctx, "shop", strings.Join(p.orders, " ")+"/"+strings.Join(p.outbox, " "))
}

// take takes an order, and one that is there already again.
func (p *shop) take(ctx context.Context, order string) (string, error) {
	if slices.Contains(p.orders, order) {
		return "taken", nil
	}
	p.orders = append(p.orders, order)
	if !p.mistake {
		p.outbox = append(p.outbox, order)
	}
	if err := p.save(ctx); err != nil {
		return "", err
	}
	p.filled.Set()
	if p.mistake {
		// BUG: the order is saved, and only this knows that the broker is not told yet
		_, err := persist(ctx, "broker", order)
		return "taken", err
	}
	return "taken", nil
}

// relay empties the outbox.
func (p *shop) relay(ctx context.Context) error {
	for {
		if err := p.filled.Wait(ctx); err != nil {
			return err
		}
		p.filled.Clear()
		for len(p.outbox) > 0 {
			if _, err := persist(ctx, "broker", p.outbox[0]); err != nil {
				return err
			}
			p.outbox = p.outbox[1:] // the next order, or the next start, saves that
		}
	}
}

// dualWrite is a shop, a broker, and a client that orders. In the end the broker must know each
// order that the client was told of.
func dualWrite(mistake bool) program {
	return staged(func(ctx context.Context, s *stage) error {
		known := make(map[string]bool)
		var taken []string
		s.server("broker", func(ctx context.Context) error {
			return serve(ctx, func(_ context.Context, order string) (string, error) {
				known[order] = true
				return "known", nil
			})
		})
		s.server("shop", func(ctx context.Context) error { return (&shop{mistake: mistake}).run(ctx) })
		s.after = func(context.Context) error {
			for _, order := range taken {
				if !known[order] {
					return fmt.Errorf("%s was taken, and the broker was never told", order)
				}
			}
			return nil
		}
		for n := range 10 {
			order := fmt.Sprint("order", n)
			if _, err := persist(ctx, "shop", order); err != nil {
				return err
			}
			taken = append(taken, order)
			if err := asyncio.Sleep(ctx, think); err != nil {
				return err
			}
		}
		return nil
	})
}
