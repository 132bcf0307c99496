package main

import "syscall"

const loadExists = true

// mostFiles is how many descriptors a process may have.
func mostFiles() int {
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil {
		return 0
	}
	return int(min(r.Max, 1<<30))
}
