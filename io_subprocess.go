package asyncio

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"sync/atomic"

	"github.com/goasyncio/asyncio/internal/driver"
)

// A Stdio says where a standard stream of a subprocess is connected: [Pipe], [DevNull], [ToStdout],
// or, if it is not negative, a descriptor of this program, as in Stdout(asyncio.Stdio(file.Fd())).
// The descriptor is duplicated before anything suspends. Python: the values of stdin, stdout and
// stderr.
type Stdio int

const (
	// Pipe is a pipe whose other end is [Process.Stdin], [Process.Stdout] or [Process.Stderr].
	// Python: PIPE.
	Pipe Stdio = -1

	// ToStdout sends stderr where stdout goes. Python: STDOUT.
	ToStdout Stdio = -2

	// DevNull is the null device: reads return io.EOF and writes are discarded. Python: DEVNULL.
	DevNull Stdio = -3

	inherited Stdio = -4
)

// A SubprocessOption is an option of [CreateSubprocessExec] and [CreateSubprocessShell]. Any
// goroutine may make one.
type SubprocessOption struct {
	stream  int8 // 1 to 3 for stdin, stdout and stderr
	to      Stdio
	env     []string
	dir     string
	files   []*os.File
	limit   int
	session bool
	joined  bool // leaves it in the group of this program
}

// Stdin connects the standard input of the process. Without it, the process shares this program's.
func Stdin(from Stdio) SubprocessOption { return SubprocessOption{stream: 1, to: from} }

// Stdout is [Stdin] for the standard output.
func Stdout(to Stdio) SubprocessOption { return SubprocessOption{stream: 2, to: to} }

// Stderr is [Stdin] for the standard error stream, which can also go to [ToStdout].
func Stderr(to Stdio) SubprocessOption { return SubprocessOption{stream: 3, to: to} }

// SubprocessEnv sets the environment of the process, as "NAME=value", in place of this program's.
// Python: env.
func SubprocessEnv(variables ...string) SubprocessOption {
	return SubprocessOption{env: append([]string{}, variables...)}
}

// SubprocessDir sets the directory in which the process starts. Python: cwd.
func SubprocessDir(path string) SubprocessOption { return SubprocessOption{dir: path} }

// ExtraFiles gives files to the process, as its descriptors 3, 4, and so on. Python: pass_fds.
func ExtraFiles(files ...*os.File) SubprocessOption { return SubprocessOption{files: files} }

// PipeLimit sets the limit of the readers of the process's pipes; see [StreamLimit]. It must be
// positive.
func PipeLimit(bytes int) SubprocessOption { return SubprocessOption{limit: StreamLimit(bytes).limit} }

// StartNewSession makes the process the leader of a session, without a terminal. Python:
// start_new_session=True.
func StartNewSession() SubprocessOption { return SubprocessOption{session: true} }

// SameProcessGroup leaves the process in the group of this program. So signals that a terminal
// sends to its foreground (Ctrl-C) reach it, and it may read the terminal. Then the end of the
// scope kills the process alone, and the processes that it has started live on. Python's default.
func SameProcessGroup() SubprocessOption { return SubprocessOption{joined: true} }

// CreateSubprocessExec starts a program. Name is looked up in PATH, unless it contains a slash;
// args do not include it. Unless options say otherwise the process has this program's standard
// streams, environment and directory, no other descriptor, and a group of its own. It is killed
// with its scope; see [Process].
//
// To keep other descriptors out, starting a process marks those that this program itself has
// inherited close-on-exec, for good. So children that package os/exec starts afterwards do not get
// them by accident either, nor does a program that takes this one's place by [syscall.Exec], unless
// the mark is taken off first. To pass one on, use [ExtraFiles]. Python: close_fds=True.
//
// CreateSubprocessExec must be called in a task, which it suspends while the program is started. A
// cancel, or the end of ctx, meanwhile leaves no process and no pipe behind. Errors are those of
// os/exec (such as [exec.ErrNotFound], [os.ErrPermission]), of system calls (out of descriptors, of
// processes), [ErrInvalidArgument], [ErrNotInTask], [ErrNoRunningLoop], and [errors.ErrUnsupported]
// on virtual time and where there are no process groups (Windows). Python:
// asyncio.create_subprocess_exec.
func CreateSubprocessExec(ctx context.Context, name string, args []string, opts ...SubprocessOption) (*Process, error) {
	const caller = "CreateSubprocessExec"
	if name == "" {
		return nil, fmt.Errorf("%w: no program (in %s)", ErrInvalidArgument, caller)
	}
	return createSubprocess(ctx, name, args, opts, caller)
}

// CreateSubprocessShell is [CreateSubprocessExec] for a command line of /bin/sh. Quote text from
// others in it. Python: asyncio.create_subprocess_shell.
func CreateSubprocessShell(ctx context.Context, command string, opts ...SubprocessOption) (*Process, error) {
	return createSubprocess(ctx, "/bin/sh", []string{"-c", command}, opts, "CreateSubprocessShell")
}

