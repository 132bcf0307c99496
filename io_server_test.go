package asyncio_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

// shout is a handler that answers each line in capitals.
func shout(ctx context.Context, r *asyncio.StreamReader, w *asyncio.StreamWriter) error {
	for line, err := range r.Lines(ctx) {
		if err != nil {
			return err
		}
		if _, err := w.Write(ctx, []byte(strings.ToUpper(string(line)))); err != nil {
			return err
		}
	}
	return nil
}

// ask sends a line to a server and returns the answer.
func ask(ctx context.Context, r *asyncio.StreamReader, w *asyncio.StreamWriter, line string) (string, error) {
	if _, err := w.Write(ctx, []byte(line+"\n")); err != nil {
		return "", err
	}
	answer, err := r.ReadLine(ctx)
	return strings.TrimSuffix(string(answer), "\n"), err
}

func TestServer(t *testing.T) {
	onSockets(t, func(t *testing.T, ctx context.Context) error {
		s, err := asyncio.StartServer(ctx, shout, "127.0.0.1:0")
		if err != nil {
			return err
		}
		if !s.IsServing() || len(s.Addrs()) != 1 {
			t.Errorf("serving: %v at %v", s.IsServing(), s.Addrs())
		}
		r, w, err := asyncio.OpenConnection(ctx, s.Addrs()[0].String())
		if err != nil {
			return err
		}
		for _, line := range []string{"hello", "", "again"} {
			if got, err := ask(ctx, r, w, line); got != strings.ToUpper(line) || err != nil {
				t.Errorf("%q, %v", got, err)
			}
		}
		if s.Clients() != 1 {
			t.Errorf("%d clients", s.Clients())
		}
		// Closing the server leaves the client connected. The server is over when the client has
		// gone (server 3).
		s.Close()
		s.Close()
		if s.IsServing() || len(s.Addrs()) != 0 {
			t.Error("closed, and serving")
		}
		over := start(ctx, s.WaitClosed)
		if got, err := ask(ctx, r, w, "still"); got != "STILL" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
		if over.Done() {
			t.Error("WaitClosed did not wait for the client")
		}
		if err := w.Close(ctx); err != nil {
			t.Error(err)
		}
		if err := ended(ctx, over); err != nil {
			t.Error(err)
		}
		if err := s.StartServing(ctx); !errors.Is(err, asyncio.ErrInvalidState) {
			t.Errorf("StartServing after Close: %v", err)
		}
		if err := s.Serve(ctx); !errors.Is(err, asyncio.ErrInvalidState) {
			t.Errorf("Serve after Close: %v", err)
		}
		return nil
	})
}

func TestServer_Unix(t *testing.T) {
	if runtime.GOOS == "windows" {
		return // the path of a temporary directory may be too long there
	}
	onSystem(t, func(t *testing.T, ctx context.Context) error {
		path := filepath.Join(t.TempDir(), "s")
		s, err := asyncio.StartUnixServer(ctx, shout, path)
		if err != nil {
			return err
		}
		r, w, err := asyncio.OpenUnixConnection(ctx, path)
		if err != nil {
			return err
		}
		if got, err := ask(ctx, r, w, "hello"); got != "HELLO" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
		w.CloseSoon()
		// Another server takes the path over. Its file is left alone.
		other, err := asyncio.StartUnixServer(ctx, shout, path)
		if err != nil {
			return err
		}
		s.Close()
		if _, err := os.Stat(path); err != nil {
			t.Errorf("the file of another server: %v", err)
		}
		other.Close()
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("its own file: %v", err)
		}
		return errors.Join(s.WaitClosed(ctx), other.WaitClosed(ctx))
	})
}

