package inspection

import (
	"sync"
	"time"
)

const (
	attention = time.Minute            // how long loops are attended to after a look
	pingEvery = 250 * time.Millisecond // while they are
)

// attend has loops attended to for the next minute (inspection 4).
func attend() {
	r := &registry
	r.Lock()
	defer r.Unlock()
	r.looked = time.Now()
	if r.attend != nil {
		return
	}
	r.attend = time.AfterFunc(pingEvery, pingAll)
	for l := range r.loops {
		l.Time(true)
	}
}

// pingAll pings each loop that runs, and comes back until the minute is over.
func pingAll() {
	now := time.Now()
	r := &registry
	r.Lock()
	defer r.Unlock()
	if r.attend == nil {
		return
	}
	if now.Sub(r.looked) > attention {
		r.attend = nil
		for l, e := range r.loops {
			l.Time(false)
			e.lags.clear()
		}
		return
	}
	for l, e := range r.loops {
		if answer := e.lags.ping(now); answer != nil {
			l.Ping(answer)
		}
	}
	r.attend.Reset(pingEvery)
}

// lags is how long a loop took to answer, the longest of each second.
type lags struct {
	mu      sync.Mutex
	seconds []time.Duration // the last is of the second that began at begun
	begun   time.Time
	asked   time.Time // zero if no ping is under way
}

// ping notes for how long a ping has not been answered. If none is under way, it begins one, and
// returns what the loop is to call.
func (g *lags) ping(now time.Time) (answer func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if now.Sub(g.begun) >= time.Second || g.seconds == nil {
		g.seconds, g.begun = append(g.seconds, 0), now
		if drop := len(g.seconds) - int(attention/time.Second); drop > 0 {
			g.seconds = append(g.seconds[:0], g.seconds[drop:]...)
		}
	}
	if !g.asked.IsZero() {
		g.note(now.Sub(g.asked))
		return nil
	}
	g.asked = now
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if !g.asked.IsZero() {
			g.note(time.Since(g.asked))
			g.asked = time.Time{}
		}
	}
}

func (g *lags) note(lag time.Duration) {
	if n := len(g.seconds); n > 0 {
		g.seconds[n-1] = max(g.seconds[n-1], lag)
	}
}

func (g *lags) clear() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.seconds, g.asked = nil, time.Time{}
}

// all returns the lags of the last minute, oldest first.
func (g *lags) all() []time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]time.Duration(nil), g.seconds...)
}
