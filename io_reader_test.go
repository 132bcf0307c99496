package asyncio_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

// fed returns a reader that has been fed chunks and, unless there are none, the end of the stream.
func fed(ctx context.Context, limit int, chunks ...string) *asyncio.StreamReader {
	r := asyncio.NewStreamReader(ctx, asyncio.StreamLimit(limit))
	for _, c := range chunks {
		r.FeedData([]byte(c))
	}
	return r
}

func bytesOf(separators ...string) [][]byte {
	var all [][]byte
	for _, s := range separators {
		all = append(all, []byte(s))
	}
	return all
}

// Each method does what CPython's test_streams says, with all the data there at once and with the
// data coming byte by byte.
func TestStreamReader(t *testing.T) {
	type call func(ctx context.Context, r *asyncio.StreamReader) ([]byte, error)
	read := func(n int) call {
		return func(ctx context.Context, r *asyncio.StreamReader) ([]byte, error) { return r.Read(ctx, n) }
	}
	exactly := func(n int) call {
		return func(ctx context.Context, r *asyncio.StreamReader) ([]byte, error) { return r.ReadExactly(ctx, n) }
	}
	until := func(seps ...string) call {
		return func(ctx context.Context, r *asyncio.StreamReader) ([]byte, error) {
			return r.ReadUntil(ctx, bytesOf(seps...)...)
		}
	}
	line := call(func(ctx context.Context, r *asyncio.StreamReader) ([]byte, error) { return r.ReadLine(ctx) })
	eof := func(err error) bool { return err == io.EOF }
	incomplete := func(partial string, expected int) func(error) bool {
		return func(err error) bool {
			var e *asyncio.IncompleteReadError
			end := io.ErrUnexpectedEOF
			if partial == "" {
				end = io.EOF
			}
			return errors.As(err, &e) && string(e.Partial) == partial && e.Expected == expected && errors.Is(err, end)
		}
	}
	overrun := func(found bool, consumed int) func(error) bool {
		return func(err error) bool {
			var e *asyncio.LimitOverrunError
			return errors.As(err, &e) && e.Found == found && e.Consumed == consumed
		}
	}
	invalid := func(err error) bool { return errors.Is(err, asyncio.ErrInvalidArgument) }

	for name, c := range map[string]struct {
		data  string
		limit int
		call  call
		want  string
		err   func(error) bool
		rest  string
		atEnd bool // the same however the data comes
	}{
		"read zero":                    {data: "hello", call: read(0), rest: "hello"},
		"read some":                    {data: "hello", call: read(2), want: "he", rest: "llo", atEnd: true},
		"read at the end":              {call: read(1024), err: eof},
		"read all":                     {data: "chunk1\nchunk2", call: read(-1), want: "chunk1\nchunk2"},
		"read all of nothing":          {call: read(-1)},
		"read beyond the limit":        {data: "chunk", limit: 3, call: read(-1), want: "chunk"},
		"line":                         {data: "chunk1 chunk2 chunk3 \n chunk4", call: line, want: "chunk1 chunk2 chunk3 \n", rest: " chunk4"},
		"line of two":                  {data: "line1\nline2\n", limit: 3000, call: line, want: "line1\n", rest: "line2\n"},
		"line without end":             {data: "some data", call: line, want: "some data"},
		"line at the end":              {call: line, err: eof},
		"line of the limit":            {data: "12\n34", limit: 2, call: line, want: "12\n", rest: "34"},
		"line beyond the limit":        {data: "li\nne1\nline2\n", limit: 1, call: line, err: overrun(true, 2), rest: "li\nne1\nline2\n", atEnd: true},
		"no line within the limit":     {data: "12345", limit: 3, call: line, err: overrun(false, 5), rest: "12345", atEnd: true},
		"until":                        {data: "AAAbBBbC", call: until("b"), want: "AAAb", rest: "BBbC"},
		"until a long one":             {data: "AASEPBB", call: until("SEP"), want: "AASEP", rest: "BB"},
		"until a repeated beginning":   {data: "aaaaB", call: until("aaB"), want: "aaaaB"},
		"until not found":              {data: "dataAA", call: until("AAA"), err: incomplete("dataAA", -1)},
		"until of nothing":             {call: until("AAA"), err: incomplete("", -1)},
		"until beyond the limit":       {data: "some dataAAA", limit: 3, call: until("AAA"), err: overrun(true, 9), rest: "some dataAAA", atEnd: true},
		"until no end in sight":        {data: "XXXXXX", limit: 3, call: until("AAA"), err: overrun(false, 4), rest: "XXXXXX", atEnd: true},
		"several: first found":         {data: "HTTP/1.1 200 OK\r\n\r\n", call: until("\n", "\r"), want: "HTTP/1.1 200 OK\r", rest: "\n\r\n"},
		"several: longer ends first":   {data: "some datasep--more", call: until("datasep--more!", "sep"), want: "some datasep", rest: "--more"},
		"several: same end":            {data: "abcXXX--", call: until("X-", "XX-", "-"), want: "abcXXX-", rest: "-"},
		"several: limit by shortest":   {data: "some dataA", limit: 3, call: until("A", "ome dataA"), err: overrun(true, 9), rest: "some dataA", atEnd: true},
		"several: longer than data":    {data: "data", call: until("A", "long sep"), err: incomplete("data", -1)},
		"until nothing":                {data: "data", call: until(""), err: invalid, rest: "data"},
		"until one of none":            {data: "data", call: until(), err: invalid, rest: "data"},
		"exactly":                      {data: "123456", call: exactly(4), want: "1234", rest: "56"},
		"exactly zero":                 {data: "123456", call: exactly(0), rest: "123456"},
		"exactly less than zero":       {data: "123456", call: exactly(-1), err: invalid, rest: "123456"},
		"exactly beyond the limit":     {data: "chunk", limit: 3, call: exactly(5), want: "chunk"},
		"exactly more than there is":   {data: "12", call: exactly(6), err: incomplete("12", 6)},
		"exactly something of nothing": {call: exactly(1), err: incomplete("", 1)},
	} {
		limit := c.limit
		if limit == 0 {
			limit = asyncio.DefaultStreamLimit
		}
		check := func(t *testing.T, ctx context.Context, r *asyncio.StreamReader) {
			t.Helper()
			got, err := c.call(ctx, r)
			if string(got) != c.want || (err != nil) != (c.err != nil) || err != nil && !c.err(err) {
				t.Errorf("%q, %v; want %q", got, err, c.want)
			}
			if rest, err := r.Read(ctx, -1); string(rest) != c.rest || err != nil {
				t.Errorf("left behind: %q, %v; want %q", rest, err, c.rest)
			}
			if !r.AtEOF() {
				t.Error("not at the end")
			}
		}
		t.Run(name, func(t *testing.T) {
			run(t, func(ctx context.Context) error {
				r := fed(ctx, limit, c.data)
				r.FeedEOF()
				check(t, ctx, r)
				return nil
			})
		})
		if c.atEnd {
			continue
		}
		t.Run(name+"/byte by byte", func(t *testing.T) {
			run(t, func(ctx context.Context) error {
				r := fed(ctx, limit)
				feeder := start(ctx, func(ctx context.Context) error {
					for i := range len(c.data) {
						if err := asyncio.Sleep(ctx, 0); err != nil {
							return err
						}
						r.FeedData([]byte(c.data[i : i+1]))
					}
					r.FeedEOF()
					return nil
				})
				check(t, ctx, r)
				return ended(ctx, feeder)
			})
		})
		t.Run(name+"/connection", func(t *testing.T) {
			onSockets(t, func(t *testing.T, ctx context.Context) error {
				client, server := connect(t, ctx)
				r, w := asyncio.NewStreams(client, asyncio.StreamLimit(limit))
				defer w.Close(ctx)
				if _, err := server.Write([]byte(c.data)); err != nil {
					return err
				}
				server.Close()
				check(t, ctx, r)
				return nil
			})
		})
	}
}