// A failure with one client is reported, and affects only that client (server 2). A client whose
// handler returns is closed (server 1).
func TestServer_HandlerFails(t *testing.T) {
	onSockets(t, func(t *testing.T, ctx context.Context) error {
		l := loop(t, ctx)
		var r reports
		address := ""
		handler := l.GetExceptionHandler()
		l.SetExceptionHandler(r.handle)
		defer l.SetExceptionHandler(handler)
		s, err := asyncio.StartServer(ctx, func(ctx context.Context, r *asyncio.StreamReader, w *asyncio.StreamWriter) error {
			line, err := r.ReadLine(ctx)
			if err != nil {
				return err
			}
			switch string(line) {
			case "fail\n":
				return errors.New("it failed")
			case "panic\n":
				panic("it panicked")
			}
			_, err = w.Write(ctx, line)
			return err
		}, "127.0.0.1:0")
		if err != nil {
			return err
		}
		for _, line := range []string{"fail", "panic", "fine", ""} {
			r, w, err := asyncio.OpenConnection(ctx, s.Addrs()[0].String())
			if err != nil {
				return err
			}
			address = cmp.Or(address, w.LocalAddr().String())
			if line == "" { // a client that leaves is nothing to report
				if err := w.Close(ctx); err != nil {
					return err
				}
				continue
			}
			got, err := ask(ctx, r, w, line)
			if line == "fine" != (got == "fine") {
				t.Errorf("%s: %q, %v", line, got, err)
			}
			if _, err := r.Read(ctx, 1); err != io.EOF {
				t.Errorf("%s: %v, want the end", line, err)
			}
			if err := w.Close(ctx); err != nil {
				t.Error(err)
			}
		}
		if err := s.Shutdown(ctx); err != nil {
			return err
		}
		equal(t, "reports", r.messages(), []string{"Unhandled exception in client_connected_cb", "panic in task"})
		if got := r.all[0].Conn; got == nil || got.RemoteAddr().String() != address {
			t.Errorf("reported of %v, want %v", got, address)
		}
		if got := r.all[0].Task.String(); !strings.Contains(got, "coro=<asyncio_test.TestServer_HandlerFails.") {
			t.Errorf("reported of %v, want the handler's name", got)
		}
		return nil
	})
}

// A handler may panic, or be cancelled before it begins. Its connection is closed, whichever stack
// its end is noticed on, even where debug mode checks who closes it.
func TestServer_ClosesForTheHandler(t *testing.T) {
	onSockets(t, func(t *testing.T, ctx context.Context) error {
		l := loop(t, ctx)
		l.SetDebug(true)
		settle(t, ctx)
		handler := l.GetExceptionHandler()
		l.SetExceptionHandler(func(*asyncio.EventLoop, asyncio.ExceptionContext) {})
		defer l.SetExceptionHandler(handler)
		s, err := asyncio.StartServer(ctx, func(ctx context.Context, r *asyncio.StreamReader, w *asyncio.StreamWriter) error {
			if _, err := r.ReadLine(ctx); err != nil {
				return err
			}
			panic("it panicked")
		}, "127.0.0.1:0")
		if err != nil {
			return err
		}
		err = asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
			for range 20 {
				tg.CreateTask(ctx, func(ctx context.Context) error {
					r, w, err := asyncio.OpenConnection(ctx, s.Addrs()[0].String())
					if err != nil {
						return err
					}
					if _, err := ask(ctx, r, w, "x"); err != io.EOF {
						t.Errorf("%v, want the end", err)
					}
					return w.Close(ctx)
				})
			}
			return nil
		})
		return errors.Join(err, s.Shutdown(ctx))
	})
}

func TestServer_Serve(t *testing.T) {
	onSockets(t, func(t *testing.T, ctx context.Context) error {
		// Serve returns when the server is closed.
		s, err := asyncio.StartServer(ctx, shout, "127.0.0.1:0")
		if err != nil {
			return err
		}
		serving := start(ctx, s.Serve)
		settle(t, ctx)
		if err := s.Serve(ctx); !errors.Is(err, asyncio.ErrBusy) {
			t.Errorf("a second Serve: %v", err)
		}
		s.Close()
		if err := ended(ctx, serving); err != nil {
			t.Errorf("closed: %v", err)
		}
		// Serve also returns when it is cancelled, after it has waited for the handlers.
		ln, err := asyncio.Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		s = asyncio.NewServer(ctx, []*asyncio.Listener{ln}, shout)
		if s.IsServing() {
			t.Error("serving before Serve")
		}
		serving = start(ctx, s.Serve)
		r, w, err := asyncio.OpenConnection(ctx, ln.Addr().String())
		if err != nil {
			return err
		}
		if got, err := ask(ctx, r, w, "hello"); got != "HELLO" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
		serving.Cancel()
		settle(t, ctx)
		if serving.Done() || s.IsServing() {
			t.Error("Serve did not wait for the handler, or went on")
		}
		w.CloseSoon()
		if err := ended(ctx, serving); !errors.Is(err, asyncio.ErrCancelled) {
			t.Errorf("cancelled: %v", err)
		}
		return nil
	})
}

