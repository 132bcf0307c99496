//go:build !linux && !darwin && !freebsd

package driver_test

import "errors"

var noDelay, keepAlive, readBuffer, writeBuffer option

func getOption(fd uintptr, level, name int) (int, error) { return 0, errors.ErrUnsupported }
