package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/sim"
)

const testDir = "/var/lib/test"

// withJournal runs body beside the journal's task, and returns body's error, or the journal's.
func withJournal(ctx context.Context, body func(ctx context.Context, j *journal, records [][]byte) error) error {
	j, records, err := openJournal(ctx, testDir)
	if err != nil {
		return err
	}
	err = asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
		tg.CreateTask(ctx, j.run, asyncio.TaskName("journal"))
		err := body(ctx, j, records)
		tg.Cancel()
		return err
	})
	return errors.Join(err, j.close(ctx))
}

// The host loses power after any of its steps, and before the sync of any record. Records that were
// reported are there afterwards, in order, and nothing else is but records that were appended.
func TestJournal_PowerFailures(t *testing.T) {
	const total = 6
	test := func(ctx context.Context) error {
		reported, done := 0, false
		program := func(ctx context.Context) error {
			return withJournal(ctx, func(ctx context.Context, j *journal, records [][]byte) error {
				if len(records) < reported {
					return fmt.Errorf("%d records are there, %d were reported", len(records), reported)
				}
				for i, r := range records {
					if !bytes.HasPrefix(r, fmt.Appendf(nil, `"%d `, i)) {
						return fmt.Errorf("record %d is %s", i, r)
					}
				}
				for n := len(records); n < total; n += 2 {
					var both []*asyncio.Future[asyncio.None]
					for i := n; i < n+2; i++ { // longer than a sector
						record := fmt.Sprintf("%d %700d", i, i)
						both = append(both, j.append(ctx, record, func() { reported = max(reported, i+1) }))
					}
					if _, err := asyncio.Gather(ctx, both...); err != nil {
						return err
					}
				}
				done = true
				return nil
			})
		}
		h := sim.NewHost(ctx, "node", program)
		h.SetCrashes(0.03, time.Second)
		err := sim.Eventually(ctx, time.Hour, "all is written", func() bool { return done })
		if err != nil {
			return err
		}
		if err := h.Wait(ctx); err != nil && !errors.Is(err, sim.ErrCrashed) {
			return err
		}
		data, err := h.Disk().ReadDurable(testDir + "/" + journalName)
		if err != nil {
			return err
		}
		if records, err := readJournal(data); err != nil || len(records) < total {
			return fmt.Errorf("%d records are on the disk: %w", len(records), err)
		}
		return nil
	}
	sim.Explore(t, test, sim.WithStrategy(sim.Exhaustive(1)), sim.Runs(runs(1000)))
	sim.Explore(t, test, sim.Runs(runs(200)))
}

// testFile returns a journal of three batches, of one record, one of three sectors, and two
// records.
func testFile() (file []byte, batches [3][][]byte) {
	batches = [3][][]byte{{[]byte("one")}, {bytes.Repeat([]byte("two "), 300)}, {[]byte("three"), bytes.Repeat([]byte("four "), 150)}}
	for i, lines := range batches {
		file = append(file, sectors(uint64(i+1), lines)...)
	}
	return file, batches
}

// No bit of a journal can change unnoticed, in the last batch either.
func TestJournal_BitRot(t *testing.T) {
	file, batches := testFile()
	records, err := readJournal(file)
	if want := slices.Concat(batches[:]...); err != nil || !slices.EqualFunc(records, want, bytes.Equal) {
		t.Fatalf("%q, %v", records, err)
	}
	for i := range 8 * len(file) {
		file[i/8] ^= 1 << (i % 8)
		if _, err := readJournal(file); err == nil {
			t.Errorf("bit %d of byte %d", i%8, i/8)
		}
		file[i/8] ^= 1 << (i % 8)
	}
}

// What a loss of power leaves of the last batch is cut off; a batch missing before another is
// damage.
func TestJournal_LostSectors(t *testing.T) {
	file, batches := testFile()
	for size := range len(file) {
		records, err := readJournal(file[:size])
		var want [][]byte
		for i, end := range []int{1, 4, 6} {
			if size >= end*sectorSize {
				want = append(want, batches[i]...)
			}
		}
		if err != nil || !slices.EqualFunc(records, want, bytes.Equal) {
			t.Errorf("of %d bytes: %q, %v", size, records, err)
		}
	}
	for lost := range 1 << (len(file) / sectorSize) {
		if lost == 0 {
			continue
		}
		b := slices.Clone(file)
		for s := range len(file) / sectorSize {
			if lost>>s&1 == 1 {
				clear(b[s*sectorSize:][:sectorSize])
			}
		}
		records, err := readJournal(b)
		var want [][]byte
		whole := true
		for i, of := range []int{0b1, 0b1110, 0b110000} {
			if lost&of == 0 && whole {
				want = append(want, batches[i]...)
			}
			whole = whole && lost&of == 0
		}
		// A part of a batch behind one that is not whole.
		damaged := lost&0b1 != 0 && lost&0b111110 != 0b111110 || lost&0b1110 != 0 && lost&0b110000 != 0b110000
		if damaged != (err != nil) || !damaged && !slices.EqualFunc(records, want, bytes.Equal) {
			t.Errorf("without the sectors %06b: %q, %v", lost, records, err)
		}
	}
}

