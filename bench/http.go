package main

import (
	"context"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/goasyncio/asyncio/bench/internal/peer"
)

// A webPeer is an implementation of HTTP in one of the programs, and the kinds of servers and
// clients that it has.
type webPeer struct {
	name, program string
	serves        []string
	fetches       []string
}

const (
	http1  = "http1"
	chunks = "chunks" // HTTP/1.1, with bodies whose length is not declared
	http2  = "http2"  // without TLS

	ourHTTP = "asynciohttp"
	netHTTP = "net/http"
)

// The first is this library's.
var webPeers = []webPeer{
	{ourHTTP, library, []string{http1, chunks, http2}, []string{http1}},
	{netHTTP, goroutines, []string{http1, chunks, http2}, []string{http1}},
	{"hyper", hyper, []string{http1, http2}, []string{http1}},
	{"Node", node, []string{http1, http2}, []string{http1}},
	{"uvicorn", uvicorn, []string{http1}, nil},
}

// A web is a row about HTTP: the processor time of a server, or of a client, for one request.
type web struct {
	row, title string
	kind       string
	client     bool
	conns      int // of a server
	size       int // bytes of the body in an answer
	n          int // requests of a client, of a slow one fewer
	rounds     int // no more than; zero for as many as the others
	atMost     float64
	idleAtMost float64 // for the bytes of an idle connection; no such limit if zero
}

var webs = []web{
	{row: "http1_64", title: "HTTP/1.1 server, 64 B", kind: http1, conns: 100, size: 64, atMost: 0.8},
	{row: "http1_64k", title: "HTTP/1.1 server, 64 KiB", kind: http1, conns: 100, size: 64 << 10, atMost: 0.85},
	{row: "chunks_64k", title: "HTTP/1.1 server, 64 KiB in chunks", kind: chunks, conns: 100, size: 64 << 10, atMost: 0.85},
	{row: "http1_10000", title: "HTTP/1.1 server, 64 B, 10,000 connections", kind: http1, conns: 10_000, size: 64, rounds: 3, idleAtMost: 0.6},
	{row: "http2_64", title: "HTTP/2 server, 64 B", kind: http2, conns: 100, size: 64, atMost: 0.6},
	{row: "http2_64k", title: "HTTP/2 server, 64 KiB", kind: http2, conns: 100, size: 64 << 10, atMost: 1},
	{row: "fetch1_64", title: "HTTP/1.1 client, 64 B", kind: http1, client: true, size: 64, n: 60_000, atMost: 0.75},
	{row: "fetch1_64k", title: "HTTP/1.1 client, 64 KiB", kind: http1, client: true, size: 64 << 10, n: 20_000, atMost: 0.75},
}

// slowDivide is how many times fewer requests a slow client makes.
const slowDivide = 5

// idleFor is how long connections are idle before their memory is taken: longer than servers keep
// what they may give back.
const idleFor = 2 * time.Second

// measureWeb measures a row with one implementation.
func (s *suite) measureWeb(p *program, w web, quick bool) (v costs, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), callLimit)
	defer cancel()
	defer func() {
		if err != nil {
			err = fmt.Errorf("%s of %s: %w", w.row, p.name, err)
		}
	}()
	if w.client {
		return s.measureFetch(ctx, p, w, quick)
	}
	server, err := s.start(ctx, s.pin, slices.Concat(p.command, []string{"serve", w.kind, strconv.Itoa(w.size)})...)
	if err != nil {
		return costs{}, err
	}
	defer func() { err = server.stop(err) }()
	warm, limit := 300*time.Millisecond, 800*time.Millisecond
	if quick {
		warm, limit = 20*time.Millisecond, 50*time.Millisecond
	}
	if w.kind == http2 {
		return s.measureHTTP2(ctx, server, w, warm, limit)
	}
	idle := time.Duration(0)
	if idleRow(w.conns) && !quick {
		idle = idleFor
	}
	cpu, rate, held, err := s.load(ctx, server, w.conns, w.size, warm, limit, "-http", "-idle", idle.String())
	return costs{[]float64{cpu}, []float64{rate}, []float64{held}}, err
}

