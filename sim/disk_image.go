package sim

import (
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"syscall"
)

// Copies of disks, for the next run, another host or the test's eyes.

// A DiskImage is a copy of a disk. It is a file system of package io/fs, so [fs.ReadFile],
// [fs.WalkDir] and [os.CopyFS] read it. It does not change, belongs to no run, and any goroutine
// may use it. Make one with [Disk.Snapshot], and put it on a disk with [Disk.Restore].
type DiskImage struct{ root *imageNode }

// An imageNode is a file or a directory of an image.
type imageNode struct {
	diskInfo
	content  fileContent
	children map[string]*imageNode
}

// Snapshot returns a copy of the disk as programs see it at this moment.
func (d *Disk) Snapshot() *DiskImage { return &DiskImage{d.root.image("/", false)} }

// SnapshotDurable returns a copy of the disk as it would be after a power failure that loses all it
// can.
func (d *Disk) SnapshotDurable() *DiskImage { return &DiskImage{d.root.image("/", true)} }

func (n *inode) image(name string, durable bool) *imageNode {
	content, entries := n.data, n.entries
	if durable {
		content, entries = n.safe, n.durable
	}
	node := &imageNode{diskInfo: n.info(name).(diskInfo), content: content.clone()}
	node.diskInfo.size = content.size
	if n.dir() {
		node.children = make(map[string]*imageNode)
		for part, child := range entries {
			node.children[part] = child.image(part, durable)
		}
	}
	return node
}

// Restore replaces everything on the disk by the files of fsys, durably: those of a [DiskImage],
// perhaps of another run, or of any other file system, such as [os.DirFS] of a directory that
// production has left. It fails with [syscall.EBUSY] if the host's program has a file open, and
// then, as with the errors of fsys, changes nothing. A program that has just been started by
// [NewHost] or [Host.Restart] runs when the calling task awaits next: until then, the disk can be
// restored for it. What the disk can hold is not checked.
func (d *Disk) Restore(fsys fs.FS) error {
	if len(d.mounted.open) > 0 {
		return pathError("restore", d.mounted.open[0].name, syscall.EBUSY)
	}
	image, ok := fsys.(*DiskImage)
	if !ok {
		var err error
		if image, err = imageOf(fsys); err != nil {
			return err
		}
	}
	d.changes, d.dirty, d.used = nil, nil, 0
	d.root = d.inodeOf(image.root)
	return nil
}

// inodeOf makes the inode of an image's node and everything below it.
func (d *Disk) inodeOf(node *imageNode) *inode {
	n := d.newInode(node.mode)
	n.links, n.mtime = 1, node.mtime
	n.data, n.safe = node.content.clone(), node.content.clone()
	d.used += int64(len(n.data.sectors))
	for part, child := range node.children {
		n.entries[part] = d.inodeOf(child)
	}
	if n.dir() {
		n.durable = maps.Clone(n.entries)
	}
	return n
}

// imageOf copies a file system.
func imageOf(fsys fs.FS) (*DiskImage, error) {
	nodes := make(map[string]*imageNode)
	err := fs.WalkDir(fsys, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		node := &imageNode{diskInfo: diskInfo{name: path.Base(name), mode: info.Mode(), mtime: info.ModTime()}}
		switch {
		case info.IsDir():
			node.children = make(map[string]*imageNode)
		case !info.Mode().IsRegular():
			return pathError("restore", name, fmt.Errorf("it is no file and no directory (%v): a simulated disk has nothing else", info.Mode()))
		default:
			data, err := fs.ReadFile(fsys, name)
			if err != nil {
				return err
			}
			node.content.writeAt(data, 0, func() bool { return true })
			node.size = node.content.size
		}
		nodes[name] = node
		if name != "." {
			nodes[path.Dir(name)].children[path.Base(name)] = node
		}
		return nil
	})
	if err == nil && nodes["."].children == nil {
		err = pathError("restore", ".", syscall.ENOTDIR)
	}
	if err != nil {
		return nil, err
	}
	return &DiskImage{nodes["."]}, nil
}

// Open implements [fs.FS].
func (i *DiskImage) Open(name string) (fs.File, error) {
	if !fs.ValidPath(name) {
		return nil, pathError("open", name, fs.ErrInvalid)
	}
	n := i.root
	for _, part := range components(name) {
		if n = n.children[part]; n == nil {
			return nil, pathError("open", name, fs.ErrNotExist)
		}
	}
	return &imageFile{n: n, name: name}, nil
}

// An imageFile is an open file or directory of an image.
type imageFile struct {
	n      *imageNode
	name   string
	at     int64    // of a file: read so far
	left   []string // of a directory: names that are left,
	listed bool     // once it has been read
	closed bool
}

func (f *imageFile) Stat() (fs.FileInfo, error) { return f.n.named(f.name), nil }

// named returns the info of n, opened by this name.
func (n *imageNode) named(name string) diskInfo {
	info := n.diskInfo
	info.name = path.Base(name)
	return info
}

func (f *imageFile) Close() error {
	if f.closed {
		return pathError("close", f.name, fs.ErrClosed)
	}
	f.closed = true
	return nil
}

func (f *imageFile) Read(p []byte) (int, error) {
	switch {
	case f.closed:
		return 0, pathError("read", f.name, fs.ErrClosed)
	case f.n.IsDir():
		return 0, pathError("read", f.name, syscall.EISDIR)
	case len(p) == 0:
		return 0, nil
	}
	n := f.n.content.readAt(p, f.at)
	if f.at += int64(n); n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// ReadDir implements [fs.ReadDirFile].
func (f *imageFile) ReadDir(most int) ([]fs.DirEntry, error) {
	switch {
	case f.closed:
		return nil, pathError("readdir", f.name, fs.ErrClosed)
	case !f.n.IsDir():
		return nil, pathError("readdir", f.name, syscall.ENOTDIR)
	}
	if !f.listed {
		f.listed, f.left = true, slices.Sorted(maps.Keys(f.n.children))
	}
	n := len(f.left)
	if most > 0 {
		if n = min(n, most); n == 0 {
			return nil, io.EOF
		}
	}
	list := make([]fs.DirEntry, n)
	for i, name := range f.left[:n] {
		list[i] = fs.FileInfoToDirEntry(f.n.children[name].named(name))
	}
	f.left = f.left[n:]
	return list, nil
}
