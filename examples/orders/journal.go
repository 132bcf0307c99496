package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/goasyncio/asyncio"
)

// A journal is the durable state of a service: a file of records, which only grows while the
// service runs.
//
//	journal 1: The file is a sequence of batches, numbered from 1. A batch fills whole sectors. Each
//	   sector has the number of its batch, how much of the batch is left, and a checksum. A batch is
//	   lines of JSON, one for each record.
//	journal 2: A batch is synced before the next one is written. Records that are appended while a
//	   batch is under way form the next one, so a busy service needs one sync for many requests.
//	journal 3: A record counts once it is durable: then durable is called, in the order of the
//	   appends, and the future completes. Nobody is told of a record before.
//	journal 4: So after a power failure only the last batch may lack sectors, and nobody was told of
//	   it. It is cut off. Anything else (a wrong checksum anywhere, a batch behind an incomplete
//	   one) is damage, and an error: a service must not go on without what it has acknowledged.
//	journal 5: When a service starts, the records that were read are written to a new file, which is
//	   synced and renamed over the old one, before any of them is used. That cuts off the tail. It
//	   also makes durable what an earlier life could not sync, which the system still shows although
//	   it may not be on the disk.
//	journal 6: After an error the file is in an unknown state. Every append fails with that error,
//	   and run returns it: the service must end, and read again.
type journal struct {
	file  *asyncio.File
	size  int64  // of the file
	batch uint64 // the number of the next batch

	waiting []entry // for the next batch
	writing []entry // the batch under way
	wake    asyncio.Event
	syncs   int
	err     error // the first error (journal 6)
}

// An entry is a record on its way to the disk.
type entry struct {
	line    []byte
	durable func()
	done    *asyncio.Future[asyncio.None]
}

const (
	journalName    = "journal"
	newJournalName = "journal.new"
)

var errJournalClosed = errors.New("the journal is closed")

// openJournal opens the journal in a directory and returns its records. It makes both if there is
// none. It must be called in a task, which it suspends.
func openJournal(ctx context.Context, dir string) (*journal, [][]byte, error) {
	if err := makeDir(ctx, dir); err != nil {
		return nil, nil, err
	}
	name, newName := filepath.Join(dir, journalName), filepath.Join(dir, newJournalName)
	data, err := asyncio.ReadFile(ctx, name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	records, err := readJournal(data)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", name, err)
	}
	data = sectors(1, records)
	if err := writeNew(ctx, newName, data); err != nil {
		return nil, nil, err
	}
	if err := asyncio.Rename(ctx, newName, name); err != nil {
		return nil, nil, err
	}
	if err := asyncio.SyncDir(ctx, dir); err != nil {
		return nil, nil, err
	}
	file, err := asyncio.OpenFile(ctx, name, os.O_WRONLY, 0)
	if err != nil {
		return nil, nil, err
	}
	j := &journal{file: file, size: int64(len(data)), batch: 1}
	if len(data) > 0 {
		j.batch = 2
	}
	return j, records, nil
}