// measureFetch measures a client, on the server's core; the server is on the other one.
func (s *suite) measureFetch(ctx context.Context, p *program, w web, quick bool) (v costs, err error) {
	server, err := s.start(ctx, s.pinLoad, filepath.Join(s.build, "load"), "-answer", "-size", strconv.Itoa(w.size))
	if err != nil {
		return costs{}, err
	}
	defer func() { err = server.stop(err) }()
	n := w.n
	if p.slow {
		n /= slowDivide
	}
	if quick {
		n = max(peer.FetchAtOnce, n/quickDivide)
	}
	out, err := s.call(p, "fetch", w.kind, server.port, strconv.Itoa(w.size), strconv.Itoa(n))
	if err != nil {
		return costs{}, err
	}
	m, err := peer.Parse(out)
	if err != nil {
		return costs{}, err
	}
	return costs{cpu: []float64{float64(m.Total) / float64(m.N)}}, nil
}

// h2load counts what has succeeded, and says how long it took.
var h2loadDone = regexp.MustCompile(`finished in ([0-9.]+)(us|ms|s), .*\nrequests: \d+ total, \d+ started, \d+ done, (\d+) succeeded, 0 failed`)

// measureHTTP2 runs h2load twice: what the first run, a short one, says of the server's speed
// decides how many requests are measured.
func (s *suite) measureHTTP2(ctx context.Context, server *started, w web, warm, limit time.Duration) (v costs, err error) {
	load := func(n int) (rate float64, err error) {
		out, err := s.onLoadCore(ctx, "h2load", "-t1", "-c", strconv.Itoa(w.conns), "-n", strconv.Itoa(n), "http://127.0.0.1:"+server.port+"/")
		if err != nil {
			return 0, err
		}
		done := h2loadDone.FindStringSubmatch(out)
		if done == nil || done[3] != strconv.Itoa(n) {
			return 0, fmt.Errorf("not all of %d requests succeeded:\n%s", n, out)
		}
		took, err := time.ParseDuration(done[1] + done[2])
		return float64(n) / took.Seconds(), err
	}
	n := 10 * w.conns
	rate, err := load(n)
	if err != nil {
		return costs{}, err
	}
	if rate, err = load(max(n, int(rate*warm.Seconds()))); err != nil {
		return costs{}, err
	}
	n = max(n, int(rate*limit.Seconds()))
	before := peer.ProcessorTime(server.cmd.Process.Pid)
	rate, err = load(n)
	cpu := peer.ProcessorTime(server.cmd.Process.Pid) - before
	if err == nil && cpu <= 0 {
		err = fmt.Errorf("the server worked for %v", cpu)
	}
	return costs{cpu: []float64{float64(cpu) / float64(n)}, rate: []float64{rate}}, err
}

// measureWebs goes through the implementations as measureAll goes through the programs.
func measureWebs(s *suite, programs []*program, todo []web, quick bool, round int, start time.Time, res *results) error {
	for _, w := range todo {
		if w.rounds > 0 && round >= w.rounds {
			continue
		}
		fmt.Fprintf(os.Stderr, "%6.1fs  round %d of %d  %s\n", time.Since(start).Seconds(), round+1, res.rounds, w.row)
		for i := range webPeers {
			v := webPeers[(i+round)%len(webPeers)]
			at := slices.IndexFunc(programs, func(p *program) bool { return p.name == v.program })
			if at < 0 || !v.has(w) {
				continue
			}
			measured, err := s.measureWeb(programs[at], w, quick)
			if err != nil {
				return err
			}
			res.addWeb(round, v.name, w, measured)
		}
	}
	return nil
}

// has reports whether the implementation has what a row is about.
func (v webPeer) has(w web) bool {
	if w.client {
		return slices.Contains(v.fetches, w.kind)
	}
	return slices.Contains(v.serves, w.kind)
}

