package gallery

import (
	"context"
	"fmt"
	"strings"

	"github.com/goasyncio/asyncio"
)

// renameUnsynced is a server that keeps a number in a file, as LevelDB keeps the name of its
// manifest in CURRENT: it writes a new file, syncs it, and renames it over the old one. The rename
// is a change of the directory, and the mistake is not to sync that. A loss of power can then bring
// back the old file, though the change was acknowledged.
//
// Pillai et al., "All File Systems Are Not Created Equal" (OSDI 2014), found it in LevelDB and
// others.
func renameUnsynced(mistake bool) program {
	return keeping(func(ctx context.Context, name, data string) error {
		if err := writeSynced(ctx, name+".new", data); err != nil {
			return err
		}
		if err := asyncio.Rename(ctx, name+".new", name); err != nil {
			return err
		}
		if mistake {
			return nil // BUG: the old file may still be what the disk has under this name
		}
		return asyncio.SyncDir(ctx, ".")
	})
}

// keeping is a server that keeps documents with a function, each in a file, and a client that
// stores some, and later reads them all.
func keeping(keep func(ctx context.Context, name, data string) error) program {
	return staged(func(ctx context.Context, s *stage) error {
		s.server("server", func(ctx context.Context) error {
			return serve(ctx, inTurn(func(ctx context.Context, request string) (string, error) {
				name, text, put := strings.Cut(request, "=")
				if put {
					return "stored", keep(ctx, name, text)
				}
				return load(ctx, name)
			}))
		})
		for n := range 8 {
			if _, err := persist(ctx, "server", document(n)); err != nil {
				return err
			}
			if err := asyncio.Sleep(ctx, 2*think); err != nil {
				return err
			}
		}
		for n := range 8 {
			name, text, _ := strings.Cut(document(n), "=")
			answer, err := persist(ctx, "server", name)
			if err != nil {
				return err
			}
			if answer != text {
				return fmt.Errorf("the server has stored %q, and now has %q", document(n), answer)
			}
		}
		return nil
	})
}

func document(n int) string { return fmt.Sprintf("document%d=text %d", n, n) }