func TestStreamReader_Lines(t *testing.T) {
	run(t, func(ctx context.Context) error {
		r := fed(ctx, 10, "one\ntwo\n", "three")
		r.FeedEOF()
		var got []string
		for line, err := range r.Lines(ctx) {
			must(t, err)
			got = append(got, string(line))
		}
		equal(t, "lines", got, []string{"one\n", "two\n", "three"})

		r = fed(ctx, 3, "one\nlonger\ntwo\n")
		var errs []string
		for line, err := range r.Lines(ctx) {
			if err != nil {
				errs = append(errs, err.Error())
			} else {
				got = append(got, string(line))
			}
		}
		equal(t, "errors", errs, []string{"asyncio: the separator comes after 6 bytes, beyond the limit"})
		// the data is still there
		if line, err := r.ReadExactly(ctx, 7); string(line) != "longer\n" || err != nil {
			t.Errorf("%q, %v", line, err)
		}
		return nil
	})
}

// Feeding a reader wakes it if it waits, however many bytes were read before.
func TestStreamReader_FedAfterReading(t *testing.T) {
	methods := map[string]func(ctx context.Context, r *asyncio.StreamReader) ([]byte, error){
		"Read":        func(ctx context.Context, r *asyncio.StreamReader) ([]byte, error) { return r.Read(ctx, 4) },
		"ReadExactly": func(ctx context.Context, r *asyncio.StreamReader) ([]byte, error) { return r.ReadExactly(ctx, 4) },
		"ReadUntil": func(ctx context.Context, r *asyncio.StreamReader) ([]byte, error) {
			return r.ReadUntil(ctx, []byte("g"))
		},
		"ReadInto": func(ctx context.Context, r *asyncio.StreamReader) ([]byte, error) {
			p := make([]byte, 4)
			n, err := r.ReadInto(ctx, p)
			return p[:n], err
		},
	}
	for name, read := range methods {
		t.Run(name, func(t *testing.T) {
			run(t, func(ctx context.Context) error {
				r := fed(ctx, asyncio.DefaultStreamLimit)
				var got []string
				reader := start(ctx, func(ctx context.Context) error {
					for range 2 {
						p, err := read(ctx, r)
						if err != nil {
							return err
						}
						got = append(got, string(p))
					}
					return nil
				})
				// as long as the bytes read before
				for _, message := range []string{"ping", "pong"} {
					if err := asyncio.Sleep(ctx, 0); err != nil {
						return err
					}
					r.FeedData([]byte(message))
				}
				if err := ended(ctx, reader); err != nil {
					return err
				}
				equal(t, "messages", got, []string{"ping", "pong"})
				return nil
			})
		})
	}
}

