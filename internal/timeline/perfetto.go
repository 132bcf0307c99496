package timeline

import (
	"bufio"
	"encoding/binary"
	"io"
	"time"
)

// WritePerfetto writes t in Perfetto's format: a Trace of TrackEvents, in which each task is a
// track of its process with a slice for its life and within it one for each step and wait. Arrows
// are flows, marks are instants. Any goroutine may call it. The error is that of w, or of
// [Timeline.Check].
func (t *Timeline) WritePerfetto(w io.Writer) error {
	if err := t.Check(); err != nil {
		return err
	}
	p := &perfetto{drawing: t.drawing(), w: bufio.NewWriter(w)}
	p.describe()
	p.flows()
	for i := range t.Tracks {
		p.track(i)
	}
	p.marks()
	p.counters()
	return p.w.Flush() // with the first error of all
}

// The numbers of the fields, by the published schema (protos/perfetto/trace in Perfetto's
// repository).
const (
	tracePacket = 1

	packetTimestamp  = 8
	packetSequence   = 10
	packetEvent      = 11
	packetFlags      = 13
	packetDescriptor = 60

	descriptorUUID     = 1
	descriptorName     = 2
	descriptorProcess  = 3
	descriptorParent   = 5
	descriptorCounter  = 8
	descriptorOrdering = 11
	descriptorRank     = 12
	descriptorMerge    = 15

	processPID  = 1
	processName = 6

	counterUnit = 3

	eventAnnotation = 4
	eventType       = 9
	eventTrack      = 11
	eventCategory   = 22
	eventName       = 23
	eventCounter    = 30
	eventFlow       = 47
	eventFlowEnd    = 48

	annotationText = 6
	annotationName = 10
)

// Values of enumerations.
const (
	sequenceBegins  = 1 // SEQ_INCREMENTAL_STATE_CLEARED
	orderedByRank   = 3 // EXPLICIT
	neverMerged     = 2 // SIBLING_MERGE_BEHAVIOR_NONE
	unitNanoseconds = 1
	unitCount       = 2
	unitBytes       = 3

	sliceBegin = 1
	sliceEnd   = 2
	instant    = 3
	count      = 4
)

// The identifiers of tracks: 1 is the whole run, then come processes, tracks and counters.
func (p *perfetto) process(i int) uint64 {
	if i == None {
		return 1
	}
	return uint64(2 + i)
}
func (p *perfetto) lane(i int) uint64    { return uint64(2 + len(p.Processes) + i) }
func (p *perfetto) counter(i int) uint64 { return uint64(2 + len(p.Processes) + len(p.Tracks) + i) }

// perfetto writes a drawing.
type perfetto struct {
	*drawing
	w     *bufio.Writer
	begun bool
	flow  [][]byte // the flow fields of each step
}

// A message of protobuf, as far as it is encoded.
type protobuf []byte

func (m protobuf) number(field int, v uint64) protobuf {
	m = binary.AppendUvarint(m, uint64(field)<<3)
	return binary.AppendUvarint(m, v)
}

func (m protobuf) fixed(field int, v uint64) protobuf {
	m = binary.AppendUvarint(m, uint64(field)<<3|1)
	return binary.LittleEndian.AppendUint64(m, v)
}

func (m protobuf) bytes(field int, v []byte) protobuf {
	m = binary.AppendUvarint(m, uint64(field)<<3|2)
	m = binary.AppendUvarint(m, uint64(len(v)))
	return append(m, v...)
}

func (m protobuf) text(field int, s string) protobuf { return m.bytes(field, []byte(clean(s))) }

func (p *perfetto) packet(m protobuf) {
	m = m.number(packetSequence, 1)
	if !p.begun {
		p.begun = true
		m = m.number(packetFlags, sequenceBegins)
	}
	_, _ = p.w.Write(protobuf(nil).bytes(tracePacket, m))
}

func (p *perfetto) event(at time.Duration, track uint64, kind uint64, rest protobuf) {
	e := protobuf(nil).number(eventType, kind).number(eventTrack, track)
	e = append(e, rest...)
	p.packet(protobuf(nil).number(packetTimestamp, uint64(at)).bytes(packetEvent, e))
}

