//go:build !unix

package driver

// nonblock is nothing that a file can be opened with.
const nonblock = 0
