//go:build unix

package interop

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	gorilla "github.com/gorilla/websocket"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciohttp"
	"github.com/goasyncio/asyncio/internal/leaktest"
)

// A soak is a Server and a server of net/http, and what is asked of them for a long time.
type soak struct {
	plain, secure, other string // the URLs: HTTP/1.1 and h2c, the same with TLS, net/http's server

	h1, h2c, h2 *http.Client // net/http's, for goroutines

	tasks, tasksH2c, tasksH2 *http.Client // with asynciohttp's Transport, for tasks
}

const (
	soakHeaders = 2 * time.Second // the limits of the Server
	soakBody    = 3 * time.Second
	soakWhole   = 4 * time.Second
	soakBig     = 32 << 20 // bytes of the answer to /big, more than systems buffer
)

// soakHandler is what both servers serve, and of asynciohttp's also what suspends.
func soakHandler() *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("/small", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "small") })
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err == nil {
			w.Write(b)
		}
	})
	part := bytes.Repeat([]byte("0123456789abcdef"), 4<<10)
	mux.HandleFunc("/big", func(w http.ResponseWriter, r *http.Request) {
		for range soakBig / len(part) {
			if _, err := w.Write(part); err != nil {
				return
			}
		}
	})
	return mux
}

// soakTasksHandler is soakHandler with what only a Server serves.
func soakTasksHandler() *http.ServeMux {
	mux := soakHandler()
	mux.HandleFunc("/wait", func(w http.ResponseWriter, r *http.Request) {
		if asyncio.Sleep(r.Context(), 5*time.Millisecond) == nil {
			io.WriteString(w, "waited")
		}
	})
	mux.HandleFunc("/websocket", func(w http.ResponseWriter, r *http.Request) {
		ws, err := new(gorilla.Upgrader).Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer ws.Close()
		for {
			kind, message, err := ws.ReadMessage()
			if err != nil || ws.WriteMessage(kind, message) != nil {
				return
			}
		}
	})
	return mux
}

// A soakLoad is asked again and again, by so many at a time. It returns an error if it did not get
// what is right.
type soakLoad struct {
	name    string
	workers int
	ask     func(ctx context.Context, s *soak) error
}

// In goroutines, most of them clients that are not this library's.
var soakGoroutines = []soakLoad{
	{"keep-alive", 3, func(ctx context.Context, s *soak) error { return soakEcho(ctx, s.h1, s.plain) }},
	{"keep-alive with TLS", 1, func(ctx context.Context, s *soak) error { return soakEcho(ctx, s.h1, s.secure) }},
	{"h2c", 3, func(ctx context.Context, s *soak) error { return soakEcho(ctx, s.h2c, s.plain) }},
	{"h2", 3, func(ctx context.Context, s *soak) error { return soakEcho(ctx, s.h2, s.secure) }},
	{"cancels", 2, func(ctx context.Context, s *soak) error { return soakCancelled(ctx, s.h1, s.plain) }},
	{"cancels with h2c", 2, func(ctx context.Context, s *soak) error { return soakCancelled(ctx, s.h2c, s.plain) }},
	{"cancels with h2", 2, func(ctx context.Context, s *soak) error { return soakCancelled(ctx, s.h2, s.secure) }},
	{"pipelining", 2, soakPipelined},
	{"slow headers", 4, soakSlowHeaders},
	{"slow bodies", 4, soakSlowBody},
	{"clients that never read", 4, soakNeverReads},
	{"requests cut short", 2, soakCutShort},
	{"WebSockets", 3, func(ctx context.Context, s *soak) error {
		return soakWebSocket(ctx, gorilla.Dialer{}, s.plain)
	}},
}