// describe describes the tracks.
func (p *perfetto) describe() {
	run := protobuf(nil).number(descriptorUUID, 1).text(descriptorName, p.Title)
	p.packet(protobuf(nil).bytes(packetDescriptor, run))
	for i := range p.Processes {
		of := protobuf(nil).number(processPID, uint64(i+1)).text(processName, p.names[i])
		m := protobuf(nil).number(descriptorUUID, p.process(i)).bytes(descriptorProcess, of).number(descriptorOrdering, orderedByRank)
		p.packet(protobuf(nil).bytes(packetDescriptor, m))
	}
	for i := range p.Tracks {
		m := protobuf(nil).number(descriptorUUID, p.lane(i)).number(descriptorParent, p.process(p.Tracks[i].Process)).
			text(descriptorName, p.trackName(i)).number(descriptorRank, uint64(i)).number(descriptorMerge, neverMerged)
		p.packet(protobuf(nil).bytes(packetDescriptor, m))
	}
	for i := range p.Counters {
		c := &p.Counters[i]
		unit := uint64(unitCount)
		switch c.Unit {
		case "ns":
			unit = unitNanoseconds
		case "bytes":
			unit = unitBytes
		}
		m := protobuf(nil).number(descriptorUUID, p.counter(i)).number(descriptorParent, p.process(c.Process)).
			text(descriptorName, c.Name).bytes(descriptorCounter, protobuf(nil).number(counterUnit, unit))
		p.packet(protobuf(nil).bytes(packetDescriptor, m))
	}
}

// flows notes the arrows of each step, and draws the ends that are in no step.
func (p *perfetto) flows() {
	p.flow = make([][]byte, len(p.Steps))
	for i := range p.Arrows {
		a := &p.Arrows[i]
		id := uint64(i + 1)
		if a.From.Step != None {
			p.flow[a.From.Step] = protobuf(p.flow[a.From.Step]).fixed(eventFlow, id)
		} else {
			p.event(p.at(a.From), p.lane(a.From.Track), instant, protobuf(nil).text(eventName, a.label()).fixed(eventFlow, id))
		}
		if a.To.Step != None {
			p.flow[a.To.Step] = protobuf(p.flow[a.To.Step]).fixed(eventFlowEnd, id)
		} else {
			at := max(p.at(a.To), p.at(a.From))
			p.event(at, p.lane(a.To.Track), instant, protobuf(nil).text(eventName, a.label()).fixed(eventFlowEnd, id))
		}
	}
}

// note is an annotation.
func note(name, text string) protobuf {
	if text == "" {
		return nil
	}
	return protobuf(nil).bytes(eventAnnotation, protobuf(nil).text(annotationName, name).text(annotationText, text))
}

func (p *perfetto) track(i int) {
	tr := &p.Tracks[i]
	begin, end, lives := p.life(i)
	if lives {
		m := protobuf(nil).text(eventName, p.trackName(i)).text(eventCategory, "life")
		m = append(m, note("coroutine", tr.Coroutine)...)
		m = append(m, note("ended", tr.Ended)...)
		if tr.Maker.Track != None {
			m = append(m, note("made by", p.Tracks[tr.Maker.Track].Name)...)
		}
		p.event(begin, p.lane(i), sliceBegin, m)
	}
	for _, s := range p.tracks[i] {
		m := protobuf(nil).text(eventName, s.name).text(eventCategory, s.state)
		if s.detail != s.name {
			m = append(m, note("where", s.detail)...)
		}
		if s.step != None {
			m = append(m, p.flow[s.step]...)
		}
		p.event(s.begin, p.lane(i), sliceBegin, m)
		p.event(s.end, p.lane(i), sliceEnd, nil)
	}
	if lives {
		p.event(end, p.lane(i), sliceEnd, nil)
	}
}

func (p *perfetto) marks() {
	for i := range p.Marks {
		m := &p.Marks[i]
		on := p.process(m.Process)
		if m.Point.Track != None {
			on = p.lane(m.Point.Track)
		}
		e := protobuf(nil).text(eventName, m.Kind.String()+": "+m.Text).text(eventCategory, m.Kind.String())
		if m.By.Track != None {
			e = append(e, note("by", p.Tracks[m.By.Track].Name)...)
		}
		p.event(p.at(m.Point), on, instant, e)
	}
}

func (p *perfetto) counters() {
	for i := range p.Counters {
		for _, s := range p.Counters[i].Samples {
			p.event(p.sampled(s), p.counter(i), count, protobuf(nil).number(eventCounter, uint64(s.Value)))
		}
	}
}