func TestStreamReader_Exception(t *testing.T) {
	run(t, func(ctx context.Context) error {
		broken := errors.New("broken")
		r := fed(ctx, 100, "da")
		waiting := start(ctx, func(ctx context.Context) error {
			_, err := r.ReadExactly(ctx, 3)
			return err
		})
		settle(t, ctx)
		if _, err := r.ReadLine(ctx); !errors.Is(err, asyncio.ErrBusy) {
			t.Errorf("a second reader: %v", err)
		}
		r.SetException(broken)
		if err := ended(ctx, waiting); err != broken || r.Exception() != broken {
			t.Errorf("%v, %v", err, r.Exception())
		}
		if _, err := r.Read(ctx, 1); err != broken {
			t.Errorf("later: %v", err)
		}
		return nil
	})
}

// A cancel leaves the data that had come, and the waiter's place, to the next reader.
func TestStreamReader_Cancel(t *testing.T) {
	run(t, func(ctx context.Context) error {
		r := fed(ctx, 100, "da")
		waiting := start(ctx, func(ctx context.Context) error {
			_, err := r.ReadExactly(ctx, 4)
			return err
		})
		settle(t, ctx)
		r.FeedData([]byte("ta"))
		waiting.Cancel() // it was due to resume
		if err := ended(ctx, waiting); !errors.Is(err, asyncio.ErrCancelled) {
			t.Errorf("%v, want it cancelled", err)
		}
		if got, err := r.ReadExactly(ctx, 4); string(got) != "data" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
		return nil
	})
}

