package asyncio

import (
	"fmt"
	"strings"
)

// A GroupError holds the errors of a [RunTaskGroup]: Python's ExceptionGroup. errors.Is and
// errors.As look into every one of them. A GroupError is never a cancellation, even if it holds
// one. It is a value: any goroutine may use it, and its methods do not suspend.
type GroupError struct {
	Message    string
	Exceptions []error // the children's in the order of their completion, the body's last
}

func (e *GroupError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "asyncio: %s (%d sub-exception", e.Message, len(e.Exceptions))
	if len(e.Exceptions) != 1 {
		b.WriteString("s")
	}
	b.WriteString(")")
	sep := ": "
	for _, err := range e.Exceptions {
		b.WriteString(sep + err.Error())
		sep = "; "
	}
	return b.String()
}

// Unwrap returns the errors of the group.
func (e *GroupError) Unwrap() []error { return e.Exceptions }

// isGroup keeps a group of one error apart from errors that are joined (unwrap).
func (e *GroupError) isGroup() {}

// First returns the error that came first; if that is a group, the first of that group.
func (e *GroupError) First() error {
	if len(e.Exceptions) == 0 {
		return nil
	}
	if inner, ok := e.Exceptions[0].(*GroupError); ok {
		return inner.First()
	}
	return e.Exceptions[0]
}

// Split divides the group in two by its leaves, the errors in it that are not groups themselves:
// those for which matches is true, and the rest. Nesting and order are kept; an empty part is nil.
// Return rest as it is, just as Python's except* does:
//
// = timeouts, rest := group.Split(func(err error) bool { return errors.Is(err, asyncio.ErrTimeout)
// })
//
// Python: ExceptionGroup.split, which asks about groups too.
func (e *GroupError) Split(matches func(error) bool) (match *GroupError, rest error) {
	match, others := e.split(matches)
	if others == nil {
		return match, nil
	}
	return match, others
}

// Subgroup returns the matching part of [GroupError.Split], nil if nothing matches. Python:
// ExceptionGroup.subgroup.
func (e *GroupError) Subgroup(matches func(error) bool) *GroupError {
	match, _ := e.split(matches)
	return match
}

func (e *GroupError) split(matches func(error) bool) (match, rest *GroupError) {
	add := func(to **GroupError, err error) {
		if *to == nil {
			*to = &GroupError{Message: e.Message}
		}
		(*to).Exceptions = append((*to).Exceptions, err)
	}
	for _, err := range e.Exceptions {
		if inner, ok := err.(*GroupError); ok {
			m, r := inner.split(matches)
			if m != nil {
				add(&match, m)
			}
			if r != nil {
				add(&rest, r)
			}
		} else if matches(err) {
			add(&match, err)
		} else {
			add(&rest, err)
		}
	}
	return match, rest
}
