package browser

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/goasyncio/asyncio/internal/timeline"
)

// perfettoSchema is the part of Perfetto's published schema (protos/perfetto/trace, syntax proto2)
// that a trace of the library may have: the name, number and type of each field, as a descriptor.
// What is not in it is unknown to the reader, and fails the test.
const perfettoSchema = `
Trace: packet 1 repeated TracePacket
TracePacket: timestamp 8 uint64, trusted_packet_sequence_id 10 uint32, track_event 11 TrackEvent,
	sequence_flags 13 uint32, track_descriptor 60 TrackDescriptor
TrackDescriptor: uuid 1 uint64, name 2 string, process 3 ProcessDescriptor, parent_uuid 5 uint64, counter 8 CounterDescriptor,
	child_ordering 11 int32, sibling_order_rank 12 int32, sibling_merge_behavior 15 int32
ProcessDescriptor: pid 1 int32, process_name 6 string
CounterDescriptor: unit 3 int32
TrackEvent: debug_annotations 4 repeated DebugAnnotation, type 9 int32, track_uuid 11 uint64, categories 22 repeated string,
	name 23 string, counter_value 30 int64, flow_ids 47 repeated fixed64, terminating_flow_ids 48 repeated fixed64
DebugAnnotation: string_value 6 string, name 10 string
`

// perfettoTrace returns the descriptor of Trace.
func perfettoTrace(t *testing.T) protoreflect.MessageDescriptor {
	t.Helper()
	var b strings.Builder
	b.WriteString(`name: "perfetto.proto" package: "perfetto.protos" syntax: "proto2"`)
	for message := range strings.SplitSeq(strings.TrimSpace(strings.ReplaceAll(perfettoSchema, "\n\t", " ")), "\n") {
		name, fields, _ := strings.Cut(message, ": ")
		fmt.Fprintf(&b, "\nmessage_type { name: %q", name)
		for field := range strings.SplitSeq(fields, ", ") {
			f := strings.Fields(field)
			label := "LABEL_OPTIONAL"
			if f[2] == "repeated" {
				label = "LABEL_REPEATED"
				f = slices.Delete(f, 2, 3)
			}
			kind := "type: TYPE_" + strings.ToUpper(f[2])
			if f[2][0] < 'a' {
				kind = fmt.Sprintf("type: TYPE_MESSAGE type_name: %q", ".perfetto.protos."+f[2])
			}
			fmt.Fprintf(&b, " field { name: %q number: %s label: %s %s }", f[0], f[1], label, kind)
		}
		b.WriteString(" }")
	}
	file := new(descriptorpb.FileDescriptorProto)
	if err := prototext.Unmarshal([]byte(b.String()), file); err != nil {
		t.Fatal(err)
	}
	d, err := protodesc.NewFile(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	return d.Messages().ByName("Trace")
}

// A message reads fields by their names.
type message struct{ protoreflect.Message }

func (m message) get(name string) protoreflect.Value {
	return m.Get(m.Descriptor().Fields().ByName(protoreflect.Name(name)))
}
func (m message) has(name string) bool {
	return m.Has(m.Descriptor().Fields().ByName(protoreflect.Name(name)))
}
func (m message) of(name string) message { return message{m.get(name).Message()} }
func (m message) list(name string) protoreflect.List {
	return m.get(name).List()
}

// known fails the test for fields that the schema does not have.
func known(t *testing.T, m protoreflect.Message) {
	t.Helper()
	if n := len(m.GetUnknown()); n > 0 {
		t.Fatalf("%s has %d bytes that the schema does not know", m.Descriptor().Name(), n)
	}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.Message() == nil:
		case f.IsList():
			for i := range v.List().Len() {
				known(t, v.List().Get(i).Message())
			}
		default:
			known(t, v.Message())
		}
		return true
	})
}

// A perfettoRun is what a viewer makes of a trace.
type perfettoRun struct {
	tracks    map[uint64]string // names, by the ids of tracks; those of processes too
	parents   map[uint64]uint64
	slices    map[string]int // how many there are, by category
	instants  map[string]int
	counters  int
	flows     map[uint64]int // how many events have it
	landed    map[uint64]int // how many it ends at
	lifeNames []string
}

