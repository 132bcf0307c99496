package vm

import (
	"math"
	"math/big"
)

// mersenne is MT19937, as CPython's module random has it, so that a seed gives the same numbers.
type mersenne struct {
	s [624]uint32
	i int
}

func newMersenne(key []uint32) *mersenne {
	m := &mersenne{}
	m.s[0] = 19650218
	for i := 1; i < 624; i++ {
		m.s[i] = 1812433253*(m.s[i-1]^m.s[i-1]>>30) + uint32(i)
	}
	i, j := 1, 0
	for range max(624, len(key)) {
		m.s[i] = (m.s[i] ^ (m.s[i-1]^m.s[i-1]>>30)*1664525) + key[j] + uint32(j)
		i++
		j++
		if i >= 624 {
			m.s[0], i = m.s[623], 1
		}
		if j >= len(key) {
			j = 0
		}
	}
	for range 623 {
		m.s[i] = (m.s[i] ^ (m.s[i-1]^m.s[i-1]>>30)*1566083941) - uint32(i)
		i++
		if i >= 624 {
			m.s[0], i = m.s[623], 1
		}
	}
	m.s[0] = 0x80000000
	m.i = 624
	return m
}

func (m *mersenne) next() uint32 {
	if m.i >= 624 {
		for k := range 624 {
			y := m.s[k]&0x80000000 | m.s[(k+1)%624]&0x7fffffff
			v := m.s[(k+397)%624] ^ y>>1
			if y&1 != 0 {
				v ^= 0x9908b0df
			}
			m.s[k] = v
		}
		m.i = 0
	}
	y := m.s[m.i]
	m.i++
	y ^= y >> 11
	y ^= y << 7 & 0x9d2c5680
	y ^= y << 15 & 0xefc60000
	return y ^ y>>18
}

func (m *mersenne) float() float64 {
	a, b := m.next()>>5, m.next()>>6
	return (float64(a)*67108864 + float64(b)) / 9007199254740992
}

func (m *mersenne) bits(k int) uint64 {
	if k <= 32 {
		return uint64(m.next() >> (32 - k))
	}
	low := uint64(m.next())
	return low | uint64(m.next()>>(64-k))<<32
}

// below returns an integer from 0 up to n.
func (m *mersenne) below(n int) int {
	k := 0
	for x := n; x > 0; x >>= 1 {
		k++
	}
	for {
		if r := m.bits(k); r < uint64(n) {
			return int(r)
		}
	}
}

func (in *Interp) random() *mersenne {
	if in.mt == nil {
		in.mt = newMersenne([]uint32{in.rng.Uint32(), in.rng.Uint32()})
	}
	return in.mt
}

func seedOf(th *Thread, v Value) (*mersenne, error) {
	switch x := v.(type) {
	case nil, *noneType:
		return newMersenne([]uint32{th.in.rng.Uint32(), th.in.rng.Uint32()}), nil
	case int, bool, *big.Int:
		n := new(big.Int).Abs(toBig(x))
		var key []uint32
		mask := big.NewInt(math.MaxUint32)
		for n.Sign() > 0 {
			key = append(key, uint32(new(big.Int).And(n, mask).Uint64()))
			n = new(big.Int).Rsh(n, 32)
		}
		if key == nil {
			key = []uint32{0}
		}
		return newMersenne(key), nil
	}
	return nil, th.outside("a random seed that is no integer")
}

