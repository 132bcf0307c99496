package main

import (
	"bufio"
	"context"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

const ours = 4

// A server is a kind of echo server in one of the programs.
type server struct{ name, program, kind string }

const (
	echoConn    = "Conn"
	echoStreams = "streams"
	echoInto    = "streams, ReadInto"
	echoExactly = "streams, ReadExactly"
	goNet       = "Go net"
	goNetNew    = "Go net, new buffers"
)

// The first ours servers are this library's.
var servers = []server{
	{echoConn, library, "conn"},
	{echoStreams, library, "streams"},
	{echoInto, library, "streams_into"},
	{echoExactly, library, exactly},
	{"C", cserver, "epoll"},
	{goNet, goroutines, "net"},
	{goNetNew, goroutines, "net_new"},
	{"tokio", tokio, "streams"},
	{"uvloop protocol", uvloop, "protocol"},
	{"uvloop streams", uvloop, "streams"},
	{"CPython streams", cpython, "streams"},
	{"Node", node, "pipe"},
}

// An echo is a row about servers: the number of connections, and the bytes of a message.
type echo struct {
	row, title  string
	conns, size int
	rounds      int
}

const (
	echoTarget = "echo100" // the row that has targets
	echoLong   = "echo64k" // the other row with targets, the only one about whole messages
)

// wholeMessages reports whether a server answers when a whole message has come, or is comparable to
// those that do.
func wholeMessages(name string) bool {
	return name == echoInto || name == echoExactly || name == goNetNew
}

var echoes = []echo{
	{"echo1", "1 connection", 1, 64, 3},
	{echoTarget, "100 connections", 100, 64, 5},
	{"echo1000", "1,000 connections", 1000, 64, 3},
	{"echo10000", "10,000 connections", 10_000, 64, 2},
	{echoLong, "100 connections, 64 KiB", 100, 64 << 10, 3},
}

// idleRow reports whether the bytes of an idle connection are taken from this row: the more
// connections, the more exact.
func idleRow(conns int) bool { return conns >= 1000 }

// echoTargets are the limits on the processor time of a message, for both of this library's
// servers.
var echoTargets = []struct {
	against string
	atMost  float64
}{
	{"C", 1.15},
	{"Go net", 0.9},
	{"tokio", 1.05},
	{"uvloop streams", 0.7},
	{"CPython streams", 0.2},
}

// longAtMost is the limit on the processor time of a message of echoLong, relative to package
// net's.
const longAtMost = 1.1

// costs holds the measurements of one server, or client, in one row, a value for each round.
type costs struct {
	cpu  []float64 // of the process, in nanoseconds for a message
	rate []float64 // messages a second
	held []float64 // bytes of an idle connection
}

// minBuffer is the buffer size that servers are given for short messages.
const minBuffer = 4096

// exactly is the kind of server that answers once it has read exactly as many bytes as it is told.
const exactly = "streams_exactly"

// bufferOf returns the buffer size that a server is given for messages of size bytes.
func bufferOf(kind string, size int) int {
	if kind == exactly {
		return size
	}
	return max(size, minBuffer)
}

// measureEcho runs a server on its core, and the load on the other one.
func (s *suite) measureEcho(p *program, kind string, e echo, quick bool) (cpu, rate, held float64, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), callLimit)
	defer cancel()
	server, err := s.start(ctx, s.pin, slices.Concat(p.command, []string{"serve", kind, strconv.Itoa(bufferOf(kind, e.size))})...)
	if err == nil {
		warm, limit := 200*time.Millisecond, 600*time.Millisecond
		if quick {
			warm, limit = 20*time.Millisecond, 50*time.Millisecond
		}
		cpu, rate, held, err = s.load(ctx, server, e.conns, e.size, warm, limit)
		err = server.stop(err)
	}
	if err != nil {
		err = fmt.Errorf("%s, %s of %s: %w", e.row, kind, p.name, err)
	}
	return cpu, rate, held, err
}

// A started is a server in a process of its own, that has said its port.
type started struct {
	cmd    *exec.Cmd
	stderr strings.Builder
	port   string
}

// start runs a server until stop.
func (s *suite) start(ctx context.Context, pin []string, command ...string) (*started, error) {
	command = slices.Concat(s.files, pin, command)
	p := &started{cmd: exec.CommandContext(ctx, command[0], command[1:]...)}
	p.cmd.Env = append(slices.Clone(s.env), "GOMAXPROCS=1")
	p.cmd.Stderr = &p.stderr
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		return nil, p.stop(fmt.Errorf("it did not say its port: %w", err))
	}
	p.port = strings.TrimSpace(line)
	return p, nil
}

