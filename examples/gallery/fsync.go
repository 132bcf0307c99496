package gallery

import (
	"context"
	"errors"
	"os"
	"syscall"

	"github.com/goasyncio/asyncio"
)

// fsyncAgain is the server of renameUnsynced with another mistake: if the sync of the new file
// fails, it syncs once more, and takes the success of that for the success of its writes. But the
// system has marked the pages that it could not write as clean, and the second sync does not try
// them. PostgreSQL did so for twenty years.
//
// https://wiki.postgresql.org/wiki/Fsync_Errors
func fsyncAgain(mistake bool) program {
	return keeping(func(ctx context.Context, name, data string) error {
		f, err := asyncio.OpenFile(ctx, name+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
		if err != nil {
			return err
		}
		if _, err = f.Write(ctx, []byte(data)); err == nil {
			err = f.Sync(ctx)
			for mistake && errors.Is(err, syscall.EIO) {
				err = f.Sync(ctx) // BUG: it says nothing of the writes before the sync that failed
			}
		}
		if closed := f.Close(ctx); err == nil {
			err = closed
		}
		if err != nil {
			return err
		}
		if err := asyncio.Rename(ctx, name+".new", name); err != nil {
			return err
		}
		return asyncio.SyncDir(ctx, ".")
	})
}
