package asynciosql

import (
	"errors"
	"fmt"
	"time"

	"github.com/goasyncio/asyncio"
)

// ErrOutcomeUnknown is matched by the error of a statement, outside of a transaction, that a cancel
// or the end of its context interrupted, and by that of a transaction whose commit nobody has
// answered: it may have had its effect or not, and may even have it later. The error also matches
// what interrupted it, such as [asyncio.ErrCancelled].
var ErrOutcomeUnknown = errors.New("asynciosql: it is not known whether this took effect")

// An interrupted error is that of an operation that a cancel or the end of a context has ended
// (sql 4). For errors.Is and asyncio it is that cause, and ErrOutcomeUnknown if that is so. What
// the driver said is text: drivers have no common word for it.
type interrupted struct {
	cause   error
	driver  error // nil if the driver has not returned
	unknown bool
	grace   time.Duration
}

func (e *interrupted) Error() string {
	said := fmt.Sprintf("the driver has not returned within %v", e.grace)
	if e.driver != nil {
		said = e.driver.Error()
	}
	if e.unknown {
		return fmt.Sprintf("%v: %v: %s", e.cause, ErrOutcomeUnknown, said)
	}
	return fmt.Sprintf("%v: %s", e.cause, said)
}

func (e *interrupted) Unwrap() error { return e.cause }

func (e *interrupted) Is(target error) bool { return e.unknown && target == ErrOutcomeUnknown }

// unanswered is the error of a commit that the database has not answered (sql 7).
type unanswered struct{ err error }

func (e *unanswered) Error() string { return fmt.Sprintf("%v: %v", ErrOutcomeUnknown, e.err) }

func (e *unanswered) Unwrap() error { return e.err }

func (e *unanswered) Is(target error) bool { return target == ErrOutcomeUnknown }

// errZero is the answer of a zero value.
var errZero = fmt.Errorf("%w: a zero DB, Conn, Tx or Stmt: New, OnConn, InTx and Prepare make them", asyncio.ErrInvalidArgument)

// errTooLong ends the context of work that has to be done but takes too long.
var errTooLong = errors.New("asynciosql: the database takes too long to put a connection in order")
