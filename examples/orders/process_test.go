package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A process is one of the programs, as in production.
type process struct {
	t       *testing.T
	cmd     *exec.Cmd
	address string // at which it listens

	mu    sync.Mutex
	more  *sync.Cond // signalled when there is more of the log, or when it has ended
	log   []string   // what await has not seen
	ended bool
}

// start starts a program and waits until it listens.
func start(t *testing.T, args ...string) *process {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, cmd: exec.CommandContext(t.Context(), program, append(args, "-v")...)}
	p.more = sync.NewCond(&p.mu)
	p.cmd.Env = append(os.Environ(), asProgram+"=1")
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			p.mu.Lock()
			p.log = append(p.log, lines.Text())
			p.mu.Unlock()
			p.more.Broadcast()
		}
		p.mu.Lock()
		p.ended = true
		p.mu.Unlock()
		p.more.Broadcast()
	}()
	t.Cleanup(func() { _ = p.end(os.Kill) })
	p.address = p.await(`msg=serving address=(\S+)`)
	return p
}

// await waits for a line of the log, and returns its first submatch.
func (p *process) await(pattern string) string {
	p.t.Helper()
	re := regexp.MustCompile(pattern)
	var seen []string
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		for len(p.log) > 0 {
			line := p.log[0]
			p.log = p.log[1:]
			if m := re.FindStringSubmatch(line); m != nil {
				return m[len(m)-1]
			}
			seen = append(seen, line)
		}
		if p.ended {
			p.t.Fatalf("%s has ended without saying %q:\n%s", p.cmd.Args[1], pattern, strings.Join(seen, "\n"))
		}
		p.more.Wait()
	}
}

// end sends a signal, if it is not nil, and waits for the end.
func (p *process) end(sig os.Signal) error {
	if p.cmd.ProcessState != nil {
		return nil
	}
	if sig != nil {
		_ = p.cmd.Process.Signal(sig)
	}
	p.mu.Lock()
	for !p.ended { // the pipe must be read to its end before Wait
		p.more.Wait()
	}
	p.mu.Unlock()
	return p.cmd.Wait()
}

// A browser is net/http's client, with goroutines and keep-alive.
type browser struct {
	t      *testing.T
	client *http.Client
}

func (b browser) do(method, url, key, body string, into any) int {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	resp, err := b.client.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err == nil && into != nil {
		err = json.Unmarshal(data, into)
	}
	if err != nil {
		b.t.Fatalf("%s %s: %s %q, %v", method, url, resp.Status, data, err)
	}
	return resp.StatusCode
}

// paid waits until an order is paid, and returns its payment.
func (b browser) paid(url, id string) string {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		var o Order
		if code := b.do("GET", url+"/"+id, "", "", &o); code != http.StatusOK {
			b.t.Fatalf("order %s: %d", id, code)
		}
		if o.Status == "paid" {
			return o.Payment
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			b.t.Fatalf("order %s is not paid: %+v", id, o)
		}
	}
}