// Records that are appended during a sync share the next one, and are reported in order.
func TestJournal_OneSyncForMany(t *testing.T) {
	sim.Run(t, func(ctx context.Context) error {
		sim.HostOf(ctx).Disk().SetSyncLatency(10*time.Millisecond, 10*time.Millisecond)
		return withJournal(ctx, func(ctx context.Context, j *journal, _ [][]byte) error {
			var all []*asyncio.Future[asyncio.None]
			var order []int
			for i := range 100 {
				all = append(all, j.append(ctx, i, func() { order = append(order, i) }))
				if i%10 == 0 {
					if err := asyncio.Sleep(ctx, time.Millisecond); err != nil {
						return err
					}
				}
			}
			if _, err := asyncio.Gather(ctx, all...); err != nil {
				return err
			}
			if j.syncs > 3 || len(order) != 100 || !slices.IsSorted(order) {
				return fmt.Errorf("%d syncs for the records in the order %v", j.syncs, order)
			}
			return nil
		})
	})
}

// Tasks that leave, by a cancel or a limit of time, do not keep their record from the disk, nor the
// answer from others that wait for the same record.
func TestJournal_CancelledAppend(t *testing.T) {
	sim.Run(t, func(ctx context.Context) error {
		return withJournal(ctx, func(ctx context.Context, j *journal, _ [][]byte) error {
			sim.HostOf(ctx).Disk().SetSyncLatency(time.Second, time.Second)
			durable := false
			record := j.append(ctx, "left behind", func() { durable = true })
			cancelled := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error { return wait(ctx, record) }))
			patient := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error { return wait(ctx, record) }))
			err := asyncio.FailAfter(ctx, 100*time.Millisecond, func(ctx context.Context) error { return wait(ctx, record) })
			if !errors.Is(err, asyncio.ErrTimeout) || durable {
				return fmt.Errorf("%w, durable: %v", err, durable)
			}
			cancelled.Cancel()
			if _, err := cancelled.Await(ctx); !errors.Is(err, asyncio.ErrCancelled) || durable {
				return fmt.Errorf("%w, durable: %v", err, durable)
			}
			if _, err := patient.Await(ctx); err != nil || !durable {
				return fmt.Errorf("%w, durable: %v", err, durable)
			}
			return nil
		})
	})
}

// After a failure nothing is reported as durable any more.
func TestJournal_Failures(t *testing.T) {
	for name, faults := range map[string]sim.DiskFaults{"write": {Write: 1}, "sync": {Sync: 1}} {
		t.Run(name, func(t *testing.T) {
			sim.Run(t, func(ctx context.Context) error {
				reported := func() { t.Error("a record was reported") }
				j, _, err := openJournal(ctx, testDir)
				if err != nil {
					return err
				}
				sim.HostOf(ctx).Disk().SetFaults(faults)
				first := j.append(ctx, "first", reported)
				if err := j.run(ctx); !errors.Is(err, syscall.EIO) {
					return fmt.Errorf("run: %w", err)
				}
				sim.HostOf(ctx).Disk().SetFaults(sim.DiskFaults{})
				for _, f := range []*asyncio.Future[asyncio.None]{first, j.append(ctx, "second", reported)} {
					if _, err := f.Await(ctx); !errors.Is(err, syscall.EIO) {
						return fmt.Errorf("append: %w", err)
					}
				}
				return j.close(ctx)
			}, sim.WithStrategy(sim.Random()))
		})
	}
}

// A record with a newline or binary data is one record.
func TestJournal_AnyText(t *testing.T) {
	sim.Run(t, func(ctx context.Context) error {
		text := "a\nb\x00\xff\"\u2028"
		if err := withJournal(ctx, func(ctx context.Context, j *journal, _ [][]byte) error {
			return wait(ctx, j.append(ctx, text, func() {}))
		}); err != nil {
			return err
		}
		return withJournal(ctx, func(ctx context.Context, _ *journal, records [][]byte) error {
			var got string
			if len(records) != 1 {
				return fmt.Errorf("%d records", len(records))
			}
			if err := json.Unmarshal(records[0], &got); err != nil || got != "a\nb\x00\ufffd\"\u2028" {
				return fmt.Errorf("%q, %w", got, err)
			}
			return nil
		})
	})
}
