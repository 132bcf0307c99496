package scenario

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/goasyncio/asyncio"
)

// Locks, events, queues and the other things that a scenario declares.

// locker is anything that a with block can hold.
type locker interface {
	Acquire(ctx context.Context) error
	Release()
}

// permits is a semaphore of either kind.
type permits interface {
	locker
	Locked() bool
	Statistics() asyncio.SemaphoreStatistics
}

// queue is a queue of any kind.
type queue interface {
	Put(ctx context.Context, v int) error
	Get(ctx context.Context) (int, error)
	PutNowait(v int) error
	GetNowait() (int, error)
	TaskDone()
	Join(ctx context.Context) error
	Shutdown(immediate bool)
	Statistics() asyncio.QueueStatistics
}

// primitive makes the primitive that i declares.
func primitive(i *Instruction, things map[string]any) any {
	n := 0
	if len(i.Args) > 1 {
		n = number(i.Args[1])
	}
	switch i.Verb {
	case "lock":
		return new(asyncio.Lock)
	case "event":
		return new(asyncio.Event)
	case "condition":
		if len(i.Args) > 1 {
			lock, _ := things[i.Args[1]].(*asyncio.Lock)
			return asyncio.NewCondition(lock)
		}
		return new(asyncio.Condition)
	case "semaphore":
		return asyncio.NewSemaphore(n)
	case "bounded":
		return asyncio.NewBoundedSemaphore(n)
	case "barrier":
		return asyncio.NewBarrier(n)
	case "queue":
		return asyncio.NewQueue[int](n)
	case "priority-queue":
		return asyncio.NewPriorityQueue(n, func(a, b int) int { return a - b })
	case "lifo-queue":
		return asyncio.NewLifoQueue[int](n)
	}
	panic("scenario: " + i.Verb) // Parse has refused it
}

// primitiveState is the text in brackets when a primitive is printed, "" for anything else.
func primitiveState(thing any) string {
	switch p := thing.(type) {
	case queue:
		s := p.Statistics()
		text := fmt.Sprintf("size %d unfinished %d getters %d putters %d", s.Size, s.Unfinished, s.Getters, s.Putters)
		if s.ShutDown {
			text += " shut down"
		}
		return text
	case *asyncio.TimeoutScope:
		_, text, _ := strings.Cut(p.String(), "[")
		text, _, _ = strings.Cut(text, "]")
		if when, ok := p.When(); ok {
			return fmt.Sprintf("%s when %d", text, when.SinceStart()/time.Second)
		}
		return text
	case *asyncio.Lock, *asyncio.Event, *asyncio.Condition, *asyncio.Barrier, permits:
		_, text, _ := strings.Cut(fmt.Sprint(p), "[")
		text, _, _ = strings.Cut(text, "]")
		return text
	}
	return ""
}

// signal is effect for primitives.
func (r *run) signal(i *Instruction) (outcome string, err error) {
	if !strings.Contains(i.Verb, ".") {
		return "", nil
	}
	switch p := r.things[i.Args[0]].(type) {
	case *asyncio.Lock:
		switch i.Verb {
		case "lock.release":
			return "ok", refused("misuse", p.Release)
		case "lock.locked":
			return strconv.FormatBool(p.Locked()), nil
		case "lock.acquire":
			return "", nil
		}
	case permits:
		switch i.Verb {
		case "semaphore.release":
			return "ok", refused("value", p.Release)
		case "semaphore.locked":
			return strconv.FormatBool(p.Locked()), nil
		case "semaphore.acquire":
			return "", nil
		}
	case *asyncio.Event:
		switch i.Verb {
		case "event.set":
			p.Set()
			return "ok", nil
		case "event.clear":
			p.Clear()
			return "ok", nil
		case "event.wait":
			return "", nil
		}
	case *asyncio.Condition:
		switch i.Verb {
		case "condition.release":
			return "ok", refused("misuse", p.Release)
		case "condition.notify":
			return "ok", refused("misuse", func() { p.Notify(number(i.Args[1])) })
		case "condition.acquire", "condition.wait":
			return "", nil
		}
	case *asyncio.Barrier:
		if strings.HasPrefix(i.Verb, "barrier.") {
			return "", nil
		}
	case queue:
		switch i.Verb {
		case "queue.put-nowait":
			return "ok", p.PutNowait(number(i.Args[1]))
		case "queue.get-nowait":
			v, err := p.GetNowait()
			return strconv.Itoa(v), err
		case "queue.task-done":
			return "ok", refused("value", p.TaskDone)
		case "queue.shutdown":
			p.Shutdown(len(i.Args) > 1 && i.Args[1] == "now")
			return "ok", nil
		case "queue.put", "queue.get", "queue.join":
			return "", nil
		}
	}
	return "unset", nil
}

// wants is operation for primitives. signal has checked that they are of the right kind.
func (r *run) wants(ctx context.Context, i *Instruction) (string, error) {
	switch p := r.things[i.Args[0]].(type) {
	case *asyncio.Event:
		return "true", p.Wait(ctx)
	case *asyncio.Condition:
		if i.Verb == "condition.wait" {
			return "true", p.Wait(ctx)
		}
		return "true", p.Acquire(ctx)
	case locker:
		return "true", p.Acquire(ctx)
	case *asyncio.Barrier:
		switch i.Verb {
		case "barrier.reset":
			return "ok", p.Reset(ctx)
		case "barrier.abort":
			return "ok", p.Abort(ctx)
		}
		n, err := p.Wait(ctx)
		return strconv.Itoa(n), err
	case queue:
		switch i.Verb {
		case "queue.put":
			return "ok", p.Put(ctx, number(i.Args[1]))
		case "queue.join":
			return "ok", p.Join(ctx)
		}
		v, err := p.Get(ctx)
		return strconv.Itoa(v), err
	}
	panic(fmt.Sprintf("line %d: the reader knows %s and the interpreter does not", i.Line, i.Verb))
}

// refused calls do, and returns an error of the given kind if do panics because of misuse.
func refused(kind string, do func()) (err error) {
	defer func() {
		switch p := recover().(type) {
		case nil:
		case error:
			if errors.Is(p, asyncio.ErrNotAcquired) || errors.Is(p, asyncio.ErrInvalidArgument) || errors.Is(p, asyncio.ErrInvalidState) {
				err = userError(kind)
				return
			}
			panic(p)
		default:
			panic(p)
		}
	}()
	do()
	return nil
}
