//go:build unix || js

package driver

import (
	"io"
	"io/fs"
	"os"
	"syscall"
)

// maxWrite is the most that one system call is asked to write. Some systems refuse more.
const maxWrite = 1 << 30

// writeAt writes p at off, and returns how much of it was written.
func writeAt(f *os.File, p []byte, off int64) (n int, err error) {
	conn, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	var failed error
	err = conn.Control(func(fd uintptr) {
		for {
			m, err := syscall.Pwrite(int(fd), p[n:min(n+maxWrite, len(p))], off+int64(n))
			switch {
			case err == syscall.EINTR:
				continue
			case err != nil:
				failed = &fs.PathError{Op: "write", Path: f.Name(), Err: err}
				return
			case m == 0 && n < len(p):
				failed = &fs.PathError{Op: "write", Path: f.Name(), Err: io.ErrUnexpectedEOF}
				return
			}
			if n += m; n == len(p) {
				return
			}
		}
	})
	if err != nil { // it is closed
		return 0, &fs.PathError{Op: "write", Path: f.Name(), Err: fs.ErrClosed}
	}
	return n, failed
}
