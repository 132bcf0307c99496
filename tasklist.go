package asyncio

import "slices"

// taskList holds the tasks of a loop that are not done, in the order they were created. Each knows
// its index, so adding one stores one pointer and removing it another. While the collector is at
// work, storing pointers is most of the cost. (A linked list stores eight.)
//
// It is for the loop only.
type taskList struct {
	at   []*task // nil where a task has ended; the last is not nil
	head int     // index of the oldest task; all before it are nil
	n    int     // how many tasks there are

	cursors []*taskCursor

	// When the tasks were made, as far as somebody has noted it: by index, in units of the one who
	// notes it. It may be shorter than at.
	born []uint32
}

// A taskCursor goes through the tasks that are there when it is made and still there when it comes
// by. It ends even if others come faster than it goes on.
type taskCursor struct {
	next, end int // indices
	ended     bool
}

// cursor returns a cursor, to be given to forget when it is no longer used.
func (l *taskList) cursor() *taskCursor {
	c := &taskCursor{next: l.head, end: len(l.at)}
	l.cursors = append(l.cursors, c)
	return c
}

// take appends the next tasks to batch, as many as it has room for.
func (l *taskList) take(c *taskCursor, batch []*task) []*task {
	end := min(c.end, len(l.at))
	for ; c.next < end && len(batch) < cap(batch); c.next++ {
		if t := l.at[c.next]; t != nil {
			batch = append(batch, t)
		}
	}
	c.ended = c.next >= end
	return batch
}

func (l *taskList) forget(c *taskCursor) {
	l.cursors = slices.DeleteFunc(l.cursors, func(d *taskCursor) bool { return d == c })
}

func (l *taskList) add(t *task) {
	if len(l.at) == cap(l.at) && l.n <= len(l.at)/2 {
		l.close()
	}
	t.index = uint32(len(l.at))
	l.at = append(l.at, t)
	l.n++
}

// bear notes when t was made, which is the newest task.
func (l *taskList) bear(t *task, when uint32) {
	i := int(t.index)
	if len(l.born) > i {
		l.born = l.born[:i] // the rest is of tasks that have ended
	}
	for len(l.born) < i { // of these nothing is known
		l.born = append(l.born, 0)
	}
	l.born = append(l.born, when)
}

// bornAt returns what was noted of t, 0 if nothing was.
func (l *taskList) bornAt(t *task) uint32 {
	if int(t.index) < len(l.born) {
		return l.born[t.index]
	}
	return 0
}

func (l *taskList) remove(t *task) {
	l.at[t.index] = nil
	l.n--
	if l.n == 0 {
		l.at, l.head = l.at[:0], 0
		if cap(l.at) > 1<<14 {
			l.at, l.born = nil, nil
		}
		return
	}
	for l.at[len(l.at)-1] == nil {
		l.at = l.at[:len(l.at)-1]
	}
	for l.at[l.head] == nil {
		l.head++
	}
}

// close moves the tasks together. It is called when there are at least as many gaps as tasks, so
// its cost for each task is small.
func (l *taskList) close() {
	kept := l.at[:0]
	for i, t := range l.at {
		for _, c := range l.cursors {
			if c.next == i {
				c.next = len(kept)
			}
			if c.end == i {
				c.end = len(kept)
			}
		}
		if t != nil {
			if i < len(l.born) {
				l.born[len(kept)] = l.born[i]
			}
			t.index = uint32(len(kept))
			kept = append(kept, t)
		}
	}
	l.born = l.born[:min(len(kept), len(l.born))]
	for _, c := range l.cursors {
		c.next, c.end = min(c.next, len(kept)), min(c.end, len(kept))
	}
	clear(l.at[len(kept):])
	l.at, l.head = kept, 0
}

// first returns the oldest task, nil if there is none.
func (l *taskList) first() *task {
	if l.n == 0 {
		return nil
	}
	return l.at[l.head]
}

// all is a sequence of the tasks, oldest first. No task may be added meanwhile.
func (l *taskList) all(yield func(*task) bool) {
	for i := l.head; i < len(l.at); i++ {
		if t := l.at[i]; t != nil && !yield(t) {
			return
		}
	}
}