// prepareWeb leaves out what is not possible here, and says why.
func (s *suite) prepareWeb(todo []web, res *results) ([]web, error) {
	if len(todo) == 0 {
		return nil, nil
	}
	if built, err := s.buildLoad("HTTP", res); !built {
		return nil, err
	}
	_, noLoad := exec.LookPath("h2load")
	if noLoad != nil {
		res.absent = append(res.absent, "HTTP/2 (no h2load: apt-get install nghttp2-client)")
	}
	return slices.DeleteFunc(slices.Clone(todo), func(w web) bool {
		return w.kind == http2 && noLoad != nil || tooMany(w.row, w.conns, res)
	}), nil
}

func (r *results) addWeb(round int, name string, w web, measured costs) {
	if r.webs == nil {
		r.webs = map[cell]*costs{}
	}
	c := cell{w.row, name}
	if r.webs[c] == nil {
		r.webs[c] = new(costs)
	}
	v := r.webs[c]
	v.cpu, v.rate, v.held = append(v.cpu, measured.cpu...), append(v.rate, measured.rate...), append(v.held, measured.held...)
	r.raw = append(r.raw, fmt.Sprintf("%d,%s,%s,1,%.0f,%.0f\n", round, name, w.row, median(measured.cpu), max(0, median(measured.held))))
}

func (r *results) webOf(row, name string) costs {
	if v := r.webs[cell{row, name}]; v != nil {
		return *v
	}
	return costs{}
}

// webTable has a line for each row that was measured and a column for each of these
// implementations.
func (r *results) webTable(head string, peers []webPeer, value func(w web, name string) float64, format func(float64) string) table {
	t := table{{head}}
	for _, v := range peers {
		t[0] = append(t[0], v.name)
	}
	for _, w := range webs {
		if math.IsNaN(value(w, peers[0].name)) {
			continue
		}
		l := []string{w.title}
		for _, v := range peers {
			l = append(l, format(value(w, v.name)))
		}
		t = append(t, l)
	}
	return t
}

// webShown are the implementations that were measured.
func (r *results) webShown() []webPeer {
	return slices.DeleteFunc(slices.Clone(webPeers), func(v webPeer) bool {
		return !slices.ContainsFunc(webs, func(w web) bool { return r.webs[cell{w.row, v.name}] != nil })
	})
}

func (r *results) webRatios() table {
	return r.webTable(ourHTTP+" divided by", r.webShown()[1:], func(w web, name string) float64 {
		return median(r.webOf(w.row, ourHTTP).cpu) / median(r.webOf(w.row, name).cpu)
	}, func(v float64) string {
		if v > 1 {
			return "**" + digits(v) + "**"
		}
		return digits(v)
	})
}

func (r *results) webCPU() table {
	return r.webTable("nanoseconds for a request", r.webShown(), func(w web, name string) float64 { return median(r.webOf(w.row, name).cpu) }, grouped)
}

func (r *results) webRate() table {
	return r.webTable("requests a second", r.webShown(), func(w web, name string) float64 { return median(r.webOf(w.row, name).rate) }, grouped)
}

func (r *results) webMemory() table {
	return r.webTable("bytes for an idle connection", r.webShown(), func(w web, name string) float64 {
		if !idleRow(w.conns) {
			return math.NaN()
		}
		return math.Round(median(r.webOf(w.row, name).held))
	}, grouped)
}

// webMet compares the measurements with the targets.
func (r *results) webMet() table {
	t := newVerdict()
	for _, w := range webs {
		mine, other := r.webOf(w.row, ourHTTP), r.webOf(w.row, netHTTP)
		if w.atMost > 0 {
			t.judge(w.title, netHTTP, fmt.Sprint(w.atMost), median(mine.cpu)/median(other.cpu), w.atMost)
		}
		if w.idleAtMost > 0 {
			t.judge(w.title+", bytes idle", netHTTP, fmt.Sprint(w.idleAtMost), median(mine.held)/median(other.held), w.idleAtMost)
		}
	}
	return t.table
}