// In tasks of the server's loop.
var soakTasks = []soakLoad{
	{"Transport", 3, func(ctx context.Context, s *soak) error { return soakEcho(ctx, s.tasks, s.plain) }},
	{"Transport with TLS", 1, func(ctx context.Context, s *soak) error { return soakEcho(ctx, s.tasks, s.secure) }},
	{"Transport with h2c", 3, func(ctx context.Context, s *soak) error { return soakEcho(ctx, s.tasksH2c, s.plain) }},
	{"Transport with h2", 2, func(ctx context.Context, s *soak) error { return soakEcho(ctx, s.tasksH2, s.secure) }},
	{"Transport and net/http's server", 3, func(ctx context.Context, s *soak) error { return soakEcho(ctx, s.tasks, s.other) }},
	{"cancels of the Transport", 2, func(ctx context.Context, s *soak) error { return soakTimedOut(ctx, s.tasks, s.plain) }},
	{"cancels of the Transport, h2c", 2, func(ctx context.Context, s *soak) error { return soakTimedOut(ctx, s.tasksH2c, s.plain) }},
	{"answers not read to their end", 2, func(ctx context.Context, s *soak) error {
		url := s.plain
		if rand.IntN(2) == 0 {
			url = s.other
		}
		return soakLeft(ctx, s.tasks, url)
	}},
	{"answers not read to their end, h2", 1, func(ctx context.Context, s *soak) error { return soakLeft(ctx, s.tasksH2, s.secure) }},
	{"WebSockets in tasks", 2, func(ctx context.Context, s *soak) error {
		return soakWebSocket(ctx, gorilla.Dialer{NetDialContext: asyncio.DialContext}, s.plain)
	}},
}

// soakEcho asks for something small, and has something echoed.
func soakEcho(ctx context.Context, client *http.Client, url string) error {
	if got, err := soakDo(ctx, client, http.MethodGet, url+"/small", nil); err != nil || got != "small" {
		return fmt.Errorf("GET: %d bytes, %w", len(got), err)
	}
	text := strings.Repeat("y", rand.IntN(1<<(4+rand.IntN(14))))
	var body io.Reader = strings.NewReader(text)
	if rand.IntN(3) == 0 { // of unknown length
		body = io.MultiReader(body)
	}
	if got, err := soakDo(ctx, client, http.MethodPost, url+"/echo", body); err != nil || got != text {
		return fmt.Errorf("POST: %d bytes of %d, %w", len(got), len(text), err)
	}
	return nil
}

func soakDo(ctx context.Context, client *http.Client, method, url string, body io.Reader) (string, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s, %w", url, resp.Status, err)
	}
	return string(b), err
}

// soakCancelled gives up a request while its handler waits, or before, or not at all.
func soakCancelled(ctx context.Context, client *http.Client, url string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(rand.IntN(10_000))*time.Microsecond)
	defer cancel()
	_, err := soakDo(ctx, client, http.MethodGet, url+"/wait", nil)
	if err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}

// soakTimedOut is soakCancelled in a task.
func soakTimedOut(ctx context.Context, client *http.Client, url string) error {
	err := asyncio.Timeout(ctx, time.Duration(asyncio.Rand(ctx).IntN(10_000))*time.Microsecond, func(ctx context.Context, _ *asyncio.TimeoutScope) error {
		_, err := soakDo(ctx, client, http.MethodGet, url+"/wait", nil)
		return err
	})
	if errors.Is(err, asyncio.ErrTimeout) {
		return nil
	}
	return err
}

// soakLeft closes a body before its end.
func soakLeft(ctx context.Context, client *http.Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/big", nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	_, err = io.CopyN(io.Discard, resp.Body, 1+rand.Int64N(200_000))
	return errors.Join(err, resp.Body.Close())
}

// soakDial connects to the server by hand. No exchange takes longer than the limit.
func soakDial(ctx context.Context, s *soak) (*net.TCPConn, error) {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", strings.TrimPrefix(s.plain, "http://"))
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), c.SetDeadline(time.Now().Add(30 * time.Second))
}

