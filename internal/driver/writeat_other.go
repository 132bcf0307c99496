//go:build !unix && !js

package driver

import "os"

// writeAt writes p at off, and returns how much of it was written. Each system call writes all or
// nothing.
func writeAt(f *os.File, p []byte, off int64) (n int, err error) {
	for {
		m, err := f.WriteAt(p[n:min(n+1<<20, len(p))], off+int64(n))
		n += m
		if err != nil || n == len(p) {
			return n, err
		}
	}
}
