package gallery

import (
	"context"
	"os"

	"github.com/goasyncio/asyncio"
)

// replaceUnsynced is the server of renameUnsynced with another mistake: it does not sync the new
// file before it renames it. The name is then on the disk and the data need not be, and after a
// loss of power the file is empty or torn. When ext4 came, desktops lost their settings in this
// way, and the authors of many programs learned that a rename is no promise for what the file
// contains.
//
// https://bugs.launchpad.net/ubuntu/+source/linux/+bug/317781
func replaceUnsynced(mistake bool) program {
	return keeping(func(ctx context.Context, name, data string) error {
		f, err := asyncio.OpenFile(ctx, name+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
		if err != nil {
			return err
		}
		_, err = f.Write(ctx, []byte(data))
		// BUG: the data may reach the disk long after the name, or never
		if err == nil && !mistake {
			err = f.Sync(ctx)
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
