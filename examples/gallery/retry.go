package gallery

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/goasyncio/asyncio"
)

// retryUnnamed is a counter and a client that adds to it, and tries again when no answer comes. The
// mistake is that a second try looks like a second addition: what was lost may have been the answer
// alone. With a name for each addition the counter knows those that it has made.
//
// jetcd did that with transactions: https://jepsen.io/analyses/jetcd-0.8.2
func retryUnnamed(mistake bool) program {
	return staged(func(ctx context.Context, s *stage) error {
		s.server("counter", func(ctx context.Context) error {
			text, err := load(ctx, "counter")
			if err != nil {
				return err
			}
			made := strings.Fields(text) // the names of additions
			return serve(ctx, inTurn(func(ctx context.Context, request string) (string, error) {
				name, add := strings.CutPrefix(request, "add ")
				// BUG: it may be the second try
				if add && (mistake || !slices.Contains(made, name)) {
					made = append(made, name)
					if err := save(ctx, "counter", strings.Join(made, " ")); err != nil {
						return "", err
					}
				}
				return strconv.Itoa(len(made)), nil
			}))
		})
		for n := range 12 {
			answer, err := persist(ctx, "counter", fmt.Sprint("add ", n))
			if err != nil {
				return err
			}
			if answer != strconv.Itoa(n+1) {
				return fmt.Errorf("after %d additions the counter is at %s", n+1, answer)
			}
			if err := asyncio.Sleep(ctx, think); err != nil {
				return err
			}
		}
		return nil
	})
}
