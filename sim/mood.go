package sim

import (
	"math"
	"math/rand/v2"
	"time"
)

// A mood says which troubles a run has, and how many: swarm testing (Groce, Zhang, Eide, Chen and
// Regehr, "Swarm Testing", 2012). A run with everything at once hides as much as it shows: a
// program that crashes all the time never gets as far as its mistake. So each run has a few kinds
// of trouble only, and most have few of each kind.
type mood struct {
	of   [troubleKinds]odds
	most time.Duration // the longest time that anything lasts
}

// odds say how often a trouble happens.
type odds struct {
	p    float64 // each time that it is asked for
	left int     // how many there may still be (chaos 3)
}

// A course is what a run was like.
type course struct {
	asked     [troubleKinds]int // how often each trouble was asked for
	questions int               // how many in all
	choices   int               // how often several callbacks were ready
	time      time.Duration
}

// perPacket are the troubles that are asked for each packet and do little harm.
const perPacket = Delays | Losses | Duplicates | Reordering | ShortReads

// newMood draws a mood.
func newMood(w *world, rng *rand.Rand) *mood {
	m := &mood{most: max(time.Second, min(w.normal.time, longest))}
	share := []float64{0, 0.3, 0.5, 0.5, 0.8}[rng.IntN(5)] // of the troubles, 0 for one alone
	only := rng.IntN(troubleKinds)
	for k := 0; k < 50 && w.normal.asked[only] == 0; k++ {
		only = rng.IntN(troubleKinds)
	}
	for i := range m.of {
		asked := max(w.normal.asked[i], 1)
		have := rng.Float64() < share || share == 0 && i == only
		few, rate := 1<<min(rng.IntN(5), rng.IntN(5)), rng.Float64()
		switch {
		case !have:
		case perPacket&(1<<i) != 0 && rng.IntN(2) == 0:
			// from one packet in all to every other
			m.of[i] = odds{p: math.Pow(float64(2*asked), rate) / float64(2*asked), left: 1000}
		default:
			m.of[i] = odds{p: min(1, float64(few)/float64(asked)), left: 2 * few}
		}
	}
	return m
}

// happens reports whether a trouble happens.
func (m *mood) happens(q *question, d *dice) bool {
	o := &m.of[q.trouble.index()]
	if d.float() >= o.p || o.left == 0 {
		return false
	}
	o.left--
	return true
}

// amount draws an amount: small ones are as probable as large ones, and all are round.
func (m *mood) amount(q *question, s span, d *dice) int64 {
	if !m.happens(q, d) {
		return s.usual
	}
	least, most := s.least, s.most
	if q.unit == inTime && !s.signed {
		most = min(most, int64(m.most))
		least = max(least, most/1000)
	}
	got := round(float64(least) * math.Pow(float64(most)/float64(least), d.float()))
	if s.signed && d.next()&1 == 0 {
		got = -got
	}
	return got
}

// round makes a number 1, 2 or 5 times a power of 10.
func round(f float64) int64 {
	power := int64(1)
	for f >= 10 {
		f /= 10
		power *= 10
	}
	switch {
	case f >= 5:
		return 5 * power
	case f >= 2:
		return 2 * power
	}
	return power
}
