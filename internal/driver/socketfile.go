package driver

import (
	"net"
	"os"
)

// socketFile is the file of a listening Unix socket. It is removed with the listener if it is still that
// one: another server may have taken its place.
type socketFile struct {
	path string // empty if there is none
	info os.FileInfo
}

// fileOf takes the file over from l.
func fileOf(l net.Listener) (f socketFile) {
	u, ok := l.(*net.UnixListener)
	if !ok {
		return f
	}
	name := l.Addr().String()
	if name == "" || name[0] == '@' || name[0] == 0 {
		return f
	}
	if info, err := os.Stat(name); err == nil {
		u.SetUnlinkOnClose(false)
		f.path, f.info = name, info
	}
	return f
}

func (f *socketFile) remove() {
	if f.path == "" {
		return
	}
	if now, err := os.Stat(f.path); err == nil && os.SameFile(now, f.info) {
		os.Remove(f.path)
	}
	f.path = ""
}