func TestStreamReader_Misuse(t *testing.T) {
	run(t, func(ctx context.Context) error {
		r := fed(ctx, 100)
		r.FeedData(nil)
		r.FeedEOF()
		if err := panicOf(func() { r.FeedData([]byte("x")) }); !errors.Is(err, asyncio.ErrInvalidState) {
			t.Errorf("FeedData after FeedEOF: %v", err)
		}
		if err := panicOf(func() { asyncio.StreamTLS(nil) }); !errors.Is(err, asyncio.ErrInvalidArgument) {
			t.Errorf("StreamTLS(nil): %v", err)
		}
		for _, n := range []int{0, -1, math.MinInt} {
			if err := panicOf(func() { asyncio.StreamLimit(n) }); !errors.Is(err, asyncio.ErrInvalidArgument) {
				t.Errorf("StreamLimit(%d): %v", n, err)
			}
			if err := panicOf(func() { asyncio.MaxClients(n) }); !errors.Is(err, asyncio.ErrInvalidArgument) {
				t.Errorf("MaxClients(%d): %v", n, err)
			}
		}
		for want, r := range map[string]*asyncio.StreamReader{
			"<StreamReader>":                 fed(ctx, asyncio.DefaultStreamLimit),
			"<StreamReader 4 bytes>":         fed(ctx, asyncio.DefaultStreamLimit, "data"),
			"<StreamReader limit=123>":       fed(ctx, 123),
			"<StreamReader eof limit=100>":   r,
			"<StreamReader 2 bytes limit=1>": fed(ctx, 1, "ab"),
		} {
			if r.String() != want {
				t.Errorf("%s, want %s", r, want)
			}
		}
		return nil
	})
}

// streams returns the two sides of a connection.
func streams(t *testing.T, ctx context.Context) (cr *asyncio.StreamReader, cw *asyncio.StreamWriter, sr *asyncio.StreamReader, sw *asyncio.StreamWriter) {
	t.Helper()
	client, server := connect(t, ctx)
	cr, cw = asyncio.NewStreams(client)
	sr, sw = asyncio.NewStreams(server)
	return cr, cw, sr, sw
}

// Bytes that a reader has returned stay unchanged, however large the later reads. And a long
// message does not arrive in small pieces (stream 4, stream 5).
func TestStreamReader_LongMessages(t *testing.T) {
	onSockets(t, func(t *testing.T, ctx context.Context) error {
		_, cw, sr, sw := streams(t, ctx)
		defer sw.Close(ctx)
		want := pattern(4 << 20)
		writing := start(ctx, func(ctx context.Context) error {
			defer cw.Close(ctx)
			_, err := cw.Write(ctx, want)
			return err
		})
		var pieces [][]byte
		for len(pieces) < len(want) {
			p, err := sr.Read(ctx, 64<<10)
			if err == io.EOF {
				break
			}
			if err != nil {
				return err
			}
			if _ = append(p, "not the reader's"...); len(p) == 0 {
				t.Fatal("Read returned nothing")
			}
			pieces = append(pieces, p)
		}
		if got := bytes.Join(pieces, nil); !bytes.Equal(got, want) {
			t.Errorf("what was read, %d bytes, is not what was written", len(got))
		}
		if most := len(want) / (8 << 10); len(pieces) > most {
			t.Errorf("%d reads for %d bytes, want at most %d", len(pieces), len(want), most)
		}
		return ended(ctx, writing)
	})
}

