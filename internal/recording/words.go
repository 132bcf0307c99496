package recording

// The words of a ring.
//
//	word 1: A word has a kind in bits 0 to 4, a note in bits 5 to 31 and a subject in bits 32 to 63.
//	   A word that is 0 has not been written.
//	word 2: Words stand in the order in which things happened. A word says nothing that the words
//	   before it say. Whatever happens between the beginning of a step and its end is caused by
//	   that step. A step that ends without a word for it has only given way: its task can go on.
//	   An iteration that has begun is told by the next Step or Call, or by a word of its own
//	   before anything else.
//	word 3: Words are written in blocks of BlockWords. A block begins with a Clock, an Amid and a
//	   Number, so reading can begin with any block. Words that belong together are in one block;
//	   if they do not fit, it is filled up with Pads.
//	word 4: A time is a note: 0 if the clock was not read, otherwise one more than the nanoseconds
//	   since the time before. If that is too much, a Clock comes first. The highest bit of such a
//	   note is First.
//	word 5: A task is a number that the recorder gives it, from 1 on. The word that says its name,
//	   a Made or a Known, comes when the number is given, and again when the task ends if that is
//	   in another block. A task that was numbered and not ended is in
//	   the list of tasks (Loop.Tasks). Nearly all tasks are named by the number after the last
//	   one, which is a bit of the note; otherwise a Number or Texts follow.
//	word 6: A callback or a thing is an index of Loop.Names in bits 0 to 11 of the subject, and
//	   20 bits of its address above them.

// A Kind is the kind of a word.
type Kind uint8

// The kinds of words. T marks those whose note is a time.
const (
	None  Kind = iota
	Pad        // nothing (word 3)
	Clock      // the time, in bits 5 to 63
	Amid       // who is under way: the subject, of which the note is the ActorKind
	Step       // T: a step of a task begins
	Call       // T: a callback begins
	Wait       // the step ends, because its task waits for a thing
	Join       // the step ends, because its task waits for the task that is the subject
	Wake       // a task can go on; note 1: another goroutine has seen to it
	Due        // a callback can run; note as of Wake

	// A task is made, or was there before. The note is the index of its coroutine, shifted by 2,
	// and Own and Serial.
	Made
	Known

	// Behind Made and Known: the name is Task- and the subject. In a block's beginning: the number
	// of the task before.
	Number

	// Behind Made and Known, bytes of the name, and behind Cancel, of the message. Bits 5 to 7 say
	// how many.
	Text

	Done      // a task ends; the note is an End, shifted by 12, and the index of the error's type
	Cancel    // a task is asked to end; the note is the index of the cause's type
	Idle      // T: the loop waits for events
	Woken     // T: the loop goes on
	Iteration // an iteration begins; subject: how many callbacks are ready; note: timers
	Stall     // the step before this word took as many milliseconds as the subject says, at least
	Job       // an executor has run a function; the subject is a callback, and two Spans follow
	Span      // nanoseconds, in bits 5 to 63: how long ago the Job began, and how long it took
)

// An ActorKind says who is under way.
type ActorKind uint8

// What can be under way.
const (
	Nobody ActorKind = iota
	ATask
	ACallback
)

// An End says how a task has ended.
type End uint8

// The ends of tasks.
const (
	Finished End = iota
	Failed
	Cancelled
	Panicked
)

func (e End) String() string {
	if int(e) < len(ends) {
		return ends[e]
	}
	return "ended"
}

var ends = [...]string{"finished", "failed", "cancelled", "panicked"}

const (
	// BlockWords is the size of a block (word 3).
	BlockWords = 4096

	// MaxNote is the largest note.
	MaxNote = 1<<27 - 1

	// First is the bit of a note that says that an iteration begins with the word, and MaxTime how
	// many nanoseconds there is room for below it (word 4).
	First   = 1 << 26
	MaxTime = First - 1

	// Own is the bit of the note of a Made or Known that says that the library has made the task
	// for itself, and Serial the one that says that its name is Task- and the number after that of
	// the task before (word 5).
	Own    = 1
	Serial = 2

	// MaxNames is how many names words can refer to (word 6).
	MaxNames = 1 << 12

	// TextBytes is how many bytes of text a word has.
	TextBytes = 7
)

// Of makes a word.
func Of(k Kind, note uint32, subject uint32) uint64 {
	return uint64(k) | uint64(note&MaxNote)<<5 | uint64(subject)<<32
}

// Wide makes a word of a kind whose value has all bits but those of the kind.
func Wide(k Kind, value uint64) uint64 { return uint64(k) | value<<5 }

// OfText makes a Text of the first bytes of s, at most TextBytes.
func OfText(s string) uint64 {
	n := min(len(s), TextBytes)
	w := uint64(Text) | uint64(n)<<5
	for i := range n {
		w |= uint64(s[i]) << (8 + 8*i)
	}
	return w
}

func kindOf(w uint64) Kind      { return Kind(w & 31) }
func noteOf(w uint64) uint32    { return uint32(w>>5) & MaxNote }
func subjectOf(w uint64) uint32 { return uint32(w >> 32) }
func wideOf(w uint64) uint64    { return w >> 5 }

func textOf(w uint64) string {
	var b [TextBytes]byte
	for i := range b {
		b[i] = byte(w >> (8 + 8*i))
	}
	return string(b[:min(int(w>>5)&7, TextBytes)])
}
