package vm

import (
	"context"
	"strings"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/lab/internal/syntax"
)

// display shows the value of an expression at the prompt, and keeps it as _.
func (in *Interp) display(th *Thread, v Value) error {
	s, err := th.repr(v)
	if err != nil {
		return err
	}
	in.main.ns.set("_", v)
	return in.write(th, s+"\n")
}

// A Session is a prompt: what is entered runs on one loop, with await at the top.
type Session struct {
	in   *Interp
	loop *loopObj
	src  []string
}

// NewSession makes a session. Module asyncio is imported already.
func NewSession(cfg Config) *Session {
	cfg.File = "<console>"
	in := New(cfg)
	s := &Session{in: in, loop: in.newLoop()}
	in.setLoop(s.loop)
	th := &Thread{in: in, ctx: in.cfg.Context}
	if m, err := in.importModule(th, "asyncio"); err == nil {
		in.main.ns.set("asyncio", m)
	}
	return s
}

// Incomplete reports whether src needs more lines: it ends inside brackets, a string or a block.
func Incomplete(src string) bool {
	_, err := syntax.Parse(src)
	lines := strings.Split(strings.TrimRight(src, "\n"), "\n")
	last := lines[len(lines)-1]
	if err == nil {
		// a block ends with an empty line
		return len(lines) > 1 && (strings.HasPrefix(last, " ") || strings.HasPrefix(last, "\t")) && !strings.HasSuffix(src, "\n\n")
	}
	e, ok := err.(*syntax.Error)
	if !ok {
		return false
	}
	return strings.Contains(e.Msg, "was never closed") || strings.Contains(e.Msg, "unterminated triple") ||
		strings.HasPrefix(e.Msg, "expected an indented block") || strings.Contains(e.Msg, "expected 'except' or 'finally'") && !strings.HasSuffix(src, "\n\n")
}

// Enter runs what has been entered. It reports whether the session goes on; status is that of its
// end.
func (s *Session) Enter(src string) (status int, more bool) {
	in := s.in
	in.lines = strings.Split(src, "\n")
	body, err := syntax.Parse(src)
	if err != nil {
		in.report(nil, err)
		return 0, true
	}
	code, err := compile(body, in.file, &compiler{echo: true, toplev: true, lines: in.hooks != nil})
	if err != nil {
		in.report(nil, err)
		return 0, true
	}
	f := newFrame(code, in.main.ns)
	f.module = in.main
	coro := &Gen{kind: isCoroutine, frame: f, name: "<module>", qual: "<module>", code: code, in: in, awaited: true}
	th := &Thread{in: in, ctx: in.cfg.Context}
	fut := asyncio.CreateTask(s.loop.l.Context(), func(ctx context.Context) (Value, error) {
		t := &Thread{in: in, ctx: ctx}
		t.task = &Object{cls: taskClass, native: &future{loop: s.loop, name: "prompt", coro: coro}}
		return t.drive(coro)
	}, asyncio.TaskName("prompt"))
	_, err = in.running(th, s.loop, func() (Value, error) { return asyncio.RunUntilComplete[Value](s.loop.l, fut) })
	if err != nil {
		if isExc(err, "SystemExit") {
			return in.report(th, err), false
		}
		status := in.report(th, err)
		if in.fatal != nil {
			return status, status == StatusOutside && s.revive()
		}
	}
	return 0, true
}

// revive goes on after something outside the subset.
func (s *Session) revive() bool {
	s.in.fatal = nil
	return true
}

// Close ends the session.
func (s *Session) Close() {
	s.in.finish(&Thread{in: s.in, ctx: s.in.cfg.Context}, nil)
}
