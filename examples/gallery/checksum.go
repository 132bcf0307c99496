package gallery

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/goasyncio/asyncio"
)

// A journal is a log of records, each behind its length and a checksum. The mistake is to trust the
// length alone: a loss of power keeps any of the sectors of what was not synced, so the beginning
// of a record may be there without its end.
//
// Pillai et al., "All File Systems Are Not Created Equal" (OSDI 2014), found such mistakes in
// ZooKeeper, LevelDB and others.
type journal struct {
	mistake bool
	file    *asyncio.File
	end     int64
	last    string // record
}

// recover reads the records, and cuts off what is no record.
func (j *journal) recover(ctx context.Context) error {
	data, err := asyncio.ReadFile(ctx, "journal")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for r := bytes.NewReader(data); ; {
		var head struct{ Length, Sum uint32 }
		if binary.Read(r, binary.BigEndian, &head) != nil || head.Length == 0 || int64(head.Length) > int64(r.Len()) {
			break
		}
		record := make([]byte, head.Length)
		if _, err := io.ReadFull(r, record); err != nil {
			return err
		}
		// BUG: without this what is left of a torn record is read
		if !j.mistake && crc32.ChecksumIEEE(record) != head.Sum {
			break
		}
		j.last, j.end = string(record), int64(len(data)-r.Len())
	}
	if j.file, err = asyncio.OpenFile(ctx, "journal", os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return err
	}
	// What is left of a torn record must not lie behind the next one, and what was read must stay.
	if err := j.file.Truncate(ctx, j.end); err != nil {
		return err
	}
	if err := j.file.Sync(ctx); err != nil {
		return err
	}
	return asyncio.SyncDir(ctx, ".")
}

// append writes a record. It is durable after the next sync, a little later, with all the others
// that were written meanwhile.
func (j *journal) append(ctx context.Context, record string) error {
	head := binary.BigEndian.AppendUint32(nil, uint32(len(record)))
	head = binary.BigEndian.AppendUint32(head, crc32.ChecksumIEEE([]byte(record)))
	at := j.end
	j.end += int64(len(head) + len(record))
	// a system writes them in any order
	for piece := range slices.Chunk(append(head, record...), 512) {
		if _, err := j.file.WriteAt(ctx, piece, at); err != nil {
			return err
		}
		at += int64(len(piece))
	}
	if err := asyncio.Sleep(ctx, think); err != nil {
		return err
	}
	if err := j.file.Sync(ctx); err != nil {
		return err
	}
	j.last = record
	return nil
}

// long is text that shows whether it is whole.
func long(n int) string {
	return fmt.Sprintf("begin %d%s end %d", n, strings.Repeat(" and so on", 200), n)
}

// journalUnchecked is a server that keeps documents in a journal, a client that writes them, and
// one that reads the last.
func journalUnchecked(mistake bool) program {
	return staged(func(ctx context.Context, s *stage) error {
		s.server("server", func(ctx context.Context) error {
			j := &journal{mistake: mistake}
			err := j.recover(ctx)
			if err == nil {
				appends := inTurn(func(ctx context.Context, record string) (string, error) { return "written", j.append(ctx, record) })
				err = serve(ctx, func(ctx context.Context, request string) (string, error) {
					if record, ok := strings.CutPrefix(request, "append "); ok {
						return appends(ctx, record)
					}
					return j.last, nil
				})
			}
			if j.file == nil {
				return err
			}
			if closed := j.file.Close(ctx); err == nil {
				err = closed
			}
			return err
		})
		s.start("writer", func(ctx context.Context) error {
			for n := 0; ; n++ {
				if _, err := persist(ctx, "server", "append "+long(n)); err != nil {
					return err
				}
				if err := asyncio.Sleep(ctx, think); err != nil {
					return err
				}
			}
		})
		for range 30 {
			answer, err := persist(ctx, "server", "last")
			if err != nil {
				return err
			}
			n := 0
			if _, err := fmt.Sscanf(answer, "begin %d", &n); answer != "" && (err != nil || answer != long(n)) {
				return fmt.Errorf("nobody wrote what the server has: %.20q, and so on to %.20q", answer, answer[max(0, len(answer)-20):])
			}
			if err := asyncio.Sleep(ctx, think); err != nil {
				return err
			}
		}
		return nil
	})
}
