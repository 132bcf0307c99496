//go:build !unix

package driver

// nonblock is zero: there is no such flag here.
const nonblock = 0
