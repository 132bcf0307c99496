package main

import (
	"context"
	"io/fs"
	"os"

	"github.com/goasyncio/asyncio"
)

// A File is a file whose operations suspend the calling task, and are done on a thread.
type File struct{ f *os.File }

func onThread[T any](ctx context.Context, fn func() (T, error)) (T, error) {
	return asyncio.ToThread(ctx, func(context.Context) (T, error) { return fn() })
}

func onThreadDo(ctx context.Context, fn func() error) error {
	_, err := onThread(ctx, func() (asyncio.None, error) { return asyncio.None{}, fn() })
	return err
}

// OpenFile is os.OpenFile.
func OpenFile(ctx context.Context, name string, flag int, perm fs.FileMode) (*File, error) {
	f, err := onThread(ctx, func() (*os.File, error) { return os.OpenFile(name, flag, perm) })
	if err != nil {
		return nil, err
	}
	return &File{f}, nil
}

// WriteAt is that of os.File.
func (f *File) WriteAt(ctx context.Context, p []byte, off int64) (int, error) {
	return onThread(ctx, func() (int, error) { return f.f.WriteAt(p, off) })
}

// Sync is that of os.File.
func (f *File) Sync(ctx context.Context) error { return onThreadDo(ctx, f.f.Sync) }

// Close is that of os.File.
func (f *File) Close(ctx context.Context) error { return onThreadDo(ctx, f.f.Close) }

// ReadFile is os.ReadFile.
func ReadFile(ctx context.Context, name string) ([]byte, error) {
	return onThread(ctx, func() ([]byte, error) { return os.ReadFile(name) })
}

// Rename is os.Rename.
func Rename(ctx context.Context, from, to string) error {
	return onThreadDo(ctx, func() error { return os.Rename(from, to) })
}

// MkdirAll is os.MkdirAll.
func MkdirAll(ctx context.Context, name string, perm fs.FileMode) error {
	return onThreadDo(ctx, func() error { return os.MkdirAll(name, perm) })
}

// Stat is os.Stat.
func Stat(ctx context.Context, name string) (fs.FileInfo, error) {
	return onThread(ctx, func() (fs.FileInfo, error) { return os.Stat(name) })
}

// SyncDir makes what was created, renamed and removed in a directory survive a power failure.
func SyncDir(ctx context.Context, name string) error {
	return onThreadDo(ctx, func() error {
		d, err := os.Open(name)
		if err != nil {
			return err
		}
		defer d.Close()
		return d.Sync()
	})
}
