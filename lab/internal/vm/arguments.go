package vm

import "strings"

// arguments sorts the arguments of a Go function by the names of its parameters. "x?" may be left
// out and is nil then; those after "*" are given by name only.
func arguments(fn string, args []Value, kw []KW, names ...string) ([]Value, error) {
	out := make([]Value, 0, len(names))
	var plain []string
	positional, required := 0, 0
	only := false
	for _, n := range names {
		if n == "*" {
			only = true
			continue
		}
		if !only {
			positional++
		}
		if !strings.HasSuffix(n, "?") {
			required++
		}
		plain = append(plain, strings.TrimSuffix(n, "?"))
		out = append(out, nil)
	}
	if len(args) > positional {
		s := "s"
		if positional == 1 {
			s = ""
		}
		return nil, raise("TypeError", "%s() takes at most %d argument%s (%d given)", fn, positional, s, len(args))
	}
	copy(out, args)
kws:
	for _, k := range kw {
		for i, p := range plain {
			if p == k.name {
				if out[i] != nil {
					return nil, raise("TypeError", "%s() got multiple values for argument '%s'", fn, k.name)
				}
				out[i] = k.v
				continue kws
			}
		}
		return nil, raise("TypeError", "%s() got an unexpected keyword argument '%s'", fn, k.name)
	}
	i := 0
	for _, n := range names {
		if n == "*" {
			continue
		}
		if out[i] == nil && !strings.HasSuffix(n, "?") {
			return nil, raise("TypeError", "%s() missing required argument '%s' (pos %d)", fn, plain[i], i+1)
		}
		i++
	}
	return out, nil
}

type goFunc = func(th *Thread, args []Value, kw []KW) (Value, error)

// withArgs makes a function of one that gets its arguments sorted.
func withArgs(name string, names []string, fn func(th *Thread, a []Value) (Value, error)) goFunc {
	return func(th *Thread, args []Value, kw []KW) (Value, error) {
		a, err := arguments(name, args, kw, names...)
		if err != nil {
			return nil, err
		}
		return fn(th, a)
	}
}

// def adds a method whose parameters are the words of names, without self.
func (c *Class) def(name, names string, fn func(th *Thread, self Value, a []Value) (Value, error)) {
	words := strings.Fields(names)
	c.method(name, func(th *Thread, args []Value, kw []KW) (Value, error) {
		a, err := arguments(name, args[1:], kw, words...)
		if err != nil {
			return nil, err
		}
		return fn(th, args[0], a)
	})
}

func (n *NS) def(name, names string, fn func(th *Thread, a []Value) (Value, error)) {
	n.set(name, &Builtin{name: name, fn: withArgs(name, strings.Fields(names), fn)})
}

func (n *NS) fn(name string, fn goFunc) { n.set(name, &Builtin{name: name, fn: fn}) }

// intArg is an argument that must be an integer.
func intArg(v Value, absent int) (int, error) {
	if v == nil {
		return absent, nil
	}
	small, large, ok := integer(v)
	if !ok {
		return 0, raise("TypeError", "'%s' object cannot be interpreted as an integer", classOf(v).name)
	}
	if large != nil {
		return 0, raise("OverflowError", "Python int too large to convert to C ssize_t")
	}
	return small, nil
}

func strArg(v Value, absent string) (string, error) {
	if v == nil {
		return absent, nil
	}
	s, ok := v.(string)
	if !ok {
		return "", raise("TypeError", "expected str, got %s", classOf(v).name)
	}
	return s, nil
}