// A result is its caller's own: later reads of any reader of the loop leave it alone, and a caller
// that changes it and its capacity, or appends to it, changes nothing else (stream 4, stream 6).
func TestStreamReader_ResultsAreTheCallers(t *testing.T) {
	onSockets(t, func(t *testing.T, ctx context.Context) error {
		const long = 64 << 10
		var writers []*asyncio.StreamWriter
		var readers []*asyncio.StreamReader
		for range 2 {
			_, cw, sr, sw := streams(t, ctx)
			defer cw.Abort()
			defer sw.Abort()
			writers, readers = append(writers, cw), append(readers, sr)
		}
		ways := map[string]func(r *asyncio.StreamReader, n int) ([]byte, error){
			"Read":        func(r *asyncio.StreamReader, n int) ([]byte, error) { return r.Read(ctx, n) },
			"ReadExactly": func(r *asyncio.StreamReader, n int) ([]byte, error) { return r.ReadExactly(ctx, n) },
			"ReadUntil":   func(r *asyncio.StreamReader, _ int) ([]byte, error) { return r.ReadUntil(ctx, []byte{0}) },
		}
		type result struct{ p, want []byte }
		var kept []result
		fill := byte(0)
		for _, size := range []int{1, 100, 20 << 10, long*3/4 - 1, long * 3 / 4, long - 53, long, long + 1, 3 * long} {
			for name, read := range ways {
				if name == "ReadUntil" && size > long {
					continue // beyond the limit
				}
				for i, r := range readers {
					fill = fill%250 + 1
					message := bytes.Repeat([]byte{fill}, size)
					message[size-1] = 0
					// The next message's first byte may come along with this one.
					writing := start(ctx, func(ctx context.Context) error {
						_, err := writers[i].WriteLines(ctx, message, []byte{0})
						return err
					})
					for want := append(message, 0); len(want) > 0; {
						n := min(len(want), size)
						p, err := read(r, n)
						if err != nil {
							return fmt.Errorf("%s of %d bytes: %w", name, n, err)
						}
						if !bytes.Equal(p, want[:len(p)]) {
							t.Fatalf("%s of %d bytes returned something else", name, n)
						}
						want = want[len(p):]
						if len(kept)%2 == 0 {
							kept = append(kept, result{p, bytes.Clone(p)})
							continue
						}
						whole := p[:cap(p)]
						for i := range whole {
							whole[i] = 251
						}
						_ = append(p, 252)
						kept = append(kept, result{})
					}
					if err := ended(ctx, writing); err != nil {
						return err
					}
				}
			}
		}
		for _, k := range kept {
			if !bytes.Equal(k.p, k.want) {
				t.Errorf("a result of %d bytes has changed", len(k.p))
			}
		}
		return nil
	})
}

// A result that is kept keeps at most a third more memory than it has bytes, and what the allocator
// adds (stream 4).
func TestStreamReader_ResultsPinLittle(t *testing.T) {
	const results = 100
	for _, size := range []int{100, 10 << 10, 40 << 10, 49 << 10, 64 << 10} {
		onRealTime(t, func(ctx context.Context) error {
			_, cw, sr, sw := streams(t, ctx)
			defer cw.Abort()
			defer sw.Abort()
			message := pattern(size)
			var kept [][]byte
			before := inUse()
			for range results {
				if _, err := cw.Write(ctx, message); err != nil {
					return err
				}
				for rest := size; rest > 0; {
					p, err := sr.Read(ctx, size)
					if err != nil {
						return err
					}
					kept = append(kept, p)
					rest -= len(p)
				}
			}
			// the loop's buffer and, from the list and from elsewhere, a little
			const other = 192 << 10
			if held, most := inUse()-before, results*size*3/2+other; held > most {
				t.Errorf("%d results of %d bytes keep %d, want at most %d", results, size, held, most)
			}
			runtime.KeepAlive(kept)
			return nil
		})
	}
}