func TestServer_Shutdown(t *testing.T) {
	onSockets(t, func(t *testing.T, ctx context.Context) error {
		for name, end := range map[string]func(context.Context, *asyncio.Server) error{
			"close clients": func(ctx context.Context, s *asyncio.Server) error {
				s.CloseClients()
				return s.Shutdown(ctx)
			},
			"abort clients": func(ctx context.Context, s *asyncio.Server) error {
				s.AbortClients()
				return s.Shutdown(ctx)
			},
			"context": func(ctx context.Context, s *asyncio.Server) error {
				short, cancel := asyncio.WithTimeout(ctx, time.Millisecond)
				defer cancel()
				if err := s.Shutdown(short); !errors.Is(err, context.DeadlineExceeded) {
					return errors.Join(errors.New("Shutdown was not in time"), err)
				}
				return nil
			},
			"cancel": func(ctx context.Context, s *asyncio.Server) error {
				down := start(ctx, s.Shutdown)
				settle(t, ctx)
				down.Cancel()
				if err := ended(ctx, down); !errors.Is(err, asyncio.ErrCancelled) {
					return errors.Join(errors.New("Shutdown was not cancelled"), err)
				}
				return nil
			},
		} {
			stuck := 0
			s, err := asyncio.StartServer(ctx, func(ctx context.Context, r *asyncio.StreamReader, w *asyncio.StreamWriter) error {
				stuck++
				defer func() { stuck-- }()
				_, err := w.Write(ctx, []byte("hello\n"))
				if err == nil {
					_, err = r.ReadLine(ctx)
				}
				if errors.Is(err, net.ErrClosed) {
					return nil
				}
				return err
			}, "127.0.0.1:0")
			if err != nil {
				return err
			}
			var clients []*asyncio.StreamWriter
			for range 3 {
				r, w, err := asyncio.OpenConnection(ctx, s.Addrs()[0].String())
				if err != nil {
					return err
				}
				if _, err := r.ReadLine(ctx); err != nil {
					return err
				}
				clients = append(clients, w)
			}
			if stuck != 3 {
				t.Fatalf("%d handlers", stuck)
			}
			if err := end(ctx, s); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if stuck != 0 || s.Clients() != 0 || s.IsServing() {
				t.Errorf("%s: %d handlers and %d clients are left", name, stuck, s.Clients())
			}
			for _, w := range clients {
				w.Abort()
			}
		}
		return nil
	})
}

// When a server has ended, none of its tasks is left (server 3). The accepting task has ended too,
// however the server was closed and whatever that task was doing.
func TestServer_EndsWithItsTasks(t *testing.T) {
	onSockets(t, func(t *testing.T, ctx context.Context) error {
		for name, end := range map[string]func(context.Context, *asyncio.Server) error{
			"shutdown": func(ctx context.Context, s *asyncio.Server) error { return s.Shutdown(ctx) },
			"closed": func(ctx context.Context, s *asyncio.Server) error {
				s.Close()
				return s.WaitClosed(ctx)
			},
			"serve cancelled": func(ctx context.Context, s *asyncio.Server) error {
				serving := start(ctx, s.Serve)
				settle(t, ctx)
				serving.Cancel()
				if err := ended(ctx, serving); !errors.Is(err, asyncio.ErrCancelled) {
					return errors.Join(errors.New("Serve was not cancelled"), err)
				}
				return nil
			},
			"out of time": func(ctx context.Context, s *asyncio.Server) error {
				over, cancel := asyncio.WithCancel(ctx)
				cancel()
				if err := s.Shutdown(over); !errors.Is(err, context.Canceled) {
					return errors.Join(errors.New("Shutdown was in time"), err)
				}
				return nil
			},
		} {
			for _, busy := range []bool{false, true} {
				before := len(asyncio.AllTasks(ctx))
				s, err := asyncio.StartServer(ctx, shout, "127.0.0.1:0", asyncio.MaxClients(1))
				if err != nil {
					return err
				}
				var w *asyncio.StreamWriter
				if busy { // then the task does not accept, but waits for room
					var r *asyncio.StreamReader
					if r, w, err = asyncio.OpenConnection(ctx, s.Addrs()[0].String()); err != nil {
						return err
					}
					if _, err := ask(ctx, r, w, "hello"); err != nil {
						return err
					}
					w.CloseSoon()
				}
				if err := end(ctx, s); err != nil {
					t.Errorf("%s: %v", name, err)
				}
				if left := len(asyncio.AllTasks(ctx)) - before; left != 0 {
					t.Errorf("%s, with a client: %v: %d tasks are left", name, busy, left)
				}
			}
		}
		return nil
	})
}

