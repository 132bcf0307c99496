package asyncio

// What a room keeps for each loop, such as the loop's files, is a part of the loop. The kernel
// knows parts by number only, so a new one changes no file below its room.
//
//	part 1: A room declares each of its parts once, in a variable. A loop makes a part when it is
//	   first asked for. Like all else of a loop, a part is for the loop only.
//	part 2: Close ends the parts that were made, stage by stage, after it has unwound the tasks. The
//	   parts of a stage end in no particular order, so none may need another.
//	part 3: Looking a part up takes a nanosecond or two. Code that needs it for every step or every
//	   message keeps the pointer.
//	part 4: On a closed loop any goroutine may ask whether something is there. So code that only
//	   looks must not make the part.

// A part of a loop has this method if there is something to end.
type part interface {
	// end is called by Close (part 2).
	end(l *EventLoop)
}

// An endStage says when Close ends a part.
type endStage int

const (
	endSources endStage = iota // what sends to the loop from outside stops
	endWork                    // what goes on outside of the program ends
	endOpen                    // what is open is closed

	// Here Close tells goroutines the results that they wait for, and reports errors that nobody
	// has retrieved.

	endWorkers // goroutines are told that there is no more work

	endNothing // the part has nothing to end
)

// A partOf finds the part of type T in a loop.
type partOf[T any] struct{ at int }

// partStages has the stage of each kind of part.
var partStages []endStage

// newPart declares a part that has nothing to end. It is for variables of the package.
func newPart[T any]() partOf[T] {
	partStages = append(partStages, endNothing)
	return partOf[T]{len(partStages) - 1}
}

// newEndingPart declares a part that ends at a stage of Close. It is for variables of the package.
func newEndingPart[T any, P interface {
	*T
	part
}](stage endStage) partOf[T] {
	partStages = append(partStages, stage)
	return partOf[T]{len(partStages) - 1}
}

// of returns the part of l. It makes the part, as a zero value, if l has none yet.
func (k partOf[T]) of(l *EventLoop) *T {
	if p := k.ifAny(l); p != nil {
		return p
	}
	if l.parts == nil {
		l.parts = make([]any, len(partStages))
	}
	p := new(T)
	l.parts[k.at] = p
	return p
}

// ifAny returns the part of l, nil if l has none.
func (k partOf[T]) ifAny(l *EventLoop) *T {
	if l.parts == nil {
		return nil
	}
	p, _ := l.parts[k.at].(*T)
	return p
}

// endParts ends the parts of one stage (part 2).
func (l *EventLoop) endParts(stage endStage) {
	for i, p := range l.parts {
		if p != nil && partStages[i] == stage {
			p.(part).end(l)
		}
	}
}

// madeAtGate makes the parts of a loop with a gate that any goroutine may ask for. They are made
// with the loop, so that the list of its parts is not changed later while a goroutine reads it.
var madeAtGate []func(*EventLoop)

func (l *EventLoop) comeToGate() {
	for _, makes := range madeAtGate {
		makes(l)
	}
}

// leaveGate settles what goroutines wait for, before tasks are unwound: the deferred functions of
// tasks may wait for goroutines, as http.Server.Close does.
func (l *EventLoop) leaveGate() {
	if l.gate == nil {
		return
	}
	for _, p := range l.parts {
		if p, ok := p.(interface{ leavesGate() }); ok {
			p.leavesGate()
		}
	}
}
