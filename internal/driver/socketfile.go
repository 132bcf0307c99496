package driver

import (
	"errors"
	"net"
	"os"
)

// socketFile is the file of a listening Unix socket, if it belongs to the program. It is removed
// with the listener, and before the listener's descriptor is closed: until then no other file can
// have its file number, which distinguishes it from the file of a server that has taken its place.
type socketFile struct {
	path string // empty if there is none
	info os.FileInfo
}

// fileOf takes the file over from l. If the file is not the program's, its owner keeps it for good.
func fileOf(l net.Listener, named bool) (f socketFile) {
	u, ok := l.(*net.UnixListener)
	if !ok {
		return f
	}
	u.SetUnlinkOnClose(false)
	name := l.Addr().String()
	if !named || !hasFile(name) {
		return f
	}
	if info, err := os.Stat(name); err == nil {
		f.path, f.info = name, info
	}
	return f
}

// hasFile reports whether a Unix socket of that name is a file, and not a name that only the kernel
// knows.
func hasFile(name string) bool { return name != "" && name[0] != '@' && name[0] != 0 }

// RemoveStale removes the file that a dead server has left at the address of a Unix socket.
func RemoveStale(name string) error {
	if !hasFile(name) {
		return nil
	}
	info, err := os.Stat(name)
	if err == nil && info.Mode()&os.ModeSocket != 0 {
		err = os.Remove(name)
	}
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
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