// The programs as processes: an order is placed and paid; a SIGTERM in the midst of a request lets
// it finish; after kill -9 of both everything acknowledged is there, and nothing is charged twice.
func TestProcesses(t *testing.T) {
	dir := t.TempDir()
	transport := new(http.Transport)
	defer transport.CloseIdleConnections()
	b := browser{t, &http.Client{Transport: transport}}
	address := "127.0.0.1:0"
	startPayments := func() *process {
		t.Helper()
		p := start(t, "payments", "-addr", address, "-dir", filepath.Join(dir, "payments"))
		address = p.address // the same after a restart, so that orders finds it
		return p
	}
	payments := startPayments()
	startOrders := func() (*process, string) {
		t.Helper()
		p := start(t, "orders", "-addr", "127.0.0.1:0", "-dir", filepath.Join(dir, "orders"), "-payments", "http://"+address)
		return p, "http://" + p.address + "/orders"
	}
	orders, url := startOrders()

	var first Order
	if code := b.do("POST", url, "k1", tea, &first); code != http.StatusCreated || first.Status != "placed" {
		t.Fatalf("%d %+v", code, first)
	}
	payment := b.paid(url, first.ID)

	// SIGTERM while the body of a request is on its way.
	conn, err := net.Dial("tcp", orders.address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST /orders HTTP/1.1\r\nHost: x\r\nIdempotency-Key: k2\r\nX-Request-Id: slow\r\nContent-Length: %d\r\n\r\n%s", len(tea), tea[:10])
	orders.await("msg=accepted .*request=slow")
	if err := orders.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for { // it does not take new connections any more
		c, err := net.Dial("tcp", orders.address)
		if errors.Is(err, syscall.ECONNREFUSED) {
			break
		}
		if err == nil {
			_ = c.Close()
		} else if !errors.Is(err, syscall.ECONNRESET) {
			t.Fatal(err)
		}
	}
	fmt.Fprint(conn, tea[10:])
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	var second Order
	err = json.NewDecoder(resp.Body).Decode(&second)
	if err != nil || resp.StatusCode != http.StatusCreated || !resp.Close {
		t.Fatalf("%v %+v, %v", resp, second, err)
	}
	if err := orders.end(nil); err != nil {
		t.Errorf("orders was told to stop, and ends with %v", err)
	}

	// Without payments an order is taken all the same. Then both are killed.
	orders, url = startOrders()
	b.paid(url, second.ID) // before or after the restart
	if err := payments.end(os.Kill); err == nil {
		t.Error("payments was killed, and has ended well")
	}
	var third Order
	if code := b.do("POST", url, "k3", tea, &third); code != http.StatusCreated {
		t.Fatal(code)
	}
	_ = orders.end(os.Kill)
	transport.CloseIdleConnections()
	payments = startPayments()
	orders, url = startOrders()
	b.paid(url, third.ID)
	for key, want := range map[string]Order{"k1": first, "k2": second, "k3": third} {
		var o Order
		if code := b.do("POST", url, key, tea, &o); code != http.StatusOK || o.ID != want.ID || o.Status != "paid" {
			t.Errorf("%s: %d %+v, want %+v", key, code, o, want)
		}
	}
	if got := b.paid(url, first.ID); got != payment {
		t.Errorf("the first order was paid by %s, and by %s after a restart", payment, got)
	}
	var balance struct{ Payments, Total int }
	if b.do("GET", "http://"+address+"/balance", "", "", &balance); balance.Payments != 3 || balance.Total != 900 {
		t.Errorf("three orders of 300, and the balance is %+v", balance)
	}
	for _, p := range []*process{orders, payments} {
		if err := p.end(syscall.SIGTERM); err != nil {
			t.Errorf("%s was told to stop, and ends with %v", p.cmd.Args[1], err)
		}
	}
}

// SIGTERM while sixteen clients order as fast as they can: each request that was accepted is
// answered. Others may find the connection closed.
func TestProcess_ShutdownUnderLoad(t *testing.T) {
	dir := t.TempDir()
	payments := start(t, "payments", "-addr", "127.0.0.1:0", "-dir", filepath.Join(dir, "payments"))
	orders := start(t, "orders", "-addr", "127.0.0.1:0", "-dir", filepath.Join(dir, "orders"), "-payments", "http://"+payments.address)
	transport := &http.Transport{MaxIdleConnsPerHost: 16}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	var wg sync.WaitGroup
	answers, failures := make(chan string, 16), make(chan string, 16)
	for i := range 16 {
		wg.Go(func() {
			for n := 0; ; n++ {
				name := fmt.Sprintf("client-%d-%d", i, n)
				req, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+orders.address+"/orders", strings.NewReader(tea))
				if err != nil {
					t.Error(err)
					return
				}
				req.Header.Set("Idempotency-Key", name)
				req.Header.Set("X-Request-Id", name)
				resp, err := client.Do(req)
				if err == nil {
					_, err = io.Copy(io.Discard, resp.Body)
					_ = resp.Body.Close()
				}
				switch {
				case err != nil:
					failures <- name
					return
				case resp.StatusCode != http.StatusCreated:
					t.Errorf("%s: %s", name, resp.Status)
					return
				}
				answers <- name
			}
		})
	}
	go func() {
		wg.Wait()
		close(answers)
		close(failures)
	}()
	answered := 0
	for range answers {
		if answered++; answered == 200 {
			if err := orders.cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Error(err)
			}
		}
	}
	if answered < 200 {
		t.Fatalf("only %d requests were answered", answered)
	}
	if err := orders.end(nil); err != nil {
		t.Errorf("orders was told to stop, and ends with %v", err)
	}
	accepted := make(map[string]bool)
	re := regexp.MustCompile("msg=accepted .*request=(client-[0-9-]+)")
	for _, line := range orders.log {
		if m := re.FindStringSubmatch(line); m != nil {
			accepted[m[1]] = true
		}
	}
	if len(accepted) < answered {
		t.Errorf("%d answers to %d requests", answered, len(accepted))
	}
	for name := range failures {
		if accepted[name] {
			t.Errorf("%s was accepted and not answered", name)
		}
	}
	if err := payments.end(syscall.SIGTERM); err != nil {
		t.Errorf("payments was told to stop, and ends with %v", err)
	}
}

// A mistake in the command line is an error, with status 1.
func TestProcess_Mistake(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, "orders")
	cmd.Env = append(os.Environ(), asProgram+"=1")
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != 1 || string(out) != "orders: orders needs -addr\n" {
		t.Errorf("%q, %v", out, err)
	}
}
