package vm

// with carries out the instructions of with and async with.
func (th *Thread) with(f *Frame, o op) error {
	enter, exit, protocol := "__enter__", "__exit__", "context manager"
	if o == opAsyncEnter {
		enter, exit, protocol = "__aenter__", "__aexit__", "asynchronous context manager"
	}
	switch o {
	case opWithEnter, opAsyncEnter:
		mgr := f.top()
		cls := classOf(mgr)
		in, out := cls.lookup(enter), cls.lookup(exit)
		for _, name := range []string{enter, exit} {
			if cls.lookup(name) == nil {
				hint := ""
				if name == enter && o == opWithEnter && cls.lookup("__aenter__") != nil && cls.lookup("__aexit__") != nil {
					hint = " but it supports the asynchronous context manager protocol. Did you mean to use 'async with'?"
				} else if name == enter && o == opAsyncEnter && cls.lookup("__enter__") != nil && cls.lookup("__exit__") != nil {
					hint = " but it supports the context manager protocol. Did you mean to use 'with'?"
				} else if name == exit {
					hint = " (missed " + exit + " method)"
				}
				return raise("TypeError", "'%s' object does not support the %s protocol%s", cls.name, protocol, hint)
			}
		}
		bound, err := th.bind(out, mgr, cls)
		if err != nil {
			return err
		}
		begin, err := th.bind(in, mgr, cls)
		if err != nil {
			return err
		}
		v, err := th.call(begin, nil, nil)
		if err != nil {
			return err
		}
		f.stack[len(f.stack)-1] = bound
		f.push(v)
	case opWithExit, opAsyncExit:
		v, err := th.call(f.top(), []Value{None, None, None}, nil)
		if err != nil {
			return err
		}
		f.stack[len(f.stack)-1] = v
	default:
		exc := f.excs[len(f.excs)-1]
		v, err := th.call(f.top(), []Value{exc.cls, exc, &traceback{exc.exc.tb}}, nil)
		if err != nil {
			return err
		}
		f.push(v)
	}
	return nil
}

// starState is what an except* keeps on the stack.
type starState struct {
	orig, rest *Object
	raised     []*Object // by clauses
	kept       []*Object // parts that clauses raised again
	match      *Object
}

func (th *Thread) exceptStar(f *Frame, o op) error {
	switch o {
	case opStarBegin:
		exc := f.excs[len(f.excs)-1]
		f.push(&starState{orig: exc, rest: exc})
	case opStarMatch:
		types := f.pop()
		st := f.top().(*starState)
		if st.rest == nil {
			f.push(None)
			return nil
		}
		if _, err := th.matchExc(st.orig, types); err != nil {
			return err
		}
		group := excClasses["BaseExceptionGroup"]
		isGroup := func(v Value) bool {
			c, ok := v.(*Class)
			return ok && c.isSub(group)
		}
		bad := isGroup(types)
		if t, ok := types.(*Tuple); ok {
			for _, k := range t.items {
				bad = bad || isGroup(k)
			}
		}
		if bad {
			return raise("TypeError", "catching ExceptionGroup with except* is not allowed. Use except instead.")
		}
		yes, no, err := th.split(st.rest, func(e *Object) (bool, error) { return th.matchExc(e, types) })
		if err != nil {
			return err
		}
		if yes == nil {
			f.push(None)
			return nil
		}
		st.rest = no
		if yes.exc.group == nil { // a naked exception comes in a group
			g := newExc(excClasses["BaseExceptionGroup"], "", &Tuple{[]Value{yes}})
			yes = g
		}
		st.match = yes
		f.push(yes)
	case opStarHandled:
		f.excs = append(f.excs, f.pop().(*Object))
	case opStarRaised:
		n := len(f.excs)
		exc := f.excs[n-1]
		st := f.top().(*starState)
		f.excs = f.excs[:n-2]
		if exc == st.match {
			st.kept = append(st.kept, exc)
		} else {
			st.raised = append(st.raised, exc)
		}
	case opStarEnd:
		st := f.pop().(*starState)
		f.excs = f.excs[:len(f.excs)-1]
		if st.rest != nil && len(st.raised) == 0 && len(st.kept) == 0 {
			return &reraise{Raise{st.rest}}
		}
		var out []Value
		for _, e := range st.raised {
			out = append(out, e)
		}
		if st.rest != nil || len(st.kept) > 0 {
			kept := st.kept
			if st.rest != nil {
				kept = append(kept, st.rest)
			}
			// The parts that go on keep the shape of the group.
			if st.orig.exc.group == nil {
				if st.rest != nil {
					out = append(out, st.rest)
				} else {
					out = append(out, st.match)
				}
			} else {
				leaves := map[*Object]bool{}
				for _, k := range kept {
					collectLeaves(k, leaves)
				}
				y, _, err := th.split(st.orig, func(e *Object) (bool, error) { return leaves[e], nil })
				if err != nil {
					return err
				}
				if y != nil {
					if len(st.raised) == 0 {
						return &reraise{Raise{y}}
					}
					out = append(out, y)
				}
			}
		}
		switch len(out) {
		case 0:
			return nil
		case 1:
			return &Raise{out[0].(*Object)}
		}
		return &Raise{newExc(excClasses["BaseExceptionGroup"], "", &List{out})}
	}
	return nil
}

func collectLeaves(e *Object, into map[*Object]bool) {
	if e.exc.group == nil {
		into[e] = true
		return
	}
	for _, m := range e.exc.group.items {
		collectLeaves(m.(*Object), into)
	}
}
