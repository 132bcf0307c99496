//go:build !linux

package driver_test

var keepAlives []option
