package asyncio

import "iter"

// linkedList keeps things in the order in which they were added; any of them can leave at once. The
// links are fields of the things themselves, so neither allocates. Lists that change with every
// wait, such as waitQueue, have their links written out, which is a pointer less to store.
type linkedList[T any] struct {
	first, last *link[T]
	n           int
}

// link is the place of a thing in a list. For each link that it has, a thing is in one list at a
// time.
type link[T any] struct {
	of         T
	prev, next *link[T]
}

// add puts a thing at the end. k is its link, which is in no list.
func (q *linkedList[T]) add(k *link[T], of T) {
	k.of, k.prev, k.next = of, q.last, nil
	if q.last == nil {
		q.first = k
	} else {
		q.last.next = k
	}
	q.last = k
	q.n++
}

// remove takes out the thing with link k, which is in q.
func (q *linkedList[T]) remove(k *link[T]) {
	if k.prev == nil {
		q.first = k.next
	} else {
		k.prev.next = k.next
	}
	if k.next == nil {
		q.last = k.prev
	} else {
		k.next.prev = k.prev
	}
	k.prev, k.next = nil, nil
	q.n--
}

// all ranges over the things, oldest first. The current thing may leave meanwhile, others may not.
func (q *linkedList[T]) all() iter.Seq[T] {
	return func(yield func(T) bool) {
		for k := q.first; k != nil; {
			next := k.next
			if !yield(k.of) {
				return
			}
			k = next
		}
	}
}
