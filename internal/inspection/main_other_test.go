//go:build !linux && !darwin && !freebsd

package inspection_test

func isChild() bool { return false }
