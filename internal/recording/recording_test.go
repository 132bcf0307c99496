package recording_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/goasyncio/asyncio/internal/recording"
	"github.com/goasyncio/asyncio/internal/recording/picture"
)

func sample() *recording.Recording {
	return &recording.Recording{
		Program: "service", PID: 7, Time: time.Unix(1, 2), Reason: "a \"test\"\x00",
		Loops: []*recording.Loop{{
			Number: 1, Start: time.Unix(0, 5), Now: 90, Listed: true,
			Names: []recording.Name{{}, {Text: "main.work", Place: "/src/main.go:3"}, {Text: "*asyncio.Lock"}},
			Tasks: []recording.Task{
				{ID: 1, Name: "任务", Coroutine: 1, Waits: recording.Thing{Name: 2, Object: 77}},
				{Number: 3, Coroutine: 1, Waits: recording.Thing{Name: 2, Task: 1}},
			},
			Lost: 1 << 40,
			Words: []uint64{
				recording.Wide(recording.Clock, 40), recording.Of(recording.Amid, 0, 0), recording.Of(recording.Number, 0, 8),
				recording.Of(recording.Iteration, 2, 3), recording.Of(recording.Step, 11, 1),
				recording.Of(recording.Made, 1<<2|recording.Serial, 2), recording.Of(recording.Wake, 0, 2),
				recording.Of(recording.Cancel, 0, 2), recording.OfText("because"), recording.OfText(" 取"),
				recording.Of(recording.Wait, 0, 2|77<<12), recording.Of(recording.Step, 6|recording.First, 2),
				recording.Of(recording.Done, uint32(recording.Cancelled)<<12, 2), recording.Of(recording.Idle, 2, 0),
			},
		}},
	}
}

func TestEncode(t *testing.T) {
	want := sample()
	got, err := recording.Decode(want.Encode())
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("%+v, %v", got, err)
	}
	events, err := got.Loops[0].Events()
	if err != nil {
		t.Fatal(err)
	}
	var made, cancel recording.Event
	for _, e := range events {
		switch e.Kind {
		case recording.Made:
			made = e
		case recording.Cancel:
			cancel = e
		}
	}
	if made.Text != "Task-9" || made.By.Task != 1 || made.At != 50 || cancel.Text != "because 取" || len(events) != 10 {
		t.Errorf("%d events, made %+v, cancel %+v", len(events), made, cancel)
	}
}

// Whatever is cut off, added or changed is noticed.
func TestDecode_Broken(t *testing.T) {
	whole := sample().Encode()
	for n := range whole {
		if _, err := recording.Decode(whole[:n]); !errors.Is(err, recording.ErrFormat) {
			t.Fatalf("the first %d bytes: %v", n, err)
		}
		broken := bytes.Clone(whole)
		broken[n] ^= 0x10
		if _, err := recording.Decode(broken); !errors.Is(err, recording.ErrFormat) {
			t.Fatalf("byte %d changed: %v", n, err)
		}
	}
	if _, err := recording.Decode(append(bytes.Clone(whole), 0)); !errors.Is(err, recording.ErrFormat) {
		t.Fatalf("a byte too many: %v", err)
	}
}

// A file whose sum is right may still be anything; words too.
func FuzzDecode(f *testing.F) {
	whole := sample().Encode()
	f.Add(whole[:len(whole)-4])
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := recording.Decode(binary.LittleEndian.AppendUint32(bytes.Clone(body), crc32.ChecksumIEEE(body)))
		if err != nil {
			return
		}
		again, err := recording.Decode(r.Encode())
		if err != nil || !reflect.DeepEqual(again, r) {
			t.Fatalf("encoded again: %v", err)
		}
		draws(t, r)
	})
}

func FuzzEvents(f *testing.F) {
	var words []byte
	for _, w := range sample().Loops[0].Words {
		words = binary.LittleEndian.AppendUint64(words, w)
	}
	f.Add(words)
	f.Fuzz(func(t *testing.T, words []byte) {
		r := sample()
		r.Loops[0].Words = nil
		for ; len(words) >= 8; words = words[8:] {
			r.Loops[0].Words = append(r.Loops[0].Words, binary.LittleEndian.Uint64(words))
		}
		draws(t, r)
	})
}

// draws checks that the picture of a recording has no mistakes, whatever is in the recording.
func draws(t *testing.T, r *recording.Recording) {
	t.Helper()
	p, err := picture.Of(r)
	if errors.Is(err, recording.ErrFormat) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Check(); err != nil {
		t.Fatal(err)
	}
}

// Random words of the kinds that there are.
func TestEvents_Random(t *testing.T) {
	for seed := range uint64(3000) {
		rng := rand.New(rand.NewPCG(seed, 2))
		r := sample()
		words := r.Loops[0].Words[:3:3]
		for range rng.IntN(60) {
			kind := recording.Kind(rng.IntN(22))
			words = append(words, recording.Of(kind, uint32(rng.IntN(16)), uint32(rng.IntN(3))))
		}
		r.Loops[0].Words = words
		draws(t, r)
	}
}