// A server is closed if its accepting task is cancelled, before it has begun to accept or later.
func TestServer_AcceptingCancelled(t *testing.T) {
	onSockets(t, func(t *testing.T, ctx context.Context) error {
		for iterations := 1; iterations <= 4; iterations++ {
			ln, err := asyncio.Listen(ctx, "tcp", "127.0.0.1:0")
			if err != nil {
				return err
			}
			defer ln.Close()
			before := asyncio.AllTasks(ctx)
			s := asyncio.NewServer(ctx, []*asyncio.Listener{ln}, shout)
			serving := start(ctx, s.Serve)
			for range iterations {
				must(t, asyncio.Sleep(ctx, 0))
			}
			for _, task := range asyncio.AllTasks(ctx) {
				if !slices.Contains(before, task) && task.GetName() != serving.GetName() {
					task.Cancel()
				}
			}
			if err := ended(ctx, serving); err != nil || s.IsServing() {
				t.Errorf("cancelled after %d iterations: Serve = %v, serving: %v", iterations, err, s.IsServing())
			}
			if err := s.WaitClosed(ctx); err != nil {
				t.Error(err)
			}
		}
		return nil
	})
}

// Data that a handler left to WriteSoon is sent before its connection is closed. The client counts
// until then, and Shutdown waits too (server 1).
func TestServer_WriteSoonBeforeTheHandlerReturns(t *testing.T) {
	last := bytes.Repeat([]byte("last words "), 1<<20)
	onSockets(t, func(t *testing.T, ctx context.Context) error {
		handled := 0
		s, err := asyncio.StartServer(ctx, func(ctx context.Context, r *asyncio.StreamReader, w *asyncio.StreamWriter) error {
			handled++
			return w.WriteSoon(last)
		}, "127.0.0.1:0", asyncio.MaxClients(1))
		if err != nil {
			return err
		}
		r, w, err := asyncio.OpenConnection(ctx, s.Addrs()[0].String())
		if err != nil {
			return err
		}
		defer w.CloseSoon()
		_, second, err := asyncio.OpenConnection(ctx, s.Addrs()[0].String())
		if err != nil {
			return err
		}
		defer second.CloseSoon()
		first, err := r.ReadExactly(ctx, 1)
		if err != nil {
			return err
		}
		settle(t, ctx)
		if handled != 1 || s.Clients() != 1 {
			t.Errorf("%d handlers, %d clients, want one of each while its last words wait", handled, s.Clients())
		}
		down := asyncio.CreateTask(ctx, asyncio.Do(s.Shutdown))
		rest, err := r.Read(ctx, -1)
		if got := append(first, rest...); err != nil || !bytes.Equal(got, last) {
			t.Errorf("the peer got %d bytes of %d, %v", len(got), len(last), err)
		}
		if _, err := down.Await(ctx); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		return nil
	})
}

// If the peer does not read, Shutdown waits for the handler's data only as long as its own context
// lasts (server 1).
func TestServer_WriteSoonToWhoDoesNotRead(t *testing.T) {
	onSockets(t, func(t *testing.T, ctx context.Context) error {
		s, err := asyncio.StartServer(ctx, func(ctx context.Context, r *asyncio.StreamReader, w *asyncio.StreamWriter) error {
			return w.WriteSoon(make([]byte, 16<<20))
		}, "127.0.0.1:0")
		if err != nil {
			return err
		}
		r, w, err := asyncio.OpenConnection(ctx, s.Addrs()[0].String())
		if err != nil {
			return err
		}
		defer w.CloseSoon()
		if _, err := r.ReadExactly(ctx, 1); err != nil {
			return err
		}
		limited, cancel := asyncio.WithTimeout(ctx, 20*time.Millisecond)
		defer cancel()
		if err := s.Shutdown(limited); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Shutdown: %v", err)
		}
		if n := s.Clients(); n != 0 {
			t.Errorf("%d clients are left", n)
		}
		return nil
	})
}

