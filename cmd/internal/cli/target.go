package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/goasyncio/asyncio/inspect"
)

// A target is a process to look at: one of this machine, by its number, or one that serves the page
// of package inspect.
type target struct {
	pid  int
	page *url.URL // nil if it is by number; ends with a slash
}

// pagePath is where the page is by default.
const pagePath = "/debug/asyncio/"

// maxPage bounds what is read from a URL, in bytes.
const maxPage = 1 << 30

// eachOfPage is for how many tasks of a loop a page can be asked one by one.
const eachOfPage = 10_000

// newTarget reads an argument, "4711" or "http://host:8080/debug/asyncio/". The path may be left
// out.
func newTarget(arg string) (target, error) {
	if strings.Contains(arg, "://") {
		u, err := url.Parse(arg)
		if err != nil {
			return target{}, usageError(err.Error())
		}
		if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return target{}, usageError(fmt.Sprintf("%q is not a URL of a page: it begins with http:// or https:// and a host", arg))
		}
		if u.Path == "" || u.Path == "/" {
			u.Path = pagePath
		}
		if !strings.HasSuffix(u.Path, "/") {
			u.Path += "/"
		}
		return target{page: u}, nil
	}
	pid, err := strconv.Atoi(arg)
	if err != nil || pid <= 0 {
		return target{}, usageError(fmt.Sprintf("%q is neither the number of a process nor the URL of a page", arg))
	}
	return target{pid: pid}, nil
}

func (t target) String() string {
	if t.page != nil {
		return t.page.Redacted()
	}
	return strconv.Itoa(t.pid)
}

// look asks the process what it is doing, with so many tasks of each loop one by one.
func (t target) look(ctx context.Context, each int) (*inspect.Process, error) {
	ctx, cancel := context.WithTimeout(ctx, attachTimeout)
	defer cancel()
	if t.page == nil {
		p, err := inspect.Attach(ctx, t.pid, inspect.Each(each))
		return p, t.unprepared(err)
	}
	body, err := t.get(ctx, "json?each="+strconv.Itoa(min(each, eachOfPage)))
	if err != nil {
		return nil, err
	}
	defer body.Close()
	p := new(inspect.Process)
	if err := json.NewDecoder(io.LimitReader(body, maxPage)).Decode(p); err != nil || p.PID == 0 {
		return nil, fmt.Errorf("what is served at %s is not the page of package inspect", t.page.Redacted())
	}
	return p, nil
}

// record takes what the recorders of the process hold, after they have been on for d.
func (t target) record(ctx context.Context, d time.Duration) (*inspect.Recording, error) {
	ctx, cancel := context.WithTimeout(ctx, d+attachTimeout)
	defer cancel()
	if t.page == nil {
		r, err := inspect.AttachRecording(ctx, t.pid, d)
		return r, t.unprepared(err)
	}
	if d > 0 {
		return nil, usageError("--seconds needs the number of a process: through its page no recorder can be switched on")
	}
	body, err := t.get(ctx, "recording?format=file")
	if err != nil {
		return nil, err
	}
	defer body.Close()
	return inspect.ReadRecording(body)
}

// get asks the page for something below it.
func (t target) get(ctx context.Context, below string) (io.ReadCloser, error) {
	u, err := t.page.Parse(below)
	if err != nil {
		return nil, err
	}
	u.User = t.page.User // Parse has dropped it
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		defer res.Body.Close()
		text, _ := io.ReadAll(io.LimitReader(res.Body, 1000))
		line, _, _ := strings.Cut(string(text), "\n")
		return nil, fmt.Errorf("%s answers %s: %s", t.page.Redacted(), res.Status, shown(line))
	}
	return res.Body, nil
}

// unprepared says what can be done about a process that was not prepared.
func (t target) unprepared(err error) error {
	if !errors.Is(err, inspect.ErrNotPrepared) {
		return err
	}
	return fmt.Errorf("%w\n%s\nOf a process that was not prepared, SIGQUIT prints all goroutines and ends it (kill -QUIT %d);\n"+
		"give that text to asyncio stacks --dump. A debugger (dlv attach %[3]d) stops it for a look", err, prepared, t.pid)
}

// failed gives an error, unless it has one, the status with which the command exits.
func failed(err error) error {
	if _, has := errors.AsType[*failure](err); has || err == nil {
		return err
	}
	if u, ok := errors.AsType[usageError](err); ok {
		return u
	}
	return &failure{statusFailure, err}
}
