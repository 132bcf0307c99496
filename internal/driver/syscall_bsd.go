//go:build darwin || freebsd

package driver

import "syscall"

func read(fd int, p []byte) (int, syscall.Errno) {
	n, err := syscall.Read(fd, p)
	return n, errnoOf(err)
}

func write(fd int, p []byte) (int, syscall.Errno) {
	n, err := syscall.Write(fd, p)
	return n, errnoOf(err)
}

func errnoOf(err error) syscall.Errno {
	if err == nil {
		return 0
	}
	return err.(syscall.Errno)
}

func accept(fd int) (int, syscall.Sockaddr, error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	c, sa, err := syscall.Accept(fd)
	if err != nil {
		return -1, nil, err
	}
	syscall.CloseOnExec(c)
	if err := syscall.SetNonblock(c, true); err != nil {
		syscall.Close(c)
		return -1, nil, err
	}
	return c, sa, nil
}

const optionsInherited = false

// keepAliveOptions is empty: the system's defaults stay.
var keepAliveOptions []struct{ name, value int }