func soakPipelined(ctx context.Context, s *soak) error {
	c, err := soakDial(ctx, s)
	if err != nil {
		return err
	}
	defer c.Close()
	const requests = 20
	var all bytes.Buffer
	for i := range requests {
		fmt.Fprintf(&all, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n%03d", i)
	}
	if _, err := c.Write(all.Bytes()); err != nil {
		return err
	}
	answers := bufio.NewReader(c)
	for i := range requests {
		resp, err := http.ReadResponse(answers, nil)
		if err != nil {
			return err
		}
		if b, err := io.ReadAll(resp.Body); err != nil || string(b) != fmt.Sprintf("%03d", i) {
			return fmt.Errorf("answer %d is %q, %w", i, b, err)
		}
	}
	return nil
}

// soakTrickle writes text a byte at a time until the server has closed the connection, which it
// must within its limit.
func soakTrickle(ctx context.Context, s *soak, begin string, limit time.Duration) error {
	start := time.Now() // before the server's clock starts
	c, err := soakDial(ctx, s)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := io.WriteString(c, begin); err != nil {
		return err
	}
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		_, _ = io.Copy(io.Discard, c)
	}()
	for every := time.NewTicker(50 * time.Millisecond); ; {
		select {
		case <-closed:
			if took := time.Since(start); took < limit-100*time.Millisecond {
				return fmt.Errorf("closed after %v", took)
			}
			return nil
		case <-ctx.Done():
			_ = c.Close()
			<-closed
			return ctx.Err()
		case <-every.C:
			_, _ = c.Write([]byte("a"))
		}
		if time.Since(start) > limit+20*time.Second {
			_ = c.Close()
			<-closed
			return fmt.Errorf("still open after %v", time.Since(start))
		}
	}
}

func soakSlowHeaders(ctx context.Context, s *soak) error {
	return soakTrickle(ctx, s, "GET /small HTTP/1.1\r\nHost: x\r\nX: ", soakHeaders)
}

