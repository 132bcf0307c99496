package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/goasyncio/asyncio"
)

func entry(index, term uint64, data string) *pb.Entry {
	return &pb.Entry{Index: new(index), Term: new(term), Data: []byte(data)}
}

func hardState(term, vote, commit uint64) *pb.HardState {
	return &pb.HardState{Term: new(term), Vote: new(vote), Commit: new(commit)}
}

func emptyCluster(node uint64) saved {
	return saved{
		node:     node,
		snapshot: &pb.Snapshot{Metadata: &pb.SnapshotMetadata{Index: new(uint64(1)), Term: new(uint64(1)), ConfState: &pb.ConfState{Voters: []uint64{1, 2, 3}}}},
		hard:     hardState(1, 0, 1),
	}
}

// String returns everything that s holds, for comparisons.
func (s saved) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "node %d, snapshot %d of term %d: %q, term %d, vote %d, commit %d", s.node, s.snapshot.GetMetadata().GetIndex(),
		s.snapshot.GetMetadata().GetTerm(), s.snapshot.GetData(), s.hard.GetTerm(), s.hard.GetVote(), s.hard.GetCommit())
	for _, e := range s.entries {
		fmt.Fprintf(&b, "; %d of term %d: %d bytes %.9q", e.GetIndex(), e.GetTerm(), len(e.GetData()), e.GetData())
	}
	return b.String()
}

func runTask(t *testing.T, fn func(ctx context.Context) error) {
	t.Helper()
	if _, err := asyncio.Run(t.Context(), asyncio.Do(fn)); err != nil {
		t.Fatal(err)
	}
}

// A writtenWAL is a file, and its content at each length at which it was complete.
type writtenWAL struct {
	file  []byte
	sizes []int
	held  []string
}

// writeWAL writes five batches: the first, entries, entries of many sectors, entries that replace
// others, a hard state alone.
func writeWAL(t *testing.T, dir string) (f writtenWAL) {
	t.Helper()
	runTask(t, func(ctx context.Context) error {
		w, s, err := openWAL(ctx, dir, emptyCluster(2))
		if err != nil {
			return err
		}
		note := func() {
			f.sizes = append(f.sizes, int(w.size))
			f.held = append(f.held, s.String())
		}
		note()
		for _, batch := range []saved{
			{hard: hardState(2, 3, 1), entries: []*pb.Entry{entry(2, 2, ""), entry(3, 2, "three")}},
			{hard: hardState(2, 3, 3), entries: []*pb.Entry{entry(4, 2, strings.Repeat("four", 600)), entry(5, 2, "five")}},
			{hard: hardState(4, 1, 3), entries: []*pb.Entry{entry(4, 4, strings.Repeat("\x00", 3000))}},
			{hard: hardState(5, 0, 4)},
		} {
			if err := w.append(ctx, batch.hard, batch.entries); err != nil {
				return err
			}
			if err := w.sync(ctx); err != nil {
				return err
			}
			for _, e := range batch.entries {
				if err := s.addEntry(e); err != nil {
					return err
				}
			}
			s.hard = batch.hard
			note()
		}
		return w.close(ctx)
	})
	var err error
	if f.file, err = os.ReadFile(filepath.Join(dir, walName)); err != nil {
		t.Fatal(err)
	}
	if len(f.file) != f.sizes[len(f.sizes)-1] {
		t.Fatalf("the file has %d bytes, the log says %v", len(f.file), f.sizes)
	}
	return f
}

// Cut off anywhere, a file holds the complete batches. The first was complete when the file got its
// name.
func TestWAL_EveryTruncation(t *testing.T) {
	f := writeWAL(t, t.TempDir())
	for size := range len(f.file) + 1 {
		want := ""
		for i, s := range f.sizes {
			if s <= size {
				want = f.held[i]
			}
		}
		switch s, err := readWAL(f.file[:size]); {
		case want == "" && (err == nil || !strings.Contains(err.Error(), "the first batch is not complete")):
			t.Fatalf("%d bytes: %v, %v", size, s, err)
		case want != "" && (err != nil || s.String() != want):
			t.Fatalf("%d bytes: %v, %v, want %s", size, s, err, want)
		}
	}
}

// No flipped bit goes unnoticed, not even in the last batch.
func TestWAL_EveryBitFlip(t *testing.T) {
	f := writeWAL(t, t.TempDir())
	for i := range f.file {
		for bit := range 8 {
			damaged := bytes.Clone(f.file)
			damaged[i] ^= 1 << bit
			if s, err := readWAL(damaged); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("damaged at %d", i/sectorSize*sectorSize)) {
				t.Fatalf("bit %d of byte %d: %v, %v", bit, i, s, err)
			}
		}
	}
}

// Any sectors of the last batch may be missing, but none of the others.
func TestWAL_EveryTornWrite(t *testing.T) {
	f := writeWAL(t, t.TempDir())
	for last := 1; last < len(f.sizes); last++ {
		from, to := f.sizes[last-1], f.sizes[last]
		sectors := (to - from) / sectorSize
		for missing := 1; missing < 1<<sectors; missing++ {
			torn := bytes.Clone(f.file)
			for i := range sectors {
				if missing&(1<<i) != 0 {
					clear(torn[from+i*sectorSize:][:sectorSize])
				}
			}
			if s, err := readWAL(torn[:to]); err != nil || s.String() != f.held[last-1] {
				t.Fatalf("batch %d without the sectors %b: %v, %v, want %s", last, missing, s, err, f.held[last-1])
			}
			if last == len(f.sizes)-1 {
				continue
			}
			if s, err := readWAL(torn); err == nil || !strings.Contains(err.Error(), "damaged at") {
				t.Fatalf("batch %d of more without the sectors %b: %v, %v", last, missing, s, err)
			}
		}
	}
}