func randomModule(ns *NS) {
	c := builtinClass("Random")
	c.module = "random"
	c.final = true
	c.newFn = func(th *Thread, cls *Class, args []Value, kw []KW) (Value, error) {
		m, err := seedOf(th, first(args))
		return &Object{cls: cls, native: m}, err
	}
	ns.set("Random", c)
	both := func(name, names string, fn func(th *Thread, m *mersenne, a []Value) (Value, error)) {
		ns.def(name, names, func(th *Thread, a []Value) (Value, error) { return fn(th, th.in.random(), a) })
		c.def(name, names, func(th *Thread, self Value, a []Value) (Value, error) {
			return fn(th, self.(*Object).native.(*mersenne), a)
		})
	}
	both("seed", "a? version?", func(th *Thread, m *mersenne, a []Value) (Value, error) {
		s, err := seedOf(th, a[0])
		if err == nil {
			*m = *s
		}
		return None, err
	})
	both("random", "", func(_ *Thread, m *mersenne, _ []Value) (Value, error) { return m.float(), nil })
	both("uniform", "a b", func(th *Thread, m *mersenne, a []Value) (Value, error) {
		if !isNumber(a[0]) || !isNumber(a[1]) {
			return nil, raise("TypeError", "uniform() needs two numbers")
		}
		x, err := toFloat(a[0])
		if err != nil {
			return nil, err
		}
		y, err := toFloat(a[1])
		return x + (y-x)*m.float(), err
	})
	between := func(m *mersenne, lo, hi, step int) (Value, error) {
		n := (&Range{lo, hi, step}).len()
		if n <= 0 {
			return nil, raise("ValueError", "empty range in randrange(%d, %d)", lo, hi)
		}
		return lo + step*m.below(n), nil
	}
	both("randint", "a b", func(_ *Thread, m *mersenne, a []Value) (Value, error) {
		lo, err := intArg(a[0], 0)
		if err != nil {
			return nil, err
		}
		hi, err := intArg(a[1], 0)
		if err != nil {
			return nil, err
		}
		return between(m, lo, hi+1, 1)
	})
	both("randrange", "start stop? step?", func(_ *Thread, m *mersenne, a []Value) (Value, error) {
		lo, err := intArg(a[0], 0)
		if err != nil {
			return nil, err
		}
		hi := lo
		if a[1] == nil {
			lo = 0
		} else if hi, err = intArg(a[1], 0); err != nil {
			return nil, err
		}
		step, err := intArg(a[2], 1)
		if err != nil {
			return nil, err
		}
		if step == 0 {
			return nil, raise("ValueError", "zero step for randrange()")
		}
		return between(m, lo, hi, step)
	})
	both("getrandbits", "k", func(th *Thread, m *mersenne, a []Value) (Value, error) {
		k, err := intArg(a[0], 0)
		if err != nil {
			return nil, err
		}
		if k < 0 || k > 62 {
			return nil, th.outside("getrandbits(%d)", k)
		}
		if k == 0 {
			return 0, nil
		}
		return int(m.bits(k)), nil
	})
	both("choice", "seq", func(th *Thread, m *mersenne, a []Value) (Value, error) {
		n, err := th.length(a[0])
		if err != nil {
			return nil, err
		}
		if n == 0 {
			return nil, raise("IndexError", "Cannot choose from an empty sequence")
		}
		return th.getItem(a[0], m.below(n))
	})
	both("shuffle", "x", func(th *Thread, m *mersenne, a []Value) (Value, error) {
		l, ok := a[0].(*List)
		if !ok {
			return nil, raise("TypeError", "'%s' object does not support item assignment", classOf(a[0]).name)
		}
		for i := len(l.items) - 1; i > 0; i-- {
			j := m.below(i + 1)
			l.items[i], l.items[j] = l.items[j], l.items[i]
		}
		return None, nil
	})
	both("sample", "population k * counts?", func(th *Thread, m *mersenne, a []Value) (Value, error) {
		pool, err := th.list(a[0])
		if err != nil {
			return nil, err
		}
		k, err := intArg(a[1], 0)
		if err != nil {
			return nil, err
		}
		n := len(pool)
		if k < 0 || k > n {
			return nil, raise("ValueError", "Sample larger than population or is negative")
		}
		out := &List{}
		size := 21
		if k > 5 {
			size += int(math.Pow(4, math.Ceil(math.Log(float64(k*3))/math.Log(4))))
		}
		if n <= size {
			for i := range k {
				j := m.below(n - i)
				out.items = append(out.items, pool[j])
				pool[j] = pool[n-i-1]
			}
			return out, nil
		}
		taken := map[int]bool{}
		for range k {
			j := m.below(n)
			for taken[j] {
				j = m.below(n)
			}
			taken[j] = true
			out.items = append(out.items, pool[j])
		}
		return out, nil
	})
	both("choices", "population weights? * cum_weights? k?", func(th *Thread, m *mersenne, a []Value) (Value, error) {
		if a[1] != nil || a[2] != nil {
			return nil, th.outside("random.choices() with weights")
		}
		k, err := intArg(a[3], 1)
		if err != nil {
			return nil, err
		}
		pool, err := th.list(a[0])
		if err != nil || len(pool) == 0 {
			return nil, raise("IndexError", "Cannot choose from an empty sequence")
		}
		if err := th.alloc(max(k, 0) * 16); err != nil {
			return nil, err
		}
		out := &List{}
		for range k {
			out.items = append(out.items, pool[int(m.float()*float64(len(pool)))])
		}
		return out, nil
	})
	both("gauss", "mu? sigma?", func(th *Thread, _ *mersenne, _ []Value) (Value, error) { return nil, th.outside("random.gauss") })
	both("expovariate", "lambd?", func(th *Thread, m *mersenne, a []Value) (Value, error) {
		l := 1.0
		if a[0] != nil {
			var err error
			if !isNumber(a[0]) {
				return nil, raise("TypeError", "must be real number, not %s", classOf(a[0]).name)
			}
			if l, err = toFloat(a[0]); err != nil {
				return nil, err
			}
			if l == 0 {
				return nil, raise("ZeroDivisionError", "float division by zero")
			}
		}
		return -math.Log(1-m.float()) / l, nil
	})
}