func soakSlowBody(ctx context.Context, s *soak) error {
	return soakTrickle(ctx, s, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n", soakBody)
}

// soakNeverReads lets the server wait for room until it gives up.
func soakNeverReads(ctx context.Context, s *soak) error {
	c, err := soakDial(ctx, s)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := io.WriteString(c, "GET /big HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(soakWhole + time.Second):
	}
	if n, _ := io.Copy(io.Discard, c); n >= soakBig {
		return errors.New("the server waited for its client")
	}
	return nil
}

// soakCutShort ends a request, or a body, in the middle, with a reset.
func soakCutShort(ctx context.Context, s *soak) error {
	c, err := soakDial(ctx, s)
	if err != nil {
		return err
	}
	defer c.Close()
	request := "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n"
	if _, err := io.WriteString(c, request[:rand.IntN(len(request))]); err != nil {
		return err
	}
	if rand.IntN(2) == 0 {
		<-time.After(time.Millisecond) // so that the server reads it
	}
	return c.SetLinger(0)
}

// soakWebSocket exchanges messages, and closes well or not.
func soakWebSocket(ctx context.Context, dialer gorilla.Dialer, url string) error {
	ws, _, err := dialer.DialContext(ctx, "ws"+strings.TrimPrefix(url, "http")+"/websocket", nil)
	if err != nil {
		return err
	}
	defer ws.Close()
	for range 20 {
		message := strings.Repeat("z", rand.IntN(20_000))
		if got, err := exchange(ws, message); err != nil || got != message {
			return fmt.Errorf("%d bytes of %d, %w", len(got), len(message), err)
		}
	}
	if rand.IntN(2) == 0 {
		return nil
	}
	if err := ws.WriteMessage(gorilla.CloseMessage, gorilla.FormatCloseMessage(gorilla.CloseNormalClosure, "")); err != nil {
		return err
	}
	if _, _, err := ws.ReadMessage(); !gorilla.IsCloseError(err, gorilla.CloseNormalClosure) {
		return err
	}
	return nil
}

// A soakSample is what the process holds at some moment.
type soakSample struct{ heap, resident, goroutines, descriptors float64 }

const soakMiB = 1 << 20

// soakHeld are the quantities, and by how much the last may be more than the first beside a tenth.
var soakHeld = []struct {
	name  string
	of    func(soakSample) float64
	slack float64
}{
	{"bytes of heap", func(s soakSample) float64 { return s.heap }, 2 * soakMiB},
	{"bytes resident", func(s soakSample) float64 { return s.resident }, 16 * soakMiB},
	{"goroutines", func(s soakSample) float64 { return s.goroutines }, 10},
	{"descriptors", func(s soakSample) float64 { return s.descriptors }, 10},
}

func takeSoakSample() (s soakSample) {
	debug.FreeOSMemory() // and collects
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	s.heap = float64(m.HeapAlloc)
	s.goroutines, s.descriptors = float64(runtime.NumGoroutine()), float64(leaktest.Descriptors())
	if b, err := os.ReadFile("/proc/self/statm"); err == nil {
		var size, pages float64
		if _, err := fmt.Sscan(string(b), &size, &pages); err == nil {
			s.resident = pages * float64(os.Getpagesize())
		}
	}
	return s
}

// A Server and a Transport under a load of all kinds hold as much at the end as at the beginning:
// memory, goroutines and descriptors. It takes ten seconds, or as long as ASYNCIO_SOAK says.
func TestSoak(t *testing.T) {
	whole := 10 * time.Second
	if text := os.Getenv("ASYNCIO_SOAK"); text != "" {
		var err error
		if whole, err = time.ParseDuration(text); err != nil || whole < 10*time.Second {
			t.Fatalf("ASYNCIO_SOAK is %q, want a duration of 10s or more: %v", text, err)
		}
	}
	certificate := httptest.NewUnstartedServer(nil) // httptest has one
	certificate.StartTLS()
	defer certificate.Close()
	other := httptest.NewServer(soakHandler())
	defer other.Close()
	before := survey(t)

	var samples []soakSample
	done := make(map[string]*atomic.Int64)
	for _, l := range slices.Concat(soakGoroutines, soakTasks) {
		done[l.name] = new(atomic.Int64)
	}
	_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
		all := new(http.Protocols)
		all.SetHTTP1(true)
		all.SetHTTP2(true)
		all.SetUnencryptedHTTP2(true)
		server := &asynciohttp.Server{
			Handler: soakTasksHandler(), Protocols: all, ErrorLog: log.New(io.Discard, "", 0),
			TLSConfig:         &tls.Config{Certificates: certificate.TLS.Certificates},
			ReadHeaderTimeout: soakHeaders, ReadTimeout: soakBody, WriteTimeout: soakWhole, IdleTimeout: 10 * time.Second,
		}
		s := &soak{other: other.URL}
		var serving []*asyncio.Task[asyncio.None]
		for _, at := range []struct {
			url, scheme string
			to          *string
			serve       func(ctx context.Context, ln *asyncio.Listener) error
		}{
			{scheme: "http", to: &s.plain, serve: func(ctx context.Context, ln *asyncio.Listener) error { return server.Serve(ctx, ln) }},
			{scheme: "https", to: &s.secure, serve: func(ctx context.Context, ln *asyncio.Listener) error { return server.ServeTLS(ctx, ln, "", "") }},
		} {
			ln, err := asyncio.Listen(ctx, "tcp", "127.0.0.1:0")
			if err != nil {
				return err
			}
			*at.to = at.scheme + "://" + ln.Addr().String()
			serving = append(serving, asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error { return at.serve(ctx, ln) })))
		}
		trusting := func() *tls.Config {
			c := certificate.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
			c.NextProtos = nil
			return c
		}
		only := func(set func(p *http.Protocols, on bool)) (theirs, ours *http.Client) {
			p := new(http.Protocols)
			set(p, true)
			return &http.Client{Transport: &http.Transport{Protocols: p, TLSClientConfig: trusting()}},
				&http.Client{Transport: &asynciohttp.Transport{Protocols: p, TLSClientConfig: trusting()}}
		}
		s.h1, s.tasks = only((*http.Protocols).SetHTTP1)
		s.h2c, s.tasksH2c = only((*http.Protocols).SetUnencryptedHTTP2)
		s.h2, s.tasksH2 = only((*http.Protocols).SetHTTP2)

		err := s.load(ctx, whole, done, &samples)
		for _, c := range []*http.Client{s.h1, s.h2c, s.h2, s.tasks, s.tasksH2c, s.tasksH2} {
			c.CloseIdleConnections()
		}
		err = errors.Join(err, asyncio.Cleanup(ctx, time.Minute, server.Shutdown))
		for _, task := range serving {
			if _, e := task.Await(ctx); e != http.ErrServerClosed {
				err = errors.Join(err, e)
			}
		}
		return err
	}), asyncio.DebugMode(false))
	if err != nil {
		t.Error(err)
	}
	for _, l := range slices.Concat(soakGoroutines, soakTasks) {
		n := done[l.name].Load()
		t.Logf("%-36s %d", l.name, n)
		if n == 0 {
			t.Errorf("%s: none", l.name)
		}
	}
	// The first fifth is a warm-up.
	fifth := len(samples) / 5
	if fifth == 0 {
		t.Fatalf("%d samples are too few", len(samples))
	}
	for _, q := range soakHeld {
		middle := func(of []soakSample) float64 {
			var v []float64
			for _, s := range of {
				v = append(v, q.of(s))
			}
			slices.Sort(v)
			return v[len(v)/2]
		}
		first, last := middle(samples[fifth:2*fifth]), middle(samples[len(samples)-fifth:])
		t.Logf("%-36s %.0f, in the end %.0f", q.name, first, last)
		if last > first*1.1+q.slack {
			t.Errorf("%s: %.0f in the end, %.0f at first", q.name, last, first)
		}
	}
	before.check(t)
}