// A reader that waits for its next long message holds no memory for it, whatever the size of the
// last one (stream 1). Once a message has begun to come, the reader holds the bytes received and a
// little more, whatever the announced length (stream 6).
func TestStreamReader_WaitsWithoutMemory(t *testing.T) {
	const size, readers = 64 << 10, 100
	for name, read := range map[string]func(ctx context.Context, r *asyncio.StreamReader) ([]byte, error){
		"Read":        func(ctx context.Context, r *asyncio.StreamReader) ([]byte, error) { return r.Read(ctx, size) },
		"ReadExactly": func(ctx context.Context, r *asyncio.StreamReader) ([]byte, error) { return r.ReadExactly(ctx, size) },
	} {
		t.Run(name, func(t *testing.T) {
			onRealTime(t, func(ctx context.Context) error {
				want := pattern(size)
				var all []*asyncio.Task[asyncio.None]
				var writers []*asyncio.StreamWriter
				come := 0
				for range readers {
					_, cw, sr, sw := streams(t, ctx)
					defer sw.Abort()
					writers = append(writers, cw)
					all = append(all, start(ctx, func(ctx context.Context) error {
						for {
							p, err := read(ctx, sr)
							if errors.Is(err, io.EOF) {
								return nil
							}
							if err != nil {
								return err
							}
							come += len(p)
						}
					}))
				}
				before := inUse()
				for range 3 {
					for _, w := range writers {
						if _, err := w.Write(ctx, want); err != nil {
							return err
						}
					}
				}
				for come < 3*readers*size {
					if err := asyncio.Sleep(ctx, time.Millisecond); err != nil {
						return err
					}
				}
				settle(t, ctx)
				if held := max(0, inUse()-before) / readers; held > size/4 {
					t.Errorf("a reader that waits holds %d bytes", held)
				}
				for _, w := range writers {
					w.CloseSoon()
				}
				_, err := asyncio.Gather(ctx, all...)
				return err
			})
		})
	}
	onRealTime(t, func(ctx context.Context) error {
		_, cw, sr, sw := streams(t, ctx)
		defer sw.Abort()
		before := inUse()
		reader := start(ctx, func(ctx context.Context) error {
			_, err := sr.ReadExactly(ctx, 1<<30)
			if e := (*asyncio.IncompleteReadError)(nil); !errors.As(err, &e) || len(e.Partial) != 100 {
				t.Errorf("ReadExactly: %v", err)
			}
			return nil
		})
		if _, err := cw.Write(ctx, pattern(100)); err != nil {
			return err
		}
		if err := asyncio.Sleep(ctx, 10*time.Millisecond); err != nil {
			return err
		}
		if held := inUse() - before; held > 256<<10 {
			t.Errorf("100 bytes of a message of 1 GiB cost %d", held)
		}
		cw.CloseSoon()
		return ended(ctx, reader)
	})
}

