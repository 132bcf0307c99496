package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"math"
	"os"
	"path/filepath"

	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/goasyncio/asyncio"
)

// A wal is the durable state of a node, in one file: a snapshot, and the log since then. The rules
// say what the disk may do to it:
//
//	wal 1: The file is a sequence of batches, each the records of one append, numbered from 1. A
//	   batch begins in a sector of its own and fills whole ones. Every sector has the number of its
//	   batch, its own number in it, and a checksum.
//	wal 2: A batch is synced before the next one is written. So after a power failure the disk holds
//	   at most one batch in part.
//	wal 3: A sector is written wholly or not at all; the parts of a file that were not written are
//	   missing at its end, or zeros. So after a power failure the last batch lacks sectors, and the
//	   others are as they were. The incomplete batch is cut off, because nobody was told that it is
//	   there. Everything else is damage, and an error: a wrong checksum anywhere, also in the last
//	   batch, or a batch missing before another.
//	wal 4: The first batch has the node's ID, the snapshot, and the log after it. It was synced
//	   under another name before the file got its own, so it is complete. Later batches have the
//	   hard state and entries; an entry replaces the old entry with its index and all that come
//	   after.
//	wal 5: A new snapshot makes a new file: created, written, synced, renamed over the old one, and
//	   the directory synced. Whatever happens in between, one of the two is there, whole.
//	wal 6: When the node starts, the state that was read is written to a new file before anything is
//	   done with it. An earlier life may have ended because a sync failed; then the system still
//	   shows the data that it could not write, and will not try again.
//	wal 7: After an error the file is in an unknown state, and every later call returns that error:
//	   the node must stop, and read again.
type wal struct {
	dir   string
	file  *asyncio.File
	node  uint64
	size  int64  // of the file
	batch uint64 // the number of the next batch
	err   error  // the first error, which every later call returns (wal 7)
}

// saved is the content of a wal.
type saved struct {
	node     uint64 // ID of the node that it belongs to
	snapshot *pb.Snapshot
	hard     *pb.HardState
	entries  []*pb.Entry // those after the snapshot
}

const (
	walName    = "wal"
	newWALName = "wal.new"
)