// load asks for everything, by goroutines and tasks, until the time is over.
func (s *soak) load(ctx context.Context, whole time.Duration, done map[string]*atomic.Int64, samples *[]soakSample) error {
	const many = 50 // samples
	errs := make(chan error, 1000)
	// again asks until outside ends. It waits between, so that there is time for all.
	again := func(outside context.Context, ctx context.Context, l soakLoad, wait func() error) {
		for outside.Err() == nil {
			err := l.ask(ctx, s)
			if outside.Err() != nil {
				return
			}
			if err != nil {
				select {
				case errs <- fmt.Errorf("%s: %w", l.name, err):
				default:
				}
				return
			}
			done[l.name].Add(1)
			if wait() != nil {
				return
			}
		}
	}
	outside, stop := context.WithCancel(context.Background())
	defer stop()
	var goroutines sync.WaitGroup
	for _, l := range soakGoroutines {
		for range l.workers {
			goroutines.Go(func() {
				again(outside, outside, l, func() error { <-time.After(2 * time.Millisecond); return nil })
			})
		}
	}
	var tasks []*asyncio.Task[asyncio.None]
	for _, l := range soakTasks {
		for range l.workers {
			tasks = append(tasks, asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
				again(outside, ctx, l, func() error { return asyncio.Sleep(ctx, 2*time.Millisecond) })
				return nil
			})))
		}
	}
	var err error
	for range many {
		if err = asyncio.Sleep(ctx, whole/many); err != nil {
			break
		}
		sample, e := asyncio.ToThread(ctx, func(context.Context) (soakSample, error) { return takeSoakSample(), nil })
		if err = e; err != nil {
			break
		}
		*samples = append(*samples, sample)
	}
	stop()
	for _, task := range tasks {
		task.Cancel()
	}
	if _, _, e := asyncio.Wait(ctx, tasks); e != nil {
		err = errors.Join(err, e)
	}
	_, e := asyncio.ToThread(ctx, func(context.Context) (int, error) { goroutines.Wait(); return 0, nil })
	err = errors.Join(err, e)
	for {
		select {
		case e := <-errs:
			err = errors.Join(err, e)
		default:
			return err
		}
	}
}