// readPerfetto reads a trace as the schema says, and fails the test where that is broken.
func readPerfetto(t *testing.T, trace []byte) *perfettoRun {
	t.Helper()
	m := dynamicpb.NewMessage(perfettoTrace(t))
	if err := proto.Unmarshal(trace, m); err != nil {
		t.Fatal(err)
	}
	known(t, m)
	r := &perfettoRun{
		tracks: make(map[uint64]string), parents: make(map[uint64]uint64), slices: make(map[string]int), instants: make(map[string]int),
		flows: make(map[uint64]int), landed: make(map[uint64]int),
	}
	packets := message{m}.list("packet")
	type open struct {
		name string
		at   uint64
	}
	stacks := make(map[uint64][]open) // slices that have begun, by their tracks
	last := make(map[uint64]uint64)   // the time of the last slice event of a track
	for i := range packets.Len() {
		p := message{packets.Get(i).Message()}
		if p.get("trusted_packet_sequence_id").Uint() != 1 || (p.get("sequence_flags").Uint() == 1) != (i == 0) {
			t.Errorf("packet %d is of no sequence", i)
		}
		if p.has("track_descriptor") {
			d := p.of("track_descriptor")
			id, name := d.get("uuid").Uint(), d.get("name").String()
			if d.has("process") {
				name = d.of("process").get("process_name").String()
			}
			if _, ok := r.tracks[id]; ok {
				t.Errorf("track %d is described twice", id)
			}
			r.tracks[id], r.parents[id] = name, d.get("parent_uuid").Uint()
			continue
		}
		e, at := p.of("track_event"), p.get("timestamp").Uint()
		track := e.get("track_uuid").Uint()
		if _, ok := r.tracks[track]; !ok {
			t.Fatalf("an event of the track %d, which was not described", track)
		}
		category := ""
		if c := e.list("categories"); c.Len() > 0 {
			category = c.Get(0).String()
		}
		for i := range e.list("flow_ids").Len() {
			r.flows[e.list("flow_ids").Get(i).Uint()]++
		}
		for i := range e.list("terminating_flow_ids").Len() {
			r.landed[e.list("terminating_flow_ids").Get(i).Uint()]++
		}
		switch e.get("type").Int() {
		case 1:
			if at < last[track] {
				t.Errorf("track %q goes back in time", r.tracks[track])
			}
			r.slices[category]++
			if category == "life" {
				r.lifeNames = append(r.lifeNames, e.get("name").String())
			}
			stacks[track] = append(stacks[track], open{e.get("name").String(), at})
			last[track] = at
		case 2:
			s := stacks[track]
			if len(s) == 0 || at < s[len(s)-1].at || at < last[track] {
				t.Fatalf("track %q: an end without a beginning, or before it", r.tracks[track])
			}
			stacks[track] = s[:len(s)-1]
			last[track] = at
		case 3:
			r.instants[category]++
		case 4:
			r.counters++
		default:
			t.Errorf("an event of the type %d", e.get("type").Int())
		}
	}
	for track, s := range stacks {
		if len(s) > 0 {
			t.Errorf("track %q: slices that do not end: %v", r.tracks[track], s)
		}
	}
	for id, parent := range r.parents {
		if _, ok := r.tracks[parent]; !ok && parent != 0 {
			t.Errorf("the track above %q was not described", r.tracks[id])
		}
	}
	return r
}

// The bytes for Perfetto, read by protobuf's own reader: all that the timeline has is there.
func TestTimeline_Perfetto(t *testing.T) {
	line := steps(1000, 30, "work")
	line.Counters = []timeline.Counter{{Process: 0, Name: "ready", Samples: []timeline.Sample{{At: 5, Value: -1}, {At: 10, Value: 1 << 40}}}}
	r := readPerfetto(t, written(t, line.WritePerfetto))
	if r.slices["step"] != 1000 || r.slices["wait"] != 1000 || r.slices["life"] != 30 || r.instants["panic"] != 1 || r.counters != 2 {
		t.Errorf("slices %v, instants %v, %d values", r.slices, r.instants, r.counters)
	}
	if len(r.flows) != 999 || len(r.landed) != 999 {
		t.Errorf("%d flows begin, %d end, want 999", len(r.flows), len(r.landed))
	}
	for id := range r.flows {
		if r.flows[id] != 1 || r.landed[id] != 1 {
			t.Errorf("flow %d begins %d times and ends %d times", id, r.flows[id], r.landed[id])
		}
	}
	for _, odd := range []*timeline.Timeline{new(timeline.Timeline), steps(1, 1, "one"), steps(3, 2, "\x00\xff</script> 任务")} {
		readPerfetto(t, written(t, odd.WritePerfetto))
	}
}