func createSubprocess(ctx context.Context, name string, args []string, opts []SubprocessOption, caller string) (*Process, error) {
	if _, err := enter(ctx, caller); err != nil {
		return nil, err
	}
	l := loopOf(ctx)
	procs, ok := l.drv.(driver.Processes)
	if !ok {
		return nil, fmt.Errorf("asyncio: %w: a loop on virtual time has no subprocesses (in %s)", errors.ErrUnsupported, caller)
	}
	if _, err := socketsOf(ctx, caller); err != nil {
		return nil, err
	}
	s := &subprocessStart{name: name, args: slices.Clone(args), stdio: [3]Stdio{inherited, inherited, inherited}, limit: DefaultStreamLimit}
	s.apply(opts)
	if s.stdio[0] == ToStdout || s.stdio[1] == ToStdout || slices.Min(s.stdio[:]) < inherited {
		return nil, fmt.Errorf("%w: standard streams %v (in %s)", ErrInvalidArgument, s.stdio, caller)
	}
	p := &Process{loop: l}
	started := false
	defer func() {
		if !started {
			p.closePipes()
			s.giveUp()
		}
	}()
	if err := s.open(p, procs); err != nil {
		return nil, fmt.Errorf("asyncio: starting %s: %w", name, unsupported(err))
	}
	c, err := openOutside(ctx, func(context.Context) (newChild, error) { return s.run(procs) })
	if err != nil {
		return nil, err
	}
	started = true
	p.begin(ctx, c.Child)
	return p, nil
}

// subprocessStart holds everything needed to start a process.
type subprocessStart struct {
	name    string
	args    []string
	stdio   [3]Stdio
	env     []string
	dir     string
	limit   int
	session bool
	joined  bool
	extra   []*os.File // the caller's files

	files [3]*os.File // of the child, its standard streams
	more  []*os.File  // of the child, duplicates of extra
	// own are the files above that were opened here. Whoever sets taken first closes them: the
	// goroutine that starts the process, or, if it never does, the task.
	own   []*os.File
	taken atomic.Bool
}

func (s *subprocessStart) apply(opts []SubprocessOption) {
	for _, o := range opts {
		if o.stream > 0 {
			s.stdio[o.stream-1] = o.to
		}
		if o.env != nil {
			s.env = o.env
		}
		if o.dir != "" {
			s.dir = o.dir
		}
		if o.limit > 0 {
			s.limit = o.limit
		}
		s.extra = append(s.extra, o.files...)
		s.session = s.session || o.session
		s.joined = s.joined || o.joined
	}
}

// open opens the files that the standard streams are connected to.
func (s *subprocessStart) open(p *Process, procs driver.Processes) (err error) {
	for i, to := range s.stdio {
		var f *os.File
		switch to {
		case inherited:
			s.files[i] = [...]*os.File{os.Stdin, os.Stdout, os.Stderr}[i]
			continue
		case ToStdout:
			s.files[i] = s.files[1]
			continue
		case Pipe:
			var end driver.Endpoint
			if end, f, err = procs.OpenPipe(i > 0); err == nil {
				p.connect(i, end, s.limit)
			}
		case DevNull:
			f, err = os.OpenFile(os.DevNull, os.O_RDWR, 0)
		default:
			f, err = driver.Duplicate(uintptr(to))
		}
		if err != nil {
			return err
		}
		s.files[i] = f
		s.own = append(s.own, f)
	}
	for _, f := range s.extra {
		d, err := driver.Duplicate(f.Fd())
		if err != nil {
			return err
		}
		s.more = append(s.more, d)
		s.own = append(s.own, d)
	}
	return nil
}

// giveUp closes the child's files, unless the goroutine that starts the process does.
func (s *subprocessStart) giveUp() {
	if !s.taken.Swap(true) {
		s.close()
	}
}

func (s *subprocessStart) close() {
	for _, f := range s.own {
		f.Close()
	}
}

// run starts the process, on a goroutine.
func (s *subprocessStart) run(procs driver.Processes) (newChild, error) {
	if s.taken.Swap(true) {
		return newChild{}, context.Canceled // the task has left, and nobody gets this error
	}
	defer s.close()
	cmd := exec.Command(s.name, s.args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = s.files[0], s.files[1], s.files[2]
	cmd.Env, cmd.Dir, cmd.ExtraFiles = s.env, s.dir, s.more
	if s.session {
		if err := driver.NewSession(cmd); err != nil {
			return newChild{}, unsupported(err)
		}
	}
	c, err := procs.StartProcess(cmd, !s.joined)
	return newChild{c}, unsupported(err)
}

// newChild is a process on its way to the task that asked for it.
type newChild struct{ *driver.Child }

// Close ends a process whose task no longer waits for it.
func (c newChild) Close() error {
	_ = c.SignalGroup(os.Kill)
	c.Abandon()
	return nil
}
