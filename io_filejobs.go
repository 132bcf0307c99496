package asyncio

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/goasyncio/asyncio/internal/driver"
)

// Operations on files are carried out by the executor, by goroutines, or by a simulated disk. The
// rules are in io_files.go.

// filePlace says where files are and which executor works on them.
type filePlace struct {
	loop *EventLoop
	disk driver.Disk // nil for the operating system's
	fs   driver.FileSystem
	by   Executor // nil for the default executor
}

func filesOf(ctx context.Context, caller string) (filePlace, error) {
	t, err := enter(ctx, caller)
	if err != nil {
		return filePlace{}, err
	}
	at := filePlace{loop: t.loop(), fs: driver.OS{}}
	if s, ok := at.loop.drv.(driver.Storage); ok {
		at.disk = s.Disk()
		at.fs = at.disk
	}
	return at, nil
}

// A filePart is one operation of a job.
type filePart struct {
	op     driver.Operation
	fn     func() error
	always bool // also after another part has failed
}

// A fileJob is a job of a File.
type fileJob struct {
	f    *File
	line *fileLine // nil if it has none (file 5)
	late func()    // nil, or called on the loop when the job has ended after its wait
}

// do runs the parts as one job, for j if that is not nil, and suspends the current task until the
// job has ended. The error is that of the parts, unless the wait was ended: then the job may still
// be at work (file 2). ended is nil or called on the loop when the job has ended or will never
// begin.
func (at filePlace) do(ctx context.Context, j *fileJob, ended func(), parts ...filePart) error {
	over, abandoned := false, false
	if j != nil {
		j.f.underWay++
	}
	fut, withdraw := at.start(ctx, parts, func() {
		over = true
		if ended != nil {
			ended()
		}
		if j != nil {
			j.end(abandoned)
		}
	})
	_, err := fut.Await(ctx)
	if over {
		if err != nil && j != nil && j.late != nil {
			j.late()
		}
		return err
	}
	if !withdraw() && j != nil {
		abandoned = true
		if j.line != nil {
			j.line.abandoned++
		}
	}
	if !fut.Done() {
		fut.Cancel()
	}
	return err
}

func (j *fileJob) end(abandoned bool) {
	j.f.underWay--
	if abandoned {
		if j.line != nil {
			j.line.abandoned--
		}
		if j.late != nil {
			j.late()
		}
	}
	j.f.settle()
}

// errOpeningWaits says that the opening must go to the executor for openings. No caller sees it.
var errOpeningWaits = errors.New("opening may take for ever")

// open runs the parts as one job. The first part opens name.
func (at filePlace) open(ctx context.Context, name string, flag int, parts ...filePart) error {
	if at.disk != nil {
		return at.do(ctx, nil, nil, parts...)
	}
	look := filePart{fn: func() error {
		if at.fs.OpeningWaits(name, flag) {
			return errOpeningWaits
		}
		return nil
	}}
	if err := at.do(ctx, nil, nil, append([]filePart{look}, parts...)...); err != errOpeningWaits {
		return err
	}
	return filesOfLoop.of(at.loop).openings.do(ctx, at, name, parts)
}

// openings holds the openings of a loop that may take for ever (file 8).
type openings struct {
	by  *ThreadPoolExecutor
	all map[*opening]struct{} // openings that are not over
}

type opening struct {
	name string
	over atomic.Bool // the file is open or has failed to; later parts do not count
}

func (o *openings) do(ctx context.Context, at filePlace, name string, parts []filePart) error {
	if o.by == nil {
		o.by = NewThreadPoolExecutor(maxOpenings)
		o.all = make(map[*opening]struct{})
	}
	at.by = o.by
	this := &opening{name: name}
	o.all[this] = struct{}{}
	open := parts[0].fn
	parts[0].fn = func() error {
		defer this.over.Store(true)
		return open()
	}
	return at.do(ctx, nil, func() { delete(o.all, this) }, parts...)
}

