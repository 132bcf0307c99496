package recording

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"time"
)

// The file.
//
//	format 1: It begins with the eight bytes "asyncrec" and its version, 4 bytes. It ends with the
//	   CRC-32 (IEEE) of all bytes before, 4 bytes. All numbers of fixed size are little-endian.
//	format 2: Between these is what a Recording has, field by field, in the order of Encode: numbers
//	   as varints of package encoding/binary, times as nanoseconds since 1970, flags as a byte that
//	   is 0 or 1, texts and lists with their length before them, and words as 8 bytes each.
//	format 3: A change of the format or of what words mean changes the version. A reader refuses a
//	   version that it does not know.
//	format 4: A reader believes no length: nothing is made that is larger than what there is to
//	   read. Whatever is not as Encode writes it is an error.

const (
	magic   = "asyncrec"
	version = 1
)

// ErrFormat is returned for what is not a recording.
var ErrFormat = errors.New("not a recording of a flight recorder")

// Encode returns the file.
func (r *Recording) Encode() []byte {
	size := 256
	for _, l := range r.Loops {
		size += 8*len(l.Words) + 64*len(l.Names) + 32*len(l.Tasks)
	}
	e := encoder{make([]byte, 0, size)}
	e.b = append(e.b, magic...)
	e.b = binary.LittleEndian.AppendUint32(e.b, version)
	e.text(r.Program)
	e.number(uint64(r.PID))
	e.time(r.Time)
	e.text(r.Reason)
	e.number(uint64(len(r.Loops)))
	for _, l := range r.Loops {
		e.loop(l)
	}
	e.b = binary.LittleEndian.AppendUint32(e.b, crc32.ChecksumIEEE(e.b))
	return e.b
}

type encoder struct{ b []byte }

func (e *encoder) number(n uint64)  { e.b = binary.AppendUvarint(e.b, n) }
func (e *encoder) time(t time.Time) { e.b = binary.AppendVarint(e.b, t.UnixNano()) }

func (e *encoder) text(s string) {
	e.number(uint64(len(s)))
	e.b = append(e.b, s...)
}

func (e *encoder) flag(is bool) {
	var b byte
	if is {
		b = 1
	}
	e.b = append(e.b, b)
}

func (e *encoder) loop(l *Loop) {
	e.number(uint64(l.Number))
	e.time(l.Start)
	e.number(uint64(l.Now))
	e.flag(l.Simulated)
	e.flag(l.Listed)
	e.number(uint64(len(l.Names)))
	for _, n := range l.Names {
		e.text(n.Text)
		e.text(n.Place)
	}
	e.number(uint64(len(l.Tasks)))
	for i := range l.Tasks {
		t := &l.Tasks[i]
		e.number(uint64(t.ID))
		e.number(uint64(t.Number))
		e.text(t.Name)
		e.number(uint64(t.Coroutine))
		e.flag(t.Own)
		e.number(uint64(t.Waits.Name))
		e.number(uint64(t.Waits.Object))
		e.number(uint64(t.Waits.Task))
	}
	e.number(l.Lost)
	e.number(uint64(len(l.Words)))
	for _, w := range l.Words {
		e.b = binary.LittleEndian.AppendUint64(e.b, w)
	}
}

// Decode reads the file. The error is an [ErrFormat].
func Decode(file []byte) (*Recording, error) {
	head, tail := len(magic)+4, 4
	if len(file) < head+tail || string(file[:len(magic)]) != magic {
		return nil, fmt.Errorf("%w: it does not begin with %q", ErrFormat, magic)
	}
	if v := binary.LittleEndian.Uint32(file[len(magic):]); v != version {
		return nil, fmt.Errorf("%w of version %d: it is of version %d", ErrFormat, version, v)
	}
	body := file[:len(file)-tail]
	if binary.LittleEndian.Uint32(file[len(body):]) != crc32.ChecksumIEEE(body) {
		return nil, fmt.Errorf("%w: it is incomplete, or was changed", ErrFormat)
	}
	d := decoder{b: body[head:]}
	r := d.recording()
	if d.err == nil && len(d.b) > 0 {
		d.fail("%d bytes too many", len(d.b))
	}
	if d.err != nil {
		return nil, d.err
	}
	return r, nil
}

// A decoder keeps the first mistake. After one, all that it reads is zero.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: %s", ErrFormat, fmt.Sprintf(format, args...))
	}
	d.b = nil
}

func (d *decoder) number(most uint64) uint64 {
	n, size := binary.Uvarint(d.b)
	if size <= 0 || n > most {
		d.fail("a number is missing or too large")
		return 0
	}
	d.b = d.b[size:]
	return n
}

func (d *decoder) small() uint32 { return uint32(d.number(math.MaxUint32)) }

func (d *decoder) time() time.Time {
	n, size := binary.Varint(d.b)
	if size <= 0 {
		d.fail("a time is missing")
		return time.Time{}
	}
	d.b = d.b[size:]
	return time.Unix(0, n)
}

// count reads the length of a list whose elements have at least so many bytes.
func (d *decoder) count(least int) int {
	n := d.number(math.MaxInt64)
	if n > uint64(len(d.b)/least) {
		d.fail("a list of %d is longer than the file", n)
		return 0
	}
	return int(n)
}

func (d *decoder) text() string {
	n := d.count(1)
	s := string(d.b[:n])
	d.b = d.b[n:]
	return s
}

func (d *decoder) flag() bool {
	if len(d.b) == 0 || d.b[0] > 1 {
		d.fail("a flag is missing")
		return false
	}
	is := d.b[0] == 1
	d.b = d.b[1:]
	return is
}

func (d *decoder) recording() *Recording {
	r := &Recording{Program: d.text(), PID: int(d.number(math.MaxInt32)), Time: d.time(), Reason: d.text()}
	for range d.count(10) {
		l := d.loop()
		if d.err != nil {
			return nil
		}
		r.Loops = append(r.Loops, l)
	}
	return r
}

func (d *decoder) loop() *Loop {
	l := &Loop{Number: int(d.number(math.MaxInt32)), Start: d.time(), Now: time.Duration(d.number(math.MaxInt64)), Simulated: d.flag(), Listed: d.flag()}
	l.Names = make([]Name, d.count(2))
	for i := range l.Names {
		l.Names[i] = Name{d.text(), d.text()}
	}
	l.Tasks = make([]Task, d.count(8))
	for i := range l.Tasks {
		l.Tasks[i] = Task{
			ID: d.small(), Number: d.small(), Name: d.text(), Coroutine: d.name(l), Own: d.flag(),
			Waits: Thing{d.name(l), d.small(), d.small()},
		}
	}
	l.Lost = d.number(math.MaxUint64)
	l.Words = make([]uint64, d.count(8))
	for i := range l.Words {
		l.Words[i] = binary.LittleEndian.Uint64(d.b)
		d.b = d.b[8:]
	}
	return l
}

// name reads an index of l.Names.
func (d *decoder) name(l *Loop) uint32 {
	i := d.small()
	if i > 0 && int(i) >= len(l.Names) {
		d.fail("there is no name %d", i)
		return 0
	}
	return i
}
