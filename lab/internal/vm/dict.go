package vm

import (
	"math"
	"math/big"
)

// A Dict keeps the order in which its keys came. Simple keys are those of a Go map; keys that
// compare by code of their own are found by their hash.
type Dict struct {
	entries []entry // removed ones have a nil key
	simple  map[any]int
	hashed  map[int][]int
	n       int
	kind    *Class // defaultdict, Counter, OrderedDict; nil for dict
	factory Value  // of a defaultdict
	version int    // counts changes of the set of keys
}

type entry struct{ key, value Value }

func newDict() *Dict { return &Dict{} }

// simpleKey returns a Go value that is equal for equal keys, and false if v needs __hash__.
func simpleKey(v Value) (any, bool) {
	switch v := v.(type) {
	case string, int:
		return v, true
	case bool:
		if v {
			return 1, true
		}
		return 0, true
	case float64:
		if v == math.Trunc(v) && math.Abs(v) < 1<<62 {
			return int(v), true
		}
		return v, v == v
	case *big.Int:
		return "\x00big" + v.String(), true
	case *Object:
		if v.cls.lookup("__eq__") == objectEq && v.cls.lookup("__hash__") == objectHash {
			return v, true
		}
		return nil, false
	case *Tuple, *List, *Dict, *Set, *Method, *Range, *SliceObj:
		return nil, false
	}
	return v, true
}

// find returns the index of key's entry, or -1; hash is that of a key that is not simple.
func (d *Dict) find(th *Thread, key Value) (index, hash int, err error) {
	if k, ok := simpleKey(key); ok {
		if i, ok := d.simple[k]; ok {
			return i, 0, nil
		}
		if len(d.hashed) == 0 {
			return -1, 0, nil
		}
		// an object with a hash of its own may equal it
	}
	if hash, err = th.hash(key); err != nil {
		return 0, 0, err
	}
	for _, i := range d.hashed[hash] {
		if i < len(d.entries) && d.entries[i].key != nil {
			same, err := th.equal(d.entries[i].key, key)
			if err != nil || same {
				return i, hash, err
			}
		}
	}
	if _, ok := simpleKey(key); !ok {
		switch key.(type) {
		case *Object: // it may equal a simple one
			for i, e := range d.entries {
				if _, ok := simpleKey(e.key); ok && e.key != nil {
					h, err := th.hash(e.key)
					if err != nil || h != hash {
						continue
					}
					if same, err := th.equal(e.key, key); err != nil || same {
						return i, hash, err
					}
				}
			}
		}
	}
	return -1, hash, nil
}

func (d *Dict) get(th *Thread, key Value) (Value, bool, error) {
	i, _, err := d.find(th, key)
	if err != nil || i < 0 {
		return nil, false, err
	}
	return d.entries[i].value, true, nil
}

func (d *Dict) set(th *Thread, key, value Value) error {
	i, hash, err := d.find(th, key)
	if err != nil {
		return err
	}
	if i >= 0 {
		d.entries[i].value = value
		return nil
	}
	if err := th.alloc(64); err != nil {
		return err
	}
	d.version++
	d.n++
	at := len(d.entries)
	d.entries = append(d.entries, entry{key, value})
	if k, ok := simpleKey(key); ok {
		if d.simple == nil {
			d.simple = map[any]int{}
		}
		d.simple[k] = at
		return nil
	}
	if d.hashed == nil {
		d.hashed = map[int][]int{}
	}
	d.hashed[hash] = append(d.hashed[hash], at)
	return nil
}

func (d *Dict) setStr(name string, v Value) {
	if i, ok := d.simple[name]; ok {
		d.entries[i].value = v
		return
	}
	if d.simple == nil {
		d.simple = map[any]int{}
	}
	d.simple[name] = len(d.entries)
	d.entries = append(d.entries, entry{name, v})
	d.n++
	d.version++
}

func (d *Dict) getStr(name string) Value {
	if i, ok := d.simple[name]; ok {
		return d.entries[i].value
	}
	return nil
}

func (d *Dict) del(th *Thread, key Value) (Value, bool, error) {
	i, hash, err := d.find(th, key)
	if err != nil || i < 0 {
		return nil, false, err
	}
	v := d.entries[i].value
	if k, ok := simpleKey(d.entries[i].key); ok {
		delete(d.simple, k)
	} else {
		bucket := d.hashed[hash]
		for j, at := range bucket {
			if at == i {
				d.hashed[hash] = append(bucket[:j:j], bucket[j+1:]...)
				break
			}
		}
		if len(d.hashed[hash]) == 0 {
			delete(d.hashed, hash)
		}
	}
	d.entries[i] = entry{}
	d.n--
	d.version++
	if d.n == 0 {
		d.clear()
	} else if len(d.entries) > 2*d.n+16 {
		d.compact()
	}
	return v, true, nil
}

