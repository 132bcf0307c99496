//go:build linux || darwin || freebsd

package cli_test

import (
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// A process that has no recorder is recorded for a while, and what was written can be read again.
func TestRecord(t *testing.T) {
	pid := sick(t, "leak")
	dir := t.TempDir()
	file := filepath.Join(dir, "leak.asyncrec")
	if status, _, stderr := command(nil, "record", pid, "-o", file); status != 1 || !strings.Contains(stderr, "ASYNCIORECORD=1") {
		t.Errorf("without a recorder: status %d: %s", status, stderr)
	}
	if status, _, stderr := command(nil, "record", pid, "--seconds", "0.05", "-o", file); status != 0 {
		t.Fatalf("status %d: %s", status, stderr)
	}
	for _, tt := range []struct{ ending, has string }{{".html", "leak.func1"}, {".json", "leak.func1"}, {".pftrace", "Task-2"}} {
		out := filepath.Join(dir, "out"+tt.ending)
		if status, stdout, stderr := command(nil, "record", "--read", file, "-o", out); status != 0 || stdout != out+"\n" {
			t.Fatalf("%s: status %d: %s", tt.ending, status, stderr)
		}
		text, err := os.ReadFile(out)
		if err != nil || !strings.Contains(string(text), tt.has) {
			t.Errorf("%s: %v, no %q in %d bytes", tt.ending, err, tt.has, len(text))
		}
	}
	if status, _, _ := command(nil, "record", pid); status != 1 { // it is off again
		t.Errorf("after the recording: status %d", status)
	}
}

// A process writes a recording when a task panics, and when the signal comes that it was told of.
func TestRecord_OfTrouble(t *testing.T) {
	for _, tt := range []struct{ program, signal, why, has string }{
		{"panic", "", "a panic", "unlucky"},
		{"leak", "usr2", "SIGUSR2", "leak.func1"},
	} {
		t.Run(tt.program, func(t *testing.T) {
			dir := t.TempDir()
			t.Setenv("ASYNCIORECORD", "1")
			t.Setenv("ASYNCIORECORD_DIR", dir)
			t.Setenv("ASYNCIORECORD_SIGNAL", tt.signal)
			pid := sick(t, tt.program)
			if tt.signal != "" {
				number, err := strconv.Atoi(pid)
				if err != nil {
					t.Fatal(err)
				}
				if err := syscall.Kill(number, syscall.SIGUSR2); err != nil {
					t.Fatal(err)
				}
			}
			file := filepath.Join(dir, filepath.Base(os.Args[0])+"-"+pid+"-1.asyncrec")
			for !exists(file) {
				runtime.Gosched()
			}
			out := filepath.Join(dir, "out.html")
			if status, _, stderr := command(nil, "record", "--read", file, "-o", out); status != 0 {
				t.Fatalf("status %d: %s", status, stderr)
			}
			page, err := os.ReadFile(out)
			if err != nil || !strings.Contains(string(page), tt.has) || !strings.Contains(string(page), tt.why) {
				t.Errorf("%v, no %q or %q in %d bytes", err, tt.has, tt.why, len(page))
			}
			if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%v, %v", info.Mode(), err)
			}
		})
	}
}

func TestRecord_Refused(t *testing.T) {
	broken := filepath.Join(t.TempDir(), "broken.asyncrec")
	if err := os.WriteFile(broken, []byte("asyncrec\x01\x00\x00\x00\x00\x00\x00\x00\x00"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	for _, tt := range []struct {
		args   []string
		status int
		says   string
	}{
		{[]string{"record"}, 2, "accepts 1 arg(s)"},
		{[]string{"record", "x"}, 2, "is neither the number of a process"},
		{[]string{"record", "1", "-o", "out.txt"}, 2, "must end with .html"},
		{[]string{"record", "1", "--seconds", "NaN"}, 2, "a number from 0 to 3600"},
		{[]string{"record", "1", "--read", broken}, 2, "unknown command"},
		{[]string{"record", "--read", broken}, 1, "incomplete, or was changed"},
		{[]string{"record", "--read", "none.asyncrec"}, 1, "no such file"},
	} {
		if status, _, stderr := command(nil, tt.args...); status != tt.status || !strings.Contains(stderr, tt.says) {
			t.Errorf("%q: status %d: %s", tt.args, status, stderr)
		}
	}
}
