// Package recording has what the flight recorder of a loop writes: words in a ring, the file in
// which a recording is kept, and the events that both stand for. The loop writes words and knows
// nothing else of this package; whoever reads a recording sees no word.
package recording

import "time"

// A Recording is what the recorders of a process held at one moment.
type Recording struct {
	Program string
	PID     int
	Time    time.Time // when it was taken
	Reason  string    // why: "a stall", or a text that begins with Asked
	Loops   []*Loop
}

// Asked is the reason of a recording that somebody wanted.
const Asked = "asked for"

// A Loop is the recording of one loop.
type Loop struct {
	Number    int       // counted by the process; 0 if it is not known
	Start     time.Time // the wall-clock time at which the loop's clock was 0
	Now       time.Duration
	Simulated bool

	// The loop has listed its tasks. Otherwise it was stuck in a step or had ended, and a task that
	// was made before the window may have no name.
	Listed bool

	Names []Name
	Tasks []Task // that were there when the recording was taken
	Lost  uint64 // how many words have been overwritten
	Words []uint64
}

// A Name is a function or a type that words refer to, by its index; 0 is what has no name.
type Name struct {
	Text  string // "main.fetch", "*asyncio.Lock"
	Place string // of a function: its file and line
}

// A Task is a task that was there when the recording was taken.
type Task struct {
	ID        uint32 // 0 if no word refers to it
	Number    uint32 // Task-Number is its name if Name is empty
	Name      string
	Coroutine uint32 // an index of Names
	Own       bool   // the library has made it for itself
	Waits     Thing
}

// A Thing is what a task waits for.
type Thing struct {
	Name   uint32 // an index of Names: its type; 0 if the task does not wait
	Object uint32 // distinguishes things of a type, as far as 20 bits do
	Task   uint32 // the ID of the task that is waited for, 0 if it is none
}
