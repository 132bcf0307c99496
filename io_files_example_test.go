package asyncio_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/goasyncio/asyncio"
)

// Several tasks write to one log, and each record is whole.
func ExampleFile() {
	dir, err := os.MkdirTemp("", "asyncio")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	_, err = asyncio.Run(background, asyncio.Do(func(ctx context.Context) error {
		log, err := asyncio.OpenFile(ctx, filepath.Join(dir, "log"), os.O_RDWR|os.O_CREATE, 0o644)
		if err != nil {
			return err
		}
		defer log.Close(ctx)
		err = asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
			for _, name := range []string{"anna", "bert"} {
				tg.CreateTask(ctx, func(ctx context.Context) error {
					_, err := log.Write(ctx, []byte(name+" was here\n"))
					return err
				})
			}
			return nil
		})
		if err != nil {
			return err
		}
		if err := log.Sync(ctx); err != nil { // now the record survives a crash of the machine
			return err
		}
		if _, err := log.Seek(ctx, 0, io.SeekStart); err != nil {
			return err
		}
		p := make([]byte, 100)
		n, err := log.Read(ctx, p)
		fmt.Printf("%s", p[:n])
		return err
	}))
	fmt.Println(err)
	// Output:
	// anna was here
	// bert was here
	// <nil>
}

// Replacing a file: a reader finds either all of the old contents or all of the new ones, even
// after a power failure at any moment.
func ExampleSyncDir() {
	replace := func(ctx context.Context, name string, data []byte) error {
		f, err := asyncio.OpenFile(ctx, name+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
		if err != nil {
			return err
		}
		_, err = f.Write(ctx, data)
		if err == nil {
			err = f.Sync(ctx)
		}
		// closed first, because Windows cannot rename an open file
		if err := errors.Join(err, f.Close(ctx)); err != nil {
			return err
		}
		if err := asyncio.Rename(ctx, name+".new", name); err != nil {
			return err
		}
		return asyncio.SyncDir(ctx, filepath.Dir(name))
	}

	dir, err := os.MkdirTemp("", "asyncio")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	name := filepath.Join(dir, "settings")
	_, err = asyncio.Run(background, asyncio.Do(func(ctx context.Context) error {
		for _, settings := range []string{"first", "second"} {
			if err := replace(ctx, name, []byte(settings)); err != nil {
				return err
			}
		}
		data, err := asyncio.ReadFile(ctx, name)
		fmt.Printf("%s\n", data)
		return err
	}))
	fmt.Println(err)
	// Output:
	// second
	// <nil>
}