// compact removes the gaps. Iterators hold an index, so they notice by the version.
func (d *Dict) compact() {
	moved := make([]int, len(d.entries))
	kept := d.entries[:0]
	for i, e := range d.entries {
		if e.key != nil {
			moved[i] = len(kept)
			kept = append(kept, e)
		}
	}
	d.entries = kept
	for k, i := range d.simple {
		d.simple[k] = moved[i]
	}
	for _, bucket := range d.hashed {
		for j, i := range bucket {
			bucket[j] = moved[i]
		}
	}
}

func (d *Dict) clear() {
	d.entries, d.simple, d.hashed, d.n = nil, nil, nil, 0
	d.version++
}

func (d *Dict) copy() *Dict {
	c := &Dict{n: d.n, kind: d.kind, factory: d.factory, entries: append([]entry(nil), d.entries...)}
	c.simple = map[any]int{}
	for k, i := range d.simple {
		c.simple[k] = i
	}
	if d.hashed != nil {
		c.hashed = map[int][]int{}
		for h, b := range d.hashed {
			c.hashed[h] = append([]int(nil), b...)
		}
	}
	return c
}

// all returns the entries in order.
func (d *Dict) all() []entry {
	out := make([]entry, 0, d.n)
	for _, e := range d.entries {
		if e.key != nil {
			out = append(out, e)
		}
	}
	return out
}

func (d *Dict) keys() []Value {
	out := make([]Value, 0, d.n)
	for _, e := range d.entries {
		if e.key != nil {
			out = append(out, e.key)
		}
	}
	return out
}

// A Set is a dict without values. Its order is that of CPython for small ints, and otherwise the
// order of insertion, where CPython's differs from run to run.
type Set struct {
	d      Dict
	frozen bool
}

func (s *Set) add(th *Thread, v Value) error { return s.d.set(th, v, None) }

func (s *Set) has(th *Thread, v Value) (bool, error) {
	i, _, err := s.d.find(th, v)
	return i >= 0, err
}

func (s *Set) items() []Value {
	keys := s.d.keys()
	for _, k := range keys {
		switch n := k.(type) {
		case bool:
		case int:
			if n < 0 || n >= 1<<60 {
				return keys
			}
		default:
			return keys
		}
	}
	return hashOrder(keys)
}

// hashOrder returns ints in the order of CPython's table, to which they were added one by one: open
// addressing with nine linear probes, a table of eight that grows fourfold.
func hashOrder(keys []Value) []Value {
	if len(keys) < 2 {
		return keys
	}
	hashOf := func(v Value) uint {
		if b, ok := v.(bool); ok {
			if b {
				return 1
			}
			return 0
		}
		return uint(v.(int))
	}
	table := make([]Value, 8)
	insert := func(t []Value, v Value) {
		mask := uint(len(t) - 1)
		perturb := hashOf(v)
		i := perturb & mask
		for {
			limit := uint(0)
			if i+9 <= mask {
				limit = 9
			}
			for j := i; j <= i+limit; j++ {
				if t[j] == nil {
					t[j] = v
					return
				}
			}
			perturb >>= 5
			i = (i*5 + 1 + perturb) & mask
		}
	}
	for n, k := range keys {
		insert(table, k)
		if fill := n + 1; fill*5 >= (len(table)-1)*3 {
			grown := 8
			for grown <= fill*4 && fill <= 50000 || grown <= fill*2 {
				grown *= 2
			}
			bigger := make([]Value, grown)
			for _, v := range table {
				if v != nil {
					insert(bigger, v)
				}
			}
			table = bigger
		}
	}
	out := keys[:0:0]
	for _, v := range table {
		if v != nil {
			out = append(out, v)
		}
	}
	return out
}

// A dictView is d.keys(), d.values() or d.items().
type dictView struct {
	d    *Dict
	kind byte // 'k', 'v' or 'i'
}

func (v *dictView) items() []Value {
	var out []Value
	for _, e := range v.d.entries {
		if e.key == nil {
			continue
		}
		switch v.kind {
		case 'k':
			out = append(out, e.key)
		case 'v':
			out = append(out, e.value)
		default:
			out = append(out, &Tuple{[]Value{e.key, e.value}})
		}
	}
	return out
}