// Opening a log makes a new file with the content of the old one; the incomplete batch is gone, and
// later batches follow.
func TestWAL_Open(t *testing.T) {
	dir := t.TempDir()
	f := writeWAL(t, dir)
	name := filepath.Join(dir, walName)
	// in the middle of batch 4
	if err := os.WriteFile(name, f.file[:f.sizes[2]+100], 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, newWALName), []byte("half a file of an earlier life"), 0o644); err != nil {
		t.Fatal(err)
	}
	want := f.held[2]
	for i := range uint64(2) {
		old, err := os.Open(name) // so that its inode is not used again
		if err != nil {
			t.Fatal(err)
		}
		defer old.Close()
		runTask(t, func(ctx context.Context) error {
			w, s, err := openWAL(ctx, dir, emptyCluster(2))
			if err != nil {
				return err
			}
			if s.String() != want {
				t.Errorf("opened %d times: %v, want %s", i+1, s, want)
			}
			before, err := old.Stat()
			if err != nil {
				return err
			}
			if after, err := os.Stat(name); err != nil || os.SameFile(before, after) {
				t.Errorf("opened %d times: the file is the old one (%v)", i+1, err)
			}
			if err := w.append(ctx, hardState(9, i, 5), []*pb.Entry{entry(6+i, 9, "more")}); err != nil {
				return err
			}
			if err := s.addEntry(entry(6+i, 9, "more")); err != nil {
				return err
			}
			s.hard = hardState(9, i, 5)
			want = s.String()
			return w.close(ctx)
		})
	}
}

func TestWAL_Replace(t *testing.T) {
	dir := t.TempDir()
	writeWAL(t, dir)
	runTask(t, func(ctx context.Context) error {
		w, s, err := openWAL(ctx, dir, emptyCluster(2))
		if err != nil {
			return err
		}
		s.snapshot = proto.Clone(s.snapshot).(*pb.Snapshot)
		s.snapshot.Metadata.Index, s.snapshot.Metadata.Term, s.snapshot.Data = new(uint64(9)), new(uint64(5)), bytes.Repeat([]byte("data"), 1000)
		s.entries = []*pb.Entry{entry(10, 5, "ten")}
		if err := w.replace(ctx, s); err != nil {
			return err
		}
		if err := w.append(ctx, s.hard, []*pb.Entry{entry(11, 5, "eleven")}); err != nil {
			return err
		}
		if err := s.addEntry(entry(11, 5, "eleven")); err != nil {
			return err
		}
		if err := w.close(ctx); err != nil {
			return err
		}
		w, again, err := openWAL(ctx, dir, emptyCluster(2))
		if err != nil {
			return err
		}
		if again.String() != s.String() {
			t.Errorf("replaced by %v, and holds %v", s, again)
		}
		return w.close(ctx)
	})
}

func TestWAL_OfAnotherNode(t *testing.T) {
	dir := t.TempDir()
	writeWAL(t, dir)
	runTask(t, func(ctx context.Context) error {
		if _, _, err := openWAL(ctx, dir, emptyCluster(3)); err == nil || !strings.Contains(err.Error(), "belongs to node 2, this is node 3") {
			t.Errorf("the directory of node 2 opened by node 3: %v", err)
		}
		return nil
	})
}

// A log that could not be written is not written again: its content is unknown.
func TestWAL_Broken(t *testing.T) {
	runTask(t, func(ctx context.Context) error {
		w, _, err := openWAL(ctx, filepath.Join(t.TempDir(), "made", "here"), emptyCluster(2))
		if err != nil {
			return err
		}
		if err := w.file.Close(ctx); err != nil {
			return err
		}
		first := w.append(ctx, hardState(2, 0, 1), nil)
		if first == nil {
			t.Error("a closed file was written")
		}
		for _, err := range []error{w.append(ctx, hardState(2, 0, 1), nil), w.sync(ctx), w.replace(ctx, emptyCluster(2))} {
			if err != first {
				t.Errorf("after %q: %v", first, err)
			}
		}
		return nil
	})
}

func FuzzWAL(f *testing.F) {
	records, err := appendRecords(nil, emptyCluster(1))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(records, []byte{})
	more, err := appendRecords(nil, saved{hard: hardState(2, 1, 1), entries: []*pb.Entry{entry(2, 2, "x")}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(records, more)
	f.Fuzz(func(t *testing.T, first, second []byte) { // below the checksums
		s, err := readWAL(append(sectors(1, first), sectors(2, second)...))
		if err != nil {
			return
		}
		records, err := appendRecords(nil, s)
		if err != nil {
			t.Fatal(err)
		}
		again, err := readWAL(sectors(1, records))
		if err != nil || again.String() != s.String() {
			t.Errorf("%v is read as %v, %v", s, again, err)
		}
	})
}