// writeNew writes a file and syncs it.
func writeNew(ctx context.Context, name string, data []byte) error {
	f, err := asyncio.OpenFile(ctx, name, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	if _, err = f.WriteAt(ctx, data, 0); err == nil {
		err = f.Sync(ctx)
	}
	return errors.Join(err, f.Close(ctx))
}

// makeDir makes a directory that is still there after a power failure: it syncs the directory above
// each one that it makes, and also above the innermost one that is there, because an earlier life
// may have ended before it did that.
func makeDir(ctx context.Context, dir string) error {
	dir = filepath.Clean(dir)
	above := filepath.Dir(dir)
	if _, err := asyncio.Stat(ctx, dir); errors.Is(err, fs.ErrNotExist) && above != dir {
		if err := makeDir(ctx, above); err != nil {
			return err
		}
		if err := asyncio.MkdirAll(ctx, dir, 0o755); err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	return asyncio.SyncDir(ctx, above)
}

// append adds a record, as JSON. When it is durable, durable is called and the future completes
// (journal 3). Others may wait for the same future, so await it behind an asyncio.Shield. append
// is for the loop only and does not suspend.
func (j *journal) append(ctx context.Context, record any, durable func()) *asyncio.Future[asyncio.None] {
	e := entry{durable: durable, done: asyncio.CreateFuture[asyncio.None](ctx)}
	line, err := json.Marshal(record)
	if j.err != nil {
		err = j.err
	}
	if err != nil {
		e.fail(err)
		return e.done
	}
	e.line = line
	j.waiting = append(j.waiting, e)
	j.wake.Set()
	return e.done
}

// fail ends an entry that is not durable. The caller may have left by now: then the error is the
// journal's, which its task returns.
func (e entry) fail(err error) {
	_ = e.done.SetException(err)
	_ = e.done.Exception() // retrieved, whether or not anybody waits
}

// run is the task that writes. It returns when it is cancelled, or with the error after which
// nothing can be written (journal 6).
func (j *journal) run(ctx context.Context) (err error) {
	defer func() {
		j.err = err
		if errors.Is(err, asyncio.ErrCancelled) {
			j.err = errJournalClosed
		}
		for _, e := range append(j.writing, j.waiting...) {
			e.fail(j.err)
		}
		j.writing, j.waiting = nil, nil
	}()
	for {
		if err := j.wake.Wait(ctx); err != nil {
			return err
		}
		j.wake.Clear()
		if err := j.writeBatch(ctx); err != nil {
			return fmt.Errorf("the journal cannot be written: %w", err)
		}
	}
}

// writeBatch makes everything durable that is waiting (journal 2).
func (j *journal) writeBatch(ctx context.Context) error {
	j.writing, j.waiting = j.waiting, nil
	lines := make([][]byte, len(j.writing))
	for i, e := range j.writing {
		lines[i] = e.line
	}
	data := sectors(j.batch, lines)
	if _, err := j.file.WriteAt(ctx, data, j.size); err != nil {
		return err
	}
	if err := j.file.Sync(ctx); err != nil {
		return err
	}
	j.size += int64(len(data))
	j.batch++
	j.syncs++
	for _, e := range j.writing {
		e.durable()
		_ = e.done.SetResult(asyncio.None{})
	}
	j.writing = nil
	return nil
}

func (j *journal) close(ctx context.Context) error { return j.file.Close(ctx) }

// A sector is
//
//	checksum, of all the rest                       4 bytes
//	number of the batch                             8
//	bytes of the batch from here on, without header 8
//	part of the batch
//
// all little-endian.
const (
	sectorSize   = 512
	sectorHeader = 20
	sectorRoom   = sectorSize - sectorHeader
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sectors lays out a batch of lines (journal 1). No lines take no sector.
func sectors(batch uint64, lines [][]byte) []byte {
	var all []byte
	for rest := bytes.Join(lines, []byte("\n")); len(rest) > 0; {
		var s [sectorSize]byte
		binary.LittleEndian.PutUint64(s[4:], batch)
		binary.LittleEndian.PutUint64(s[12:], uint64(len(rest)))
		rest = rest[copy(s[sectorHeader:], rest):]
		binary.LittleEndian.PutUint32(s[:], crc32.Checksum(s[4:], castagnoli))
		all = append(all, s[:]...)
	}
	return all
}

// readJournal reads a file and leaves out an incomplete last batch (journal 4).
func readJournal(file []byte) (records [][]byte, err error) {
	var data []byte // of the batch that is being read
	batch, left, torn := uint64(1), uint64(0), false
	for at := 0; at < len(file); at += sectorSize {
		s := file[at:min(at+sectorSize, len(file))]
		if len(s) < sectorSize || bytes.Count(s, []byte{0}) == sectorSize {
			torn = true // never written
			continue
		}
		if binary.LittleEndian.Uint32(s) != crc32.Checksum(s[4:], castagnoli) {
			return nil, fmt.Errorf("damaged at %d: wrong checksum", at)
		}
		number, rest := binary.LittleEndian.Uint64(s[4:]), binary.LittleEndian.Uint64(s[12:])
		switch {
		case number != batch:
			return nil, fmt.Errorf("damaged at %d: batch %d, where batch %d belongs", at, number, batch)
		case torn:
			continue // more of the batch that is incomplete
		case rest == 0, len(data) > 0 && rest != left-sectorRoom:
			return nil, fmt.Errorf("damaged at %d: %d bytes left in the batch, after %d", at, rest, left)
		}
		left = rest
		data = append(data, s[sectorHeader:][:min(sectorRoom, left)]...)
		if left <= sectorRoom {
			records = append(records, bytes.Split(data, []byte("\n"))...)
			batch, data = batch+1, nil
		}
	}
	return records, nil
}