// inUse returns the bytes of the heap that are reachable.
func inUse() int {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// Bytes that a reader holds stay its own while other readers of the loop read, whichever method
// left them there (stream 4).
func TestStreamReader_HoldsWhatItHolds(t *testing.T) {
	onSockets(t, func(t *testing.T, ctx context.Context) error {
		_, aw, ar, asw := streams(t, ctx)
		defer asw.Abort()
		_, bw, br, bsw := streams(t, ctx)
		defer bsw.Abort()
		for _, size := range []int{8, 5 << 10, 40 << 10} {
			want := pattern(size)
			for _, leave := range []struct {
				how  string
				read func() ([]byte, error)
			}{
				{"Read", func() ([]byte, error) { return ar.Read(ctx, 3) }},
				{"ReadExactly", func() ([]byte, error) { return ar.ReadExactly(ctx, 2) }},
				{"ReadUntil", func() ([]byte, error) { return ar.ReadUntil(ctx, want[3:5]) }},
				{"no separator yet", func() ([]byte, error) {
					err := asyncio.Timeout(ctx, time.Millisecond, func(ctx context.Context, _ *asyncio.TimeoutScope) error {
						_, err := ar.ReadUntil(ctx, []byte("no such"))
						return err
					})
					if !errors.Is(err, asyncio.ErrTimeout) {
						return nil, fmt.Errorf("ReadUntil: %v", err)
					}
					return nil, nil
				}},
			} {
				if _, err := aw.Write(ctx, want); err != nil {
					return err
				}
				settle(t, ctx)
				got, err := leave.read()
				if err != nil {
					return err
				}
				if _, err := bw.Write(ctx, bytes.Repeat([]byte{'b'}, size)); err != nil {
					return err
				}
				if _, err := br.ReadExactly(ctx, size); err != nil {
					return err
				}
				rest, err := ar.ReadExactly(ctx, size-len(got))
				if err != nil {
					return err
				}
				if !bytes.Equal(append(got, rest...), want) {
					t.Errorf("%d bytes, after %s: something else", size, leave.how)
				}
			}
		}
		return nil
	})
}

// ReadUntil agrees with the simplest implementation, whatever the data and however it arrives.
func FuzzReadUntil(f *testing.F) {
	f.Add([]byte("some dataSEPmore"), "SEP", "data", 10, 3)
	f.Add([]byte("aaaaaaab"), "aab", "ab", 3, 1)
	f.Add([]byte("\r\n\r\n"), "\r\n", "\n", 1, 2)
	f.Fuzz(func(t *testing.T, data []byte, a, b string, limit, chunk int) {
		if a == "" || b == "" || limit <= 0 || chunk <= 0 || len(data) > 1000 {
			return
		}
		run(t, func(ctx context.Context) error {
			r := fed(ctx, limit)
			feeder := start(ctx, func(ctx context.Context) error {
				for rest := data; len(rest) > 0; {
					n := min(chunk, len(rest))
					r.FeedData(rest[:n])
					rest = rest[n:]
					if err := asyncio.Sleep(ctx, 0); err != nil {
						return err
					}
				}
				r.FeedEOF()
				return nil
			})
			got, err := r.ReadUntil(ctx, []byte(a), []byte(b))
			var over *asyncio.LimitOverrunError
			var short *asyncio.IncompleteReadError
			end := -1 // of the first separator to end, and the shortest part before it
			before := 0
			for i := range len(data) + 1 {
				for _, sep := range []string{a, b} {
					if bytes.HasSuffix(data[:i], []byte(sep)) && (end < 0 || end == i && i-len(sep) > before) {
						end, before = i, i-len(sep)
					}
				}
			}
			all := data
			switch {
			case err == nil:
				if end < 0 || before > limit || !bytes.Equal(got, data[:end]) {
					t.Errorf("%q, want the first %d, of which %d before the separator, limit %d", got, end, before, limit)
				}
				all = data[len(got):]
			case errors.As(err, &over):
				if end >= 0 && before <= limit && over.Found || over.Consumed <= limit || over.Consumed > len(data) {
					t.Errorf("%v; want the first %d, limit %d", err, end, limit)
				}
				if end >= 0 && before < over.Consumed-len(a)-len(b) {
					t.Errorf("%v, but a separator is at %d", err, before)
				}
			case errors.As(err, &short):
				if end >= 0 || !bytes.Equal(short.Partial, data) {
					t.Errorf("%v; want the first %d", err, end)
				}
				all = nil
			default:
				t.Error(err)
			}
			rest, err := r.Read(ctx, -1)
			if !bytes.Equal(rest, all) || err != nil {
				t.Errorf("left behind: %q, %v; want %q", rest, err, all)
			}
			return ended(ctx, feeder)
		})
	})
}