// leave reports the openings that are left when the loop closes (file 8).
func (o *openings) leave(l *EventLoop) {
	if o.by == nil {
		return
	}
	o.by.Shutdown(false)
	left := make(map[string]int)
	for this := range o.all {
		if !this.over.Load() {
			left[this.name]++
		}
	}
	for _, name := range slices.Sorted(maps.Keys(left)) {
		l.CallExceptionHandler(ExceptionContext{
			Message: fmt.Sprintf("opening %s is left behind, %d times: it waits for another process to open the other end; "+
				"open it with syscall.O_NONBLOCK, or see to it that somebody does", reprString(name), left[name]),
		})
	}
}

// goroutines is the executor for devices (file 8).
type goroutines struct{}

func (goroutines) Submit(job func()) error { go job(); return nil }
func (goroutines) Shutdown(bool)           {}

// start starts a job (file 1). ended is called on the loop when the job has ended or was withdrawn.
func (at filePlace) start(ctx context.Context, parts []filePart, ended func()) (_ *Future[None], withdraw func() bool) {
	fut := &Future[None]{future: future{loop: at.loop}}
	if at.disk != nil {
		s := &diskJob{fut: fut, disk: at.disk, parts: parts, ended: ended}
		at.loop.schedule(s, nil)
		return fut, s.withdraw
	}
	j := &threadJob[None]{ctx: ctx, fut: fut, ended: ended, fn: func() (None, error) {
		var err error
		for _, p := range parts {
			err = p.after(err)
		}
		return None{}, err
	}}
	j.start(at.by)
	return fut, j.withdraw
}

// after runs p behind parts that have ended with err.
func (p *filePart) after(err error) error {
	if err != nil && !p.always {
		return err
	}
	if e := p.fn(); err == nil {
		err = e
	}
	return err
}

// A diskJob is a job on a simulated disk.
type diskJob struct {
	fut   *Future[None]
	disk  driver.Disk
	parts []filePart // the parts that are not over
	ended func()
	err   error

	started, withdrawn bool

	phase diskPhase // of the first part
	rest  time.Duration
	timer timer
}

type diskPhase uint8

const (
	arriving diskPhase = iota // at the disk
	acting                    // there
	leaving                   // for the task
)

func (s *diskJob) withdraw() bool {
	if s.started || s.withdrawn {
		return false
	}
	s.withdrawn = true
	s.ended()
	return true
}

// fire goes on with the job until time has to go by. If the disk takes no time, each part is one
// step.
func (s *diskJob) fire(*future) {
	if !s.started && s.fut.state != pending {
		s.withdraw()
	}
	if s.withdrawn {
		return
	}
	s.started = true
	p := &s.parts[0]
	switch s.phase {
	case arriving:
		if s.err == nil || p.always {
			var before time.Duration
			before, s.rest = s.disk.Latency(p.op)
			s.phase = acting
			if s.pause(before) {
				return
			}
		}
		fallthrough
	case acting:
		s.phase = leaving
		s.err = p.after(s.err)
		if s.pause(s.rest) {
			return
		}
		fallthrough
	case leaving:
		s.phase, s.rest = arriving, 0
		s.parts = s.parts[1:]
		if len(s.parts) > 0 {
			s.fut.loop.schedule(s, nil)
			return
		}
		s.ended()
		if s.fut.state == pending {
			s.fut.finish(s.err)
		}
	}
}

// pause lets d go by before the job goes on, and reports whether d is positive.
func (s *diskJob) pause(d time.Duration) bool {
	if d <= 0 {
		return false
	}
	s.timer.when, s.timer.cb = s.fut.loop.after(d), s
	s.fut.loop.setTimer(&s.timer)
	return true
}

func (s *diskJob) String() string {
	if len(s.parts) == 0 {
		return "file operation"
	}
	return s.parts[0].op.String()
}

func (s *diskJob) readyName() string { return s.String() }
