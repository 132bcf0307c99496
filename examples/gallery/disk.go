package gallery

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"github.com/goasyncio/asyncio"
)

// save replaces a file. A loss of power leaves the old contents or the new, and after save has
// returned nil the new.
func save(ctx context.Context, name, data string) error {
	if err := writeSynced(ctx, name+".new", data); err != nil {
		return err
	}
	if err := asyncio.Rename(ctx, name+".new", name); err != nil {
		return err
	}
	return asyncio.SyncDir(ctx, ".")
}

// writeSynced writes a file and makes its contents durable, but not its name.
func writeSynced(ctx context.Context, name, data string) error {
	f, err := asyncio.OpenFile(ctx, name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(ctx, []byte(data))
	if err == nil {
		err = f.Sync(ctx)
	}
	if closed := f.Close(ctx); err == nil {
		err = closed
	}
	return err
}

// load returns what save has written last, "" if that is nothing. What it returns is durable: a
// program that was killed in save has left a name that a loss of power could still take back.
func load(ctx context.Context, name string) (string, error) {
	data, err := asyncio.ReadFile(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return string(data), asyncio.SyncDir(ctx, ".")
}