// After the server has closed a handler's connection, the handler may return that error without
// being reported. Any other error is reported.
func TestServer_CloseClientsIsNoFailure(t *testing.T) {
	others := errors.New("something else")
	read := func(ctx context.Context, r *asyncio.StreamReader) error {
		_, err := r.ReadLine(ctx)
		return err
	}
	handlers := []struct {
		name     string
		reported bool
		handle   asyncio.Handler
	}{
		{"returns it", false, func(ctx context.Context, r *asyncio.StreamReader, w *asyncio.StreamWriter) error { return read(ctx, r) }},
		{"wraps it", false, func(ctx context.Context, r *asyncio.StreamReader, w *asyncio.StreamWriter) error {
			return fmt.Errorf("reading the request: %w", read(ctx, r))
		}},
		{"writes", false, func(ctx context.Context, r *asyncio.StreamReader, w *asyncio.StreamWriter) error {
			_ = read(ctx, r)
			_, err := w.Write(ctx, []byte("x"))
			return err
		}},
		{"in a group", false, func(ctx context.Context, r *asyncio.StreamReader, w *asyncio.StreamWriter) error {
			return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
				tg.CreateTask(ctx, func(ctx context.Context) error { return read(ctx, r) })
				return nil
			})
		}},
		{"in a group with another failure", true, func(ctx context.Context, r *asyncio.StreamReader, w *asyncio.StreamWriter) error {
			return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
				tg.CreateTask(ctx, func(ctx context.Context) error { return errors.Join(read(ctx, r)) })
				tg.CreateTask(ctx, func(ctx context.Context) error {
					if err := asyncio.Sleep(ctx, time.Hour); err != nil {
						return others
					}
					return nil
				})
				return nil
			})
		}},
		{"fails otherwise", true, func(ctx context.Context, r *asyncio.StreamReader, w *asyncio.StreamWriter) error {
			_ = read(ctx, r)
			return others
		}},
	}
	onSockets(t, func(t *testing.T, ctx context.Context) error {
		l := loop(t, ctx)
		handler := l.GetExceptionHandler()
		defer l.SetExceptionHandler(handler)
		for _, c := range handlers {
			for name, end := range map[string]func(*asyncio.Server){
				"CloseClients":          (*asyncio.Server).CloseClients,
				"AbortClients":          (*asyncio.Server).AbortClients,
				"closed by the handler": func(*asyncio.Server) {},
			} {
				var got reports
				l.SetExceptionHandler(got.handle)
				s, err := asyncio.StartServer(ctx, func(ctx context.Context, r *asyncio.StreamReader, w *asyncio.StreamWriter) error {
					if _, err := w.Write(ctx, []byte("x")); err != nil {
						return err
					}
					if name == "closed by the handler" { // closing it is the handler's own mistake
						w.CloseSoon()
					}
					return c.handle(ctx, r, w)
				}, "127.0.0.1:0")
				if err != nil {
					return err
				}
				r, w, err := asyncio.OpenConnection(ctx, s.Addrs()[0].String())
				if err != nil {
					return err
				}
				if _, err := r.ReadExactly(ctx, 1); err != nil {
					return err
				}
				end(s)
				if err := s.Shutdown(ctx); err != nil {
					return err
				}
				w.Abort()
				if n, want := len(got.all), c.reported || name == "closed by the handler"; n > 1 || (n == 1) != want {
					t.Errorf("%s, %s: reported %v", c.name, name, got.messages())
				}
			}
		}
		return nil
	})
}

// A server that nobody closes ends with its program, and so do its handlers.
func TestServer_EndsWithRun(t *testing.T) {
	unwound := 0
	onSockets(t, func(t *testing.T, ctx context.Context) error {
		s, err := asyncio.StartServer(ctx, func(ctx context.Context, r *asyncio.StreamReader, w *asyncio.StreamWriter) error {
			defer func() { unwound++ }()
			return shout(ctx, r, w)
		}, "127.0.0.1:0")
		if err != nil {
			return err
		}
		r, w, err := asyncio.OpenConnection(ctx, s.Addrs()[0].String())
		if err != nil {
			return err
		}
		_, err = ask(ctx, r, w, "hello")
		return err
	})
	if unwound != 3 {
		t.Errorf("%d handlers ended, want 3", unwound)
	}
}
