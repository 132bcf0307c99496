//go:build linux || darwin || freebsd

package cli_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/inspect"
)

// Programs that are ill, each in its own way. They run in processes of their own.

// sickProgram runs the program that CLI_SICK names, if it names one, and exits.
func sickProgram() {
	programs := map[string]func(ctx context.Context) error{"deadlock": deadlock, "leak": leak, "stall": stall, "chain": chain, "grow": grow, "panic": panics}
	main, found := programs[os.Getenv("CLI_SICK")]
	if !found {
		return
	}
	go func() { // it lives as long as the test wants
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	_, err := asyncio.Run(context.Background(), asyncio.Do(main))
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// ill says that the program is as ill as it will be.
func ill() { fmt.Println("ill") }

type accounts struct{ from, to asyncio.Lock }

func (a *accounts) transfer(ctx context.Context, first, second *asyncio.Lock) error {
	if err := first.Acquire(ctx); err != nil {
		return err
	}
	defer first.Release()
	if err := asyncio.Sleep(ctx, time.Millisecond); err != nil {
		return err
	}
	if err := second.Acquire(ctx); err != nil {
		return err
	}
	defer second.Release()
	return nil
}

func deadlock(ctx context.Context) error {
	a := new(accounts)
	there := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error { return a.transfer(ctx, &a.from, &a.to) }), asyncio.TaskName("there"))
	back := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error { return a.transfer(ctx, &a.to, &a.from) }), asyncio.TaskName("back"))
	loop, err := asyncio.GetRunningLoop(ctx)
	if err != nil {
		return err
	}
	loop.CallLater(20*time.Millisecond, ill)
	asyncio.CreateTask(ctx, asyncio.Do(forever)) // else the loop would end and say what is wrong
	_, err = asyncio.Gather(ctx, there, back)
	return err
}

func forever(ctx context.Context) error { return asyncio.Sleep(ctx, time.Hour) }

func handleRequest(ctx context.Context, answers *asyncio.Queue[string]) error {
	_, err := answers.Get(ctx)
	return err
}

func leak(ctx context.Context) error {
	answers := asyncio.NewQueue[string](0)
	for range 2000 {
		asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error { return handleRequest(ctx, answers) }))
	}
	if err := asyncio.Sleep(ctx, time.Millisecond); err != nil {
		return err
	}
	ill()
	return forever(ctx)
}

func stall(ctx context.Context) error {
	asyncio.CreateTask(ctx, asyncio.Do(hash), asyncio.TaskName("hash"))
	return forever(ctx)
}

var sum int

func hash(context.Context) error {
	ill()
	for { // a step that never ends
		sum++
	}
}

func grow(ctx context.Context) error {
	jobs := asyncio.NewQueue[int](0)
	asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error { return consume(ctx, jobs) }), asyncio.TaskName("consumer"))
	producer := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error { return produce(ctx, jobs) }), asyncio.TaskName("producer"))
	_, err := producer.Await(ctx)
	return err
}

func consume(ctx context.Context, jobs *asyncio.Queue[int]) error {
	for {
		if _, err := jobs.Get(ctx); err != nil {
			return err
		}
		// The work, which takes too long.
		if err := asyncio.Sleep(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
}

func produce(ctx context.Context, jobs *asyncio.Queue[int]) error {
	for i := 0; ; i++ {
		if err := jobs.Put(ctx, i); err != nil {
			return err
		}
		if i == 5000 {
			ill()
		}
		if i%100 == 0 {
			if err := asyncio.Sleep(ctx, time.Millisecond); err != nil {
				return err
			}
		}
	}
}

func panics(ctx context.Context) error {
	asyncio.CreateTask(ctx, asyncio.Do(func(context.Context) error { panic("on purpose") }), asyncio.TaskName("unlucky"))
	ill()
	return forever(ctx)
}

func chain(ctx context.Context) error {
	store := asyncio.CreateTask(ctx, asyncio.Do(forever), asyncio.TaskName("store"))
	serve := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error { _, err := store.Await(ctx); return err }), asyncio.TaskName("serve"))
	if err := asyncio.Sleep(ctx, time.Millisecond); err != nil {
		return err
	}
	ill()
	_, err := serve.Await(ctx)
	return err
}

// sick starts a program, waits until it is ill, and returns its number.
func sick(t *testing.T, name string) (pid string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "insp") // paths of sockets must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	t.Setenv("ASYNCIOINSPECT_DIR", dir)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "CLI_SICK="+name, "ASYNCIOINSPECT=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ill\n" {
		t.Fatalf("%q, %v", line, err)
	}
	for !exists(filepath.Join(dir, strconv.Itoa(cmd.Process.Pid)+".sock")) {
		runtime.Gosched() // it is another process that makes the file
	}
	return strconv.Itoa(cmd.Process.Pid)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// screen is how much of an answer is seen at once.
const screen = 24

