package sim_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/sim"
)

// yielding makes tasks that do nothing but let others run.
func yielding(tasks, n int) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		var all []asyncio.AnyFuture
		for range tasks {
			all = append(all, asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error { return yield(ctx, n) })))
		}
		_, _, err := asyncio.Wait(ctx, all)
		return err
	}
}

// BenchmarkStep is the time of one step.
func BenchmarkStep(b *testing.B) {
	b.Run("no simulation", func(b *testing.B) {
		if _, err := asyncio.Run(context.Background(), asyncio.Do(yielding(4, b.N/4+1)), asyncio.HandleSIGINT(false)); err != nil {
			b.Fatal(err)
		}
	})
	for _, s := range []struct {
		name   string
		traced bool
		opts   []sim.Option
	}{
		{"in order", false, nil},
		{"traced", true, nil},
		{"Random", false, []sim.Option{sim.WithStrategy(sim.Random())}},
		{"PCT", false, []sim.Option{sim.WithStrategy(sim.PCT(3))}},
	} {
		b.Run(s.name, func(b *testing.B) {
			t := sim.Single(yielding(4, b.N/4+1), s.traced, append(s.opts, sim.StepLimit(2*b.N+1000, 2*b.N+1000)))
			b.ResetTimer()
			if err := t(); err != nil {
				b.Fatal(err)
			}
		})
	}
}

// BenchmarkSchedule is the time of one run of a small program.
func BenchmarkSchedule(b *testing.B) {
	b.Run("Random", func(b *testing.B) {
		if f := sim.Check(yielding(3, 3), sim.Runs(b.N)).Failure; f != nil {
			b.Fatal(f)
		}
	})
	b.Run("Exhaustive", func(b *testing.B) {
		if f := sim.Check(yielding(3, 3), sim.WithStrategy(sim.Exhaustive(0)), sim.Runs(b.N)).Failure; f != nil {
			b.Fatal(f)
		}
	})
}

// service is a log on three hosts: each appends what a client sends to its file, syncs it and
// answers. The client is a fourth program, main.
func service(ctx context.Context) error {
	serve := func(ctx context.Context) error {
		log, err := asyncio.OpenFile(ctx, "log", os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o666)
		if err != nil {
			return err
		}
		server, err := asyncio.StartServer(ctx, func(ctx context.Context, r *asyncio.StreamReader, w *asyncio.StreamWriter) error {
			defer func() { _ = w.Close(ctx) }()
			for {
				line, err := r.ReadUntil(ctx, []byte("\n"))
				if err != nil {
					return nil // the client has gone
				}
				if _, err := log.Write(ctx, line); err != nil {
					return err
				}
				if err := log.Sync(ctx); err != nil {
					return err
				}
				if _, err := w.Write(ctx, line); err != nil {
					return err
				}
			}
		}, ":7000")
		if err != nil {
			return err
		}
		return server.Serve(ctx)
	}
	var names []string
	for i := range 3 {
		name := fmt.Sprint("node", i)
		sim.NewHost(ctx, name, serve)
		names = append(names, name)
	}
	sim.NetworkOf(ctx).SetLink(sim.Link{MinLatency: time.Millisecond, MaxLatency: 5 * time.Millisecond})
	if err := asyncio.Sleep(ctx, time.Second); err != nil {
		return err
	}
	var clients []asyncio.AnyFuture
	for _, name := range names {
		clients = append(clients, start(ctx, "to "+name, func(ctx context.Context) error {
			r, w, err := asyncio.OpenConnection(ctx, name+":7000")
			if err != nil {
				return err
			}
			defer func() { _ = w.Close(ctx) }()
			for i := range 10 {
				if _, err := w.Write(ctx, fmt.Appendln(nil, "entry", i)); err != nil {
					return err
				}
				if _, err := r.ReadUntil(ctx, []byte("\n")); err != nil {
					return err
				}
			}
			return nil
		}))
	}
	_, _, err := asyncio.Wait(ctx, clients)
	return err
}

// BenchmarkService is the time of one run of a service: three hosts with TCP and disks.
func BenchmarkService(b *testing.B) {
	for _, c := range []struct {
		name string
		opts []sim.Option
	}{{"Random", nil}, {"Parallel", []sim.Option{sim.Parallel(0)}}} {
		b.Run(c.name, func(b *testing.B) {
			r := sim.Check(service, append(c.opts, sim.Runs(b.N+10))...)
			if r.Failure != nil {
				b.Fatal(r.Failure)
			}
			b.ReportMetric(float64(r.Steps)/float64(r.Runs), "steps/run")
		})
	}
}
