package inspection

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// The socket to which the asyncio command attaches.
//
//	socket 1: It lies in a directory that belongs to the user and that nobody else may enter, under
//	   the number of the process. A directory that is a link, belongs to somebody else or is open to
//	   others is refused, by both ends.
//	socket 2: A peer of another user is refused, even if it got as far as the socket.
//	socket 3: A request is a line of JSON, an Ask. The answer is a line of JSON: a Process, a
//	   Recorded if that was asked for, or an object with the field "error". One connection has one
//	   request.
//	socket 4: A socket of a process that has gone is removed by the next process that comes to the
//	   directory.
//	socket 5: A socket gets its name when it listens and is the user's alone. Under that name it
//	   could else be found when it still refuses, and be taken for one of a process that has gone.

// maxRequest is how long a request may be, in bytes, and requestTimeout how long it and its answer
// may take.
const (
	maxRequest     = 64 << 10
	requestTimeout = 10 * time.Second
)

// Directory returns the directory of the sockets of this user's processes. ASYNCIOINSPECT_DIR
// overrides it.
func Directory() string {
	if d := os.Getenv("ASYNCIOINSPECT_DIR"); d != "" {
		return d
	}
	if d := os.Getenv("XDG_RUNTIME_DIR"); d != "" {
		return filepath.Join(d, "asyncio")
	}
	return filepath.Join(os.TempDir(), fmt.Sprintf("asyncio-%d", os.Getuid()))
}

func socketPath(pid int) string { return filepath.Join(Directory(), strconv.Itoa(pid)+".sock") }

// serve opens the socket and answers requests for as long as the process lives. A program must not
// fail because nobody can look at it, so errors are logged.
func serve() {
	l, err := listen()
	if errors.Is(err, errors.ErrUnsupported) {
		return // Attach says so
	}
	if err != nil {
		slog.Warn("asyncio: this process cannot be attached to", slog.Any("error", err))
		return
	}
	registry.Lock()
	registry.socket = l
	registry.Unlock()
	for {
		c, err := l.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(100 * time.Millisecond) // out of descriptors, say
			continue
		}
		go answer(c)
	}
}

func listen() (*net.UnixListener, error) {
	dir := Directory()
	if err := supported(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := checkDirectory(dir); err != nil {
		return nil, err
	}
	sweep(dir)
	path := socketPath(os.Getpid())
	begun := path + beginning
	_ = os.Remove(begun) // of an earlier process with this number
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: begun, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false) // it would be the wrong name
	if err := errors.Join(os.Chmod(begun, 0o600), os.Rename(begun, path)); err != nil {
		_ = os.Remove(begun)
		_ = l.Close()
		return nil, err
	}
	return l, nil
}

// beginning ends the name of a socket that does not listen yet (socket 5).
const beginning = ".new"

// closeSocket closes l, the socket of this process.
func closeSocket(l *net.UnixListener) {
	_ = os.Remove(strings.TrimSuffix(l.Addr().String(), beginning))
	_ = l.Close()
}

// sweep removes the sockets of processes that have gone (socket 4).
func sweep(dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), beginning) { // its process has ended before it listened
			if i, err := e.Info(); err == nil && time.Since(i.ModTime()) > time.Minute {
				_ = os.Remove(filepath.Join(dir, e.Name()))
			}
			continue
		}
		name, found := strings.CutSuffix(e.Name(), ".sock")
		if _, err := strconv.Atoi(name); !found || err != nil {
			continue
		}
		path := filepath.Join(dir, e.Name())
		c, err := net.DialTimeout("unix", path, time.Second)
		if err == nil {
			_ = c.Close()
		} else if isRefused(err) {
			_ = os.Remove(path)
		}
	}
}

func answer(c *net.UnixConn) {
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(requestTimeout))
	reply := func(v any) { _ = json.NewEncoder(c).Encode(v) }
	fail := func(format string, args ...any) {
		reply(map[string]string{"error": fmt.Sprintf(format, args...)})
	}
	if err := checkPeer(c); err != nil {
		fail("%v", err)
		return
	}
	in := bufio.NewScanner(c)
	in.Buffer(nil, maxRequest)
	if !in.Scan() {
		if in.Err() != nil {
			fail("the request is not a line of at most %d bytes: %v", maxRequest, in.Err())
		}
		return
	}
	var ask Ask
	if err := json.Unmarshal(in.Bytes(), &ask); err != nil {
		fail("the request is not JSON: %v", err)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	if ask.Recording == nil {
		reply(Look(ctx, ask))
		return
	}
	answer, err := ask.Recording.answer(ctx)
	if err != nil {
		fail("%v", err)
		return
	}
	reply(answer)
}

// ErrNotPrepared is returned for a process that has no socket.
var ErrNotPrepared = errors.New("the process cannot be attached to")

// Attach asks a process, and returns its answer, a line of JSON.
func Attach(ctx context.Context, pid int, ask Ask) ([]byte, error) {
	dir := Directory()
	if err := checkDirectory(dir); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("%w: no process of this user has been prepared for it: there is no directory %s", ErrNotPrepared, dir)
		}
		return nil, err
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", socketPath(pid))
	if err != nil {
		if errors.Is(err, os.ErrNotExist) || isRefused(err) {
			return nil, fmt.Errorf("%w: %d has no socket in %s", ErrNotPrepared, pid, dir)
		}
		return nil, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := checkPeer(conn.(*net.UnixConn)); err != nil {
		return nil, err
	}
	if err := json.NewEncoder(conn).Encode(ask); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(conn).ReadBytes('\n')
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, fmt.Errorf("process %d: %w", pid, err)
	}
	var refusal struct{ Error string }
	if json.Unmarshal(line, &refusal) == nil && refusal.Error != "" {
		return nil, fmt.Errorf("process %d: %s", pid, refusal.Error)
	}
	return line, nil
}