// openWAL opens the wal in a directory, and returns its content. If there is no wal yet, it makes
// one with initial in it, and the directory if need be. It must be called in a task, which it
// suspends.
func openWAL(ctx context.Context, dir string, initial saved) (*wal, saved, error) {
	if err := makeDir(ctx, dir); err != nil {
		return nil, saved{}, err
	}
	w := &wal{dir: dir, node: initial.node}
	name := filepath.Join(dir, walName)
	data, err := asyncio.ReadFile(ctx, name)
	held := initial
	if err == nil {
		if held, err = readWAL(data); err != nil {
			return nil, saved{}, fmt.Errorf("%s: %w", name, err)
		}
		if held.node != initial.node {
			return nil, saved{}, fmt.Errorf("%s belongs to node %d, this is node %d: give each its own directory", name, held.node, initial.node)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, saved{}, err
	}
	if err := w.replace(ctx, held); err != nil { // rewrite it before it is used (wal 6)
		return nil, saved{}, errors.Join(err, w.close(ctx))
	}
	return w, held, nil
}

// makeDir makes a directory that is still there after a power failure. It syncs each directory that
// it makes before it makes anything in it. So of the existing directories an earlier life can have
// left only the innermost unsynced.
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

// append adds a batch, which is durable when sync returns. The caller syncs before the next append
// (wal 2).
func (w *wal) append(ctx context.Context, hard *pb.HardState, entries []*pb.Entry) error {
	if w.err != nil {
		return w.err
	}
	records, err := appendRecords(nil, saved{hard: hard, entries: entries})
	if err == nil {
		data := sectors(w.batch, records)
		if _, err = w.file.WriteAt(ctx, data, w.size); err == nil {
			w.size += int64(len(data))
			w.batch++
			return nil
		}
	}
	w.err = fmt.Errorf("the log cannot be written: %w", err)
	return w.err
}

// sync makes everything appended survive a power failure.
func (w *wal) sync(ctx context.Context) error {
	if w.err == nil {
		if err := w.file.Sync(ctx); err != nil {
			w.err = fmt.Errorf("the log cannot be synced: %w", err)
		}
	}
	return w.err
}

// replace makes a new file with s in it (wal 5).
func (w *wal) replace(ctx context.Context, s saved) error {
	if w.err != nil {
		return w.err
	}
	s.node = w.node
	err := w.replaceFile(ctx, s)
	if err != nil {
		w.err = fmt.Errorf("a new log cannot be written: %w", err)
	}
	return w.err
}

func (w *wal) replaceFile(ctx context.Context, s saved) error {
	records, err := appendRecords(nil, s)
	if err != nil {
		return err
	}
	data := sectors(1, records)
	name, newName := filepath.Join(w.dir, walName), filepath.Join(w.dir, newWALName)
	f, err := asyncio.OpenFile(ctx, newName, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	if _, err = f.WriteAt(ctx, data, 0); err == nil {
		err = f.Sync(ctx)
	}
	if err := errors.Join(err, f.Close(ctx)); err != nil {
		return err
	}
	if err := w.close(ctx); err != nil {
		return err
	}
	if err := asyncio.Rename(ctx, newName, name); err != nil {
		return err
	}
	if err := asyncio.SyncDir(ctx, w.dir); err != nil {
		return err
	}
	if w.file, err = asyncio.OpenFile(ctx, name, os.O_RDWR, 0o644); err != nil {
		return err
	}
	w.size, w.batch = int64(len(data)), 2
	return nil
}

// close closes the file. It does not sync.
func (w *wal) close(ctx context.Context) error {
	f := w.file
	if w.file = nil; f == nil {
		return nil
	}
	return f.Close(ctx)
}

// The kinds of records. A record is its kind, the length of its data, and the data.
const (
	nodeRecord = iota + 1
	snapshotRecord
	hardStateRecord
	entryRecord
)

// appendRecords appends s to b as records.
func appendRecords(b []byte, s saved) ([]byte, error) {
	var err error
	add := func(kind byte, m proto.Message) {
		var data []byte
		if err == nil {
			data, err = proto.Marshal(m)
			b = append(binary.AppendUvarint(append(b, kind), uint64(len(data))), data...)
		}
	}
	if s.node != 0 {
		id := binary.AppendUvarint(nil, s.node)
		b = append(binary.AppendUvarint(append(b, nodeRecord), uint64(len(id))), id...)
	}
	if s.snapshot != nil {
		add(snapshotRecord, s.snapshot)
	}
	if s.hard != nil {
		add(hardStateRecord, s.hard)
	}
	for _, e := range s.entries {
		add(entryRecord, e)
	}
	if err == nil && len(b) > math.MaxUint32 {
		err = fmt.Errorf("%d bytes in one batch, the limit is %d", len(b), math.MaxUint32)
	}
	return b, err
}

// addRecords adds the records of a batch to s (wal 4).
func (s *saved) addRecords(b []byte) error {
	for len(b) > 0 {
		kind := b[0]
		size, n := binary.Uvarint(b[1:])
		if n <= 0 || size > uint64(len(b)-1-n) {
			return errors.New("a record is longer than its batch")
		}
		data := b[1+n:][:size]
		b = b[1+n+int(size):]
		var err error
		switch kind {
		case nodeRecord:
			if s.node, n = binary.Uvarint(data); n != len(data) {
				err = errors.New("not a number")
			}
		case snapshotRecord:
			s.snapshot = new(pb.Snapshot)
			err = proto.Unmarshal(data, s.snapshot)
		case hardStateRecord:
			s.hard = new(pb.HardState)
			err = proto.Unmarshal(data, s.hard)
		case entryRecord:
			e := new(pb.Entry)
			if err = proto.Unmarshal(data, e); err == nil {
				err = s.addEntry(e)
			}
		default:
			err = errors.New("unknown: written by another version?")
		}
		if err != nil {
			return fmt.Errorf("record of kind %d: %w", kind, err)
		}
	}
	return nil
}

func (s *saved) addEntry(e *pb.Entry) error {
	first := s.snapshot.GetMetadata().GetIndex() + 1
	next := first + uint64(len(s.entries))
	if e.GetIndex() < first || e.GetIndex() > next {
		return fmt.Errorf("entry %d, with entries from %d up to %d before it", e.GetIndex(), first, next-1)
	}
	s.entries = append(s.entries[:e.GetIndex()-first], e)
	return nil
}

// A sector is
//
//	checksum, of all the rest  4 bytes
//	number of the batch        8
//	number of the sector in it 4
//	bytes of records of the batch from here on 4
//	records
//
// all little-endian.
const (
	sectorSize   = 512
	sectorHeader = 20
	sectorRoom   = sectorSize - sectorHeader
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sectors lays out a batch, in whole sectors of its own (wal 1).
func sectors(batch uint64, records []byte) []byte {
	var all []byte
	for part := uint32(0); len(records) > 0; part++ {
		var s [sectorSize]byte
		binary.LittleEndian.PutUint64(s[4:], batch)
		binary.LittleEndian.PutUint32(s[12:], part)
		binary.LittleEndian.PutUint32(s[16:], uint32(len(records)))
		records = records[copy(s[sectorHeader:], records):]
		binary.LittleEndian.PutUint32(s[:], crc32.Checksum(s[4:], castagnoli))
		all = append(all, s[:]...)
	}
	return all
}

// sector is a sector that was read.
type sector struct {
	blank bool // it was never written
	batch uint64
	part  uint32
	left  uint32
	data  []byte
}

// readSector reads the sector that b begins with, which may be cut short.
func readSector(b []byte) (s sector, err error) {
	if len(b) < sectorSize || bytes.Count(b[:sectorSize], []byte{0}) == sectorSize {
		s.blank = true
		return s, nil
	}
	b = b[:sectorSize]
	if binary.LittleEndian.Uint32(b) != crc32.Checksum(b[4:], castagnoli) {
		return s, errors.New("wrong checksum")
	}
	s.batch = binary.LittleEndian.Uint64(b[4:])
	s.part = binary.LittleEndian.Uint32(b[12:])
	s.left = binary.LittleEndian.Uint32(b[16:])
	s.data = b[sectorHeader:][:min(sectorRoom, s.left)]
	return s, nil
}

// readWAL reads a file, and cuts off an incomplete last batch (wal 3).
func readWAL(file []byte) (s saved, err error) {
	var records []byte // of the batch that is being read
	batch, part, left, cut := uint64(1), uint32(0), uint32(0), false
	for at := 0; at < len(file); at += sectorSize {
		c, err := readSector(file[at:])
		switch {
		case err != nil:
			return s, fmt.Errorf("damaged at %d: %w", at, err)
		case c.blank:
			cut = true
		case c.batch != batch || c.part != part:
			return s, fmt.Errorf("damaged at %d: part %d of batch %d, where part %d of batch %d belongs", at, c.part, c.batch, part, batch)
		case !cut && (c.left == 0 || part > 0 && c.left != left-sectorRoom):
			return s, fmt.Errorf("damaged at %d: %d bytes left in the batch, after %d", at, c.left, left)
		}
		part, left = part+1, c.left
		if cut {
			continue // only more of the same batch may follow
		}
		records = append(records, c.data...)
		if c.left <= sectorRoom {
			if err := s.addRecords(records); err != nil {
				return s, fmt.Errorf("batch %d, before %d: %w", batch, at+sectorSize, err)
			}
			batch, part, records = batch+1, 0, nil
		}
	}
	if batch == 1 {
		return s, errors.New("damaged: the first batch is not complete")
	}
	if s.node == 0 || s.snapshot.GetMetadata().GetIndex() == 0 || s.hard == nil {
		return s, errors.New("damaged: the first batch does not say whose it is")
	}
	return s, nil
}
