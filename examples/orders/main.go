// Orders is a service of two programs that speak HTTP and JSON, on tasks: orders takes orders, and
// has them paid by payments. README.md says how to run it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/goasyncio/asyncio"
)

func main() {
	var level slog.LevelVar
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: &level}))
	program, err := parse(os.Args[1:], log, &level)
	if err == nil {
		_, err = asyncio.Run(context.Background(), asyncio.Do(program), asyncio.HandleSignals(syscall.SIGTERM))
	}
	var sig *asyncio.SignalError
	switch {
	case err == nil, errors.As(err, &sig), errors.Is(err, asyncio.ErrKeyboardInterrupt), errors.Is(err, flag.ErrHelp):
		return // it was asked to end, and has ended
	}
	fmt.Fprintln(os.Stderr, "orders:", err)
	os.Exit(1)
}

// parse returns the program that the command line asks for: what asyncio.Run gets in production,
// and a simulated host in tests.
func parse(args []string, log *slog.Logger, level *slog.LevelVar) (func(ctx context.Context) error, error) {
	var name string
	if len(args) > 0 {
		name, args = args[0], args[1:]
	}
	c := config{log: log}
	flags := flag.NewFlagSet("orders "+name, flag.ContinueOnError)
	flags.StringVar(&c.addr, "addr", "", "the `address` to listen at, HOST:PORT")
	flags.StringVar(&c.dir, "dir", "", "the `directory` for what must survive; each program needs one of its own")
	verbose := flags.Bool("v", false, "log each request")
	flags.BoolVar(&c.dropOnShutdown, "drop-on-shutdown", false, "BROKEN: end at once, without answering the requests that are being handled")
	var program func(ctx context.Context) error
	switch name {
	case "orders":
		var oc ordersConfig
		flags.StringVar(&oc.payments, "payments", "", "the `URL` of payments")
		flags.DurationVar(&oc.attempt, "attempt", 2*time.Second, "the `time` that a request to payments may take")
		flags.DurationVar(&oc.drain, "drain", 5*time.Second, "the `time` that a shutdown waits for the outbox to be empty")
		flags.BoolVar(&oc.chargeWithoutKey, "charge-without-key", false, "BROKEN: send requests to payments without an Idempotency-Key")
		flags.BoolVar(&oc.markBeforeSend, "mark-before-send", false, "BROKEN: remove an entry from the outbox before payments has answered")
		program = func(ctx context.Context) error {
			oc.payments = strings.TrimSuffix(oc.payments, "/")
			return runOrders(ctx, c, oc)
		}
	case "payments":
		limit := flags.Int("limit", 1_000_000, "the largest payment, in `cents`; a larger one is declined")
		program = func(ctx context.Context) error { return runPayments(ctx, c, *limit) }
	default:
		return nil, fmt.Errorf("%q is neither orders nor payments; orders -h and payments -h list the flags", name)
	}
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	if flags.NArg() > 0 {
		return nil, fmt.Errorf("what is %q? The program has flags only", flags.Arg(0))
	}
	for _, required := range []string{"addr", "dir", "payments"} {
		if f := flags.Lookup(required); f != nil && f.Value.String() == "" {
			return nil, fmt.Errorf("%s needs -%s", name, required)
		}
	}
	if f := flags.Lookup("payments"); f != nil {
		if u, err := url.Parse(f.Value.String()); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return nil, fmt.Errorf("-payments needs a URL such as http://127.0.0.1:8081, and %q is none", f.Value)
		}
	}
	if *verbose {
		level.Set(slog.LevelDebug)
	}
	return program, nil
}