// stop ends the process, and adds what it has written to err, if that is one.
func (p *started) stop(err error) error {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
	if err != nil {
		err = fmt.Errorf("%w\n%s", err, p.stderr.String())
	}
	return err
}

// load sends messages to a server, and returns what parseLoad does.
func (s *suite) load(ctx context.Context, to *started, conns, size int, warm, limit time.Duration, more ...string) (cpu, rate, held float64, err error) {
	out, err := s.onLoadCore(ctx, filepath.Join(s.build, "load"), append(more, "-port", to.port, "-pid", strconv.Itoa(to.cmd.Process.Pid),
		"-conns", strconv.Itoa(conns), "-size", strconv.Itoa(size), "-warm", warm.String(), "-time", limit.String())...)
	if err != nil {
		return 0, 0, 0, err
	}
	return parseLoad(out, conns)
}

// onLoadCore runs a load generator on the core that is not the server's.
func (s *suite) onLoadCore(ctx context.Context, name string, args ...string) (string, error) {
	command := slices.Concat(s.files, s.pinLoad, []string{name}, args)
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Env = s.env
	return output(cmd)
}

func parseLoad(out string, conns int) (cpu, rate, held float64, err error) {
	f := strings.Split(strings.TrimSpace(out), ",")
	if len(f) != 4 {
		return 0, 0, 0, fmt.Errorf("%q is not messages,ns,ns,bytes", out)
	}
	var v [4]float64
	for i := range v {
		if v[i], err = strconv.ParseFloat(f[i], 64); err != nil {
			return 0, 0, 0, fmt.Errorf("%q is not messages,ns,ns,bytes: %w", out, err)
		}
	}
	if !(v[0] > 0 && v[1] > 0 && v[2] > 0) {
		return 0, 0, 0, fmt.Errorf("%q measures nothing", out)
	}
	return v[2] / v[0], v[0] / v[1] * 1e9, v[3] / float64(conns), nil
}

// measureEchoes goes through the servers of the programs as measureAll goes through the programs.
func measureEchoes(s *suite, programs []*program, todo []echo, quick bool, round int, start time.Time, res *results) error {
	for _, e := range todo {
		if round >= e.rounds {
			continue
		}
		fmt.Fprintf(os.Stderr, "%6.1fs  round %d of %d  %s\n", time.Since(start).Seconds(), round+1, res.rounds, e.row)
		for i := range servers {
			v := servers[(i+round)%len(servers)]
			at := slices.IndexFunc(programs, func(p *program) bool { return p.name == v.program })
			if at < 0 || wholeMessages(v.name) && e.row != echoLong {
				continue
			}
			cpu, rate, held, err := s.measureEcho(programs[at], v.kind, e, quick)
			if err != nil {
				return err
			}
			res.addEcho(round, v.name, e, cpu, rate, held)
		}
	}
	return nil
}

// prepareEcho builds the load, and leaves out the rows that are not possible here.
func (s *suite) prepareEcho(todo []echo, res *results) ([]echo, error) {
	if len(todo) == 0 {
		return nil, nil
	}
	if built, err := s.buildLoad("echo", res); !built {
		return nil, err
	}
	return slices.DeleteFunc(slices.Clone(todo), func(e echo) bool { return tooMany(e.row, e.conns, res) }), nil
}

// buildLoad reports whether there is a load generator for the rows of this name, and builds it.
func (s *suite) buildLoad(rows string, res *results) (bool, error) {
	if !loadExists {
		res.absent = append(res.absent, rows+" (the load generator needs epoll)")
		return false, nil
	}
	cmd := exec.Command("go", "build", "-o", filepath.Join(s.build, "load"), "./load")
	cmd.Dir = s.dir
	if _, err := output(cmd); err != nil {
		return false, fmt.Errorf("building the load: %w", err)
	}
	return true, nil
}

// tooMany reports whether a process may not have as many connections as a row needs.
func tooMany(row string, conns int, res *results) bool {
	const spare = 100 // standard streams, libraries, ...
	few := conns+spare > mostFiles()
	if few {
		res.absent = append(res.absent, fmt.Sprintf("%s (%d descriptors are too few)", row, mostFiles()))
	}
	return few
}

