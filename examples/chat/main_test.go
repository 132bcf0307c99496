package main

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

// A person is a client.
type person struct {
	t *testing.T
	r *asyncio.StreamReader
	w *asyncio.StreamWriter
}

func arrive(t *testing.T, ctx context.Context, address string) *person {
	r, w, err := asyncio.OpenConnection(ctx, address)
	if err != nil {
		t.Fatal(err)
	}
	return &person{t, r, w}
}

func (p *person) says(ctx context.Context, line string) {
	if _, err := p.w.Write(ctx, []byte(line+"\r\n")); err != nil {
		p.t.Errorf("saying %q: %v", line, err)
	}
}

func (p *person) reads(ctx context.Context, want ...string) {
	p.t.Helper()
	for _, want := range want {
		line, err := p.r.ReadLine(ctx)
		if string(line) != want+"\n" || err != nil {
			p.t.Errorf("read %q, %v; want %q", line, err, want)
		}
	}
}

// chatting runs body against a running server.
func chatting(t *testing.T, body func(ctx context.Context, address string) error) {
	t.Helper()
	_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
		return asyncio.Timeout(ctx, time.Minute, func(ctx context.Context, _ *asyncio.TimeoutScope) error {
			address := asyncio.CreateFuture[string](ctx)
			server := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
				return run(ctx, "127.0.0.1:0", func(a string) { _ = address.SetResult(a) })
			}))
			a, err := address.Await(ctx)
			if err != nil {
				return err
			}
			if err := body(ctx, a); err != nil {
				return err
			}
			server.Cancel()
			if _, err := server.Await(ctx); !errors.Is(err, asyncio.ErrCancelled) {
				t.Errorf("the server: %v", err)
			}
			return nil
		})
	}))
	if err != nil {
		t.Error(err)
	}
}

func TestChat(t *testing.T) {
	chatting(t, func(ctx context.Context, address string) error {
		ann := arrive(t, ctx, address)
		ann.reads(ctx, "your name?")
		ann.says(ctx, "ann")
		ann.reads(ctx, "* here are []")
		bob := arrive(t, ctx, address)
		bob.reads(ctx, "your name?")
		bob.says(ctx, "ann")
		bob.reads(ctx, "that name is taken, another one?")
		bob.says(ctx, "bob")
		bob.reads(ctx, "* here are [ann]")
		ann.reads(ctx, "* bob has come")
		ann.says(ctx, "hello")
		for _, p := range []*person{ann, bob} {
			p.reads(ctx, "ann: hello")
		}
		if err := bob.w.Close(ctx); err != nil {
			t.Error(err)
		}
		ann.reads(ctx, "* bob has left")
		return ann.w.Close(ctx)
	})
}

// Everybody reads the same lines in the same order.
func TestChat_OneOrder(t *testing.T) {
	chatting(t, func(ctx context.Context, address string) error {
		const people, lines = 8, 10
		var all []*person
		for i := range people {
			p := arrive(t, ctx, address)
			p.reads(ctx, "your name?")
			p.says(ctx, fmt.Sprintf("p%d", i))
			if _, err := p.r.ReadLine(ctx); err != nil {
				return err
			}
			for _, before := range all {
				before.reads(ctx, fmt.Sprintf("* p%d has come", i))
			}
			all = append(all, p)
		}
		var heard []asyncio.Coroutine[string]
		for _, p := range all {
			heard = append(heard, func(ctx context.Context) (string, error) {
				got := ""
				for n := range lines {
					p.says(ctx, fmt.Sprint(n))
				}
				for range people * lines {
					line, err := p.r.ReadLine(ctx)
					if err != nil {
						return got, err
					}
					got += string(line)
				}
				return got, nil
			})
		}
		got, err := asyncio.Gather(ctx, heard...)
		for _, g := range got {
			if g != got[0] || g == "" {
				t.Errorf("one heard\n%s\nanother\n%s", g, got[0])
			}
		}
		for _, p := range all {
			p.w.Abort()
		}
		return err
	})
}