// TestSick: the first screen of one command names the task, its place, and the thing it waits for.
func TestSick(t *testing.T) {
	tests := []struct {
		program string
		command string
		has     []string
	}{
		{"deadlock", "stacks", []string{"wait for each other in a circle: ", "there -> back", "wait for <asyncio.Lock", "attach_test.go:", "has it"}},
		{"deadlock", "pstree", []string{"in a circle: ", "(T) there", "(T) back", "accounts).transfer", "Lock).Acquire"}},
		{"leak", "stacks", []string{"2000 wait for <Queue", "2000 × ", "handleRequest() at ", "attach_test.go:", "Task-2, "}},
		{"grow", "stacks", []string{"<Queue maxsize=0> has ", " values, 4096 of them for ", "; task producer puts some there, at ", "attach_test.go:", "produce() at "}},
		{"stall", "stacks", []string{"is stuck: task hash has not returned for at least", "attach_test.go:", "cli_test.hash("}},
		{"stall", "ps", []string{"hash", "is stuck: ", "attach_test.go:"}},
		{"stall", "pstree", []string{"stuck in task hash", "attach_test.go:"}},
		{"chain", "pstree", []string{"└── (T) Task-1\n", "└── (T) serve\n", "└── (T) store\n"}},
		{"chain", "ps", []string{"awaiter chain", "store", "serve", "Sleep -> ", "0x0", "awaiter id"}},
	}
	for _, tt := range tests {
		t.Run(tt.program+"/"+tt.command, func(t *testing.T) {
			pid := sick(t, tt.program)
			status, stdout, stderr := command(nil, tt.command, pid)
			if status != 0 {
				t.Fatalf("status %d: %s", status, stderr)
			}
			seen := strings.Join(firstLines(stdout, screen), "\n")
			for _, text := range tt.has {
				if !strings.Contains(seen, text) {
					t.Errorf("no %q in\n%s", text, seen)
				}
			}
		})
	}
}

func firstLines(text string, n int) []string {
	lines := strings.SplitAfter(text, "\n")
	return lines[:min(n, len(lines))]
}

func TestAttach_JSON(t *testing.T) {
	pid := sick(t, "chain")
	for _, name := range []string{"ps", "pstree", "stacks"} {
		status, stdout, stderr := command(nil, name, "--json", pid)
		var p inspect.Process
		if err := json.Unmarshal([]byte(stdout), &p); err != nil || status != 0 {
			t.Fatalf("%s: status %d, %v: %s", name, status, err, stderr)
		}
		if strconv.Itoa(p.PID) != pid || len(p.Loops) != 1 || p.Loops[0].Tasks != 3 {
			t.Errorf("%s: %+v", name, p)
		}
	}
}

func TestAttach_Refused(t *testing.T) {
	for _, tt := range []struct {
		args   []string
		status int
		says   string
	}{
		{[]string{"ps"}, 2, "accepts 1 arg(s), received 0"},
		{[]string{"ps", "1", "2"}, 2, "accepts 1 arg(s), received 2"},
		{[]string{"ps", "many"}, 2, `"many" is neither the number of a process nor the URL of a page`},
		{[]string{"pstree", "-1"}, 2, "unknown shorthand flag"},
		{[]string{"stacks", "0"}, 2, `"0" is neither the number of a process nor the URL of a page`},
		{[]string{"stacks", "--dump", "nowhere.txt"}, 1, "nowhere.txt"},
		{[]string{"stacks", "--dump", "nowhere.txt", "1"}, 2, `"1"`},
		{[]string{"stacks", "--dump", os.DevNull}, 1, "there is no task in it"},
		{[]string{"ps", strconv.Itoa(os.Getpid())}, 1, "import github.com/goasyncio/asyncio/inspect"},
	} {
		t.Setenv("ASYNCIOINSPECT_DIR", filepath.Join(t.TempDir(), "none"))
		status, stdout, stderr := command(nil, tt.args...)
		if status != tt.status || !strings.Contains(stderr, tt.says) || stdout != "" {
			t.Errorf("%v: status %d\n%s%s", tt.args, status, stdout, stderr)
		}
	}
}

// The text that a program prints at SIGQUIT is grouped by task.
func TestStacks_Dump(t *testing.T) {
	file := filepath.Join(t.TempDir(), "dump")
	dump, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	dumped := exec.Command(os.Args[0])
	dumped.Env = append(os.Environ(), "CLI_SICK=leak", "GOTRACEBACK=all")
	dumped.Stderr = dump
	in, err := dumped.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := dumped.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := dumped.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	_ = dumped.Process.Signal(syscall.SIGQUIT)
	_ = dumped.Wait()
	_ = in.Close()
	_ = dump.Close()
	status, stdout, stderr := command(nil, "stacks", "--dump", file)
	if status != 0 || !strings.Contains(stdout, "2000 × ") || !strings.Contains(stdout, "handleRequest() at ") || !strings.Contains(stdout, "other goroutines") {
		t.Errorf("status %d\n%s%s", status, stdout, stderr)
	}
}