func (r *results) addEcho(round int, name string, e echo, cpu, rate, held float64) {
	if r.echoes == nil {
		r.echoes = map[cell]*costs{}
	}
	c := cell{e.row, name}
	if r.echoes[c] == nil {
		r.echoes[c] = new(costs)
	}
	v := r.echoes[c]
	v.cpu, v.rate, v.held = append(v.cpu, cpu), append(v.rate, rate), append(v.held, held)
	r.raw = append(r.raw, fmt.Sprintf("%d,%s,%s,1,%.0f,%.0f\n", round, name, e.row, cpu, held))
}

func (r *results) echoOf(row, name string) costs {
	if v := r.echoes[cell{row, name}]; v != nil {
		return *v
	}
	return costs{}
}

// echoTable has a line for each row and a column for each measured server.
func (r *results) echoTable(head string, servers []server, rows []echo, value func(row, name string) string) table {
	t := table{{head}}
	var shown []server
	for _, v := range servers {
		if slices.ContainsFunc(echoes, func(e echo) bool { return r.echoes[cell{e.row, v.name}] != nil }) {
			shown = append(shown, v)
			t[0] = append(t[0], v.name)
		}
	}
	for _, e := range rows {
		if r.echoes[cell{e.row, echoConn}] == nil {
			continue
		}
		l := []string{e.title}
		for _, v := range shown {
			l = append(l, value(e.row, v.name))
		}
		t = append(t, l)
	}
	return t
}

// echoRatios divides the processor time of one of this library's servers by that of every other
// one.
func (r *results) echoRatios(mine string) table {
	return r.echoTable(mine+" divided by", servers[ours:], echoes, func(row, name string) string {
		v := median(r.echoOf(row, mine).cpu) / median(r.echoOf(row, name).cpu)
		if v > 1 {
			return "**" + digits(v) + "**"
		}
		return digits(v)
	})
}

func (r *results) echoCPU() table {
	return r.echoTable("nanoseconds for a message", servers, echoes, func(row, name string) string {
		return grouped(median(r.echoOf(row, name).cpu))
	})
}

func (r *results) echoRate() table {
	return r.echoTable("messages a second", servers, echoes, func(row, name string) string {
		return grouped(median(r.echoOf(row, name).rate))
	})
}

func (r *results) echoMemory() table {
	rows := slices.DeleteFunc(slices.Clone(echoes), func(e echo) bool { return !idleRow(e.conns) })
	return r.echoTable("bytes for an idle connection of", servers, rows, func(row, name string) string {
		return grouped(math.Round(median(r.echoOf(row, name).held)))
	})
}

func (r *results) judgeEcho(judge func(row, against, atMost string, v, limit float64)) {
	for _, mine := range []string{echoConn, echoStreams} {
		for _, g := range echoTargets {
			v := median(r.echoOf(echoTarget, mine).cpu) / median(r.echoOf(echoTarget, g.against).cpu)
			judge("echo over 100 connections, "+mine, g.against, fmt.Sprint(g.atMost), v, g.atMost)
		}
	}
	// Servers that return new memory are compared with package net as it is, and also with a
	// version of it that does so too.
	for _, g := range []struct{ mine, against string }{
		{echoConn, goNet}, {echoInto, goNet}, {echoStreams, goNet}, {echoExactly, goNet},
		{echoStreams, goNetNew}, {echoExactly, goNetNew},
	} {
		v := median(r.echoOf(echoLong, g.mine).cpu) / median(r.echoOf(echoLong, g.against).cpu)
		judge("echo of 64 KiB, "+g.mine, g.against, fmt.Sprint(longAtMost), v, longAtMost)
	}
}

func cProgram(s *suite) ([]string, error) {
	for _, name := range []string{os.Getenv("CC"), "cc", "gcc", "clang"} {
		if name == "" {
			continue
		}
		if cc, err := exec.LookPath(name); err == nil {
			if !loadExists {
				return nil, absent("no epoll")
			}
			file := filepath.Join(s.build, "c")
			_, err := output(exec.Command(cc, "-O2", "-Wall", "-o", file, filepath.Join(s.dir, "peers", "c", "echo.c")))
			return []string{file}, err
		}
	}
	return nil, absent("no C compiler")
}

// withAllFiles starts a command with as many descriptors as it may have.
func withAllFiles() []string {
	sh, err := exec.LookPath("sh")
	if err != nil || !loadExists {
		return nil
	}
	return []string{sh, "-c", `ulimit -n "$(ulimit -Hn)"; exec "$@"`, "sh"}
}
