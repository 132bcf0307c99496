package vm

import (
	"strings"
)

// exec runs instructions until the frame returns, yields or fails. A failure leaves f.pc at the
// instruction that failed.
func (th *Thread) exec(f *Frame) (result Value, yielded bool, err error) {
	code := f.code
	for {
		i := code.ins[f.pc]
		switch i.op {
		case opNop:
		case opLine:
			if h := th.in.hooks; h != nil && code.file == th.in.file {
				th.in.lineEvent(th, i.arg)
			}
		case opConst:
			f.push(code.consts[i.arg])
		case opPop:
			f.pop()
		case opExprStmt:
			v := f.pop()
			if i.arg == 1 && v != None {
				if err := th.in.display(th, v); err != nil {
					return nil, false, err
				}
			}
			th.dropped(v)
		case opDup:
			f.push(f.top())
		case opDup2:
			n := len(f.stack)
			f.stack = append(f.stack, f.stack[n-2], f.stack[n-1])
		case opRot2:
			n := len(f.stack)
			f.stack[n-1], f.stack[n-2] = f.stack[n-2], f.stack[n-1]
		case opRot3:
			n := len(f.stack)
			f.stack[n-3], f.stack[n-2], f.stack[n-1] = f.stack[n-1], f.stack[n-3], f.stack[n-2]
		case opLoadLocal:
			v := f.cells[i.arg].v
			if v == nil {
				return nil, false, raise("UnboundLocalError", "cannot access local variable '%s' where it is not associated with a value", code.locals[i.arg])
			}
			f.push(v)
		case opStoreLocal:
			f.cells[i.arg].v = f.pop()
		case opDelLocal:
			if f.cells[i.arg].v == nil {
				return nil, false, raise("UnboundLocalError", "cannot access local variable '%s' where it is not associated with a value", code.locals[i.arg])
			}
			f.cells[i.arg].v = nil
		case opNewCell:
			f.cells[i.arg] = new(Cell)
		case opLoadFree:
			v := f.free[i.arg].v
			if v == nil {
				return nil, false, raise("NameError", "cannot access free variable '%s' where it is not associated with a value in enclosing scope", code.frees[i.arg])
			}
			f.push(v)
		case opStoreFree:
			f.free[i.arg].v = f.pop()
		case opDelFree:
			f.free[i.arg].v = nil
		case opLoadGlobal:
			v, err := th.global(f, code.names[i.arg])
			if err != nil {
				return nil, false, err
			}
			f.push(v)
		case opStoreGlobal:
			f.globals.set(code.names[i.arg], f.pop())
		case opDelGlobal:
			if !f.globals.del(code.names[i.arg]) {
				return nil, false, raise("NameError", "name '%s' is not defined", code.names[i.arg])
			}
		case opLoadName:
			name := code.names[i.arg]
			v := f.ns.get(name)
			if v == nil {
				if name == "__annotations__" {
					v = newDict()
					f.ns.set(name, v)
				} else if v, err = th.global(f, name); err != nil {
					return nil, false, err
				}
			}
			f.push(v)
		case opStoreName:
			f.ns.set(code.names[i.arg], f.pop())
		case opDelName:
			if !f.ns.del(code.names[i.arg]) {
				return nil, false, raise("NameError", "name '%s' is not defined", code.names[i.arg])
			}
		case opLoadClassFree:
			name := f.pop().(string)
			v := f.ns.get(name)
			if v == nil {
				if v = f.free[i.arg].v; v == nil {
					return nil, false, raise("NameError", "cannot access free variable '%s' where it is not associated with a value in enclosing scope", name)
				}
			}
			f.push(v)
		case opLoadAttr:
			v, err := th.getAttr(f.top(), code.names[i.arg])
			if err != nil {
				return nil, false, err
			}
			f.stack[len(f.stack)-1] = v
		case opStoreAttr:
			n := len(f.stack)
			o, v := f.stack[n-1], f.stack[n-2]
			if err := th.setAttr(o, code.names[i.arg], v); err != nil {
				return nil, false, err
			}
			f.drop(2)
		case opDelAttr:
			if err := th.delAttr(f.pop(), code.names[i.arg]); err != nil {
				return nil, false, err
			}
		case opLoadIndex:
			n := len(f.stack)
			v, err := th.getItem(f.stack[n-2], f.stack[n-1])
			if err != nil {
				return nil, false, err
			}
			f.drop(1)
			f.stack[n-2] = v
		case opStoreIndex:
			n := len(f.stack)
			if err := th.setItem(f.stack[n-2], f.stack[n-1], f.stack[n-3]); err != nil {
				return nil, false, err
			}
			f.drop(3)
		case opDelIndex:
			n := len(f.stack)
			if err := th.delItem(f.stack[n-2], f.stack[n-1]); err != nil {
				return nil, false, err
			}
			f.drop(2)
		case opSlice:
			n := len(f.stack)
			s := &SliceObj{f.stack[n-3], f.stack[n-2], f.stack[n-1]}
			f.drop(2)
			f.stack[n-3] = s
		case opBinary, opInplace:
			n := len(f.stack)
			var v Value
			if i.op == opBinary {
				v, err = th.binary(i.arg, f.stack[n-2], f.stack[n-1])
			} else {
				v, err = th.inplace(i.arg, f.stack[n-2], f.stack[n-1])
			}
			if err != nil {
				return nil, false, err
			}
			f.drop(1)
			f.stack[n-2] = v
		case opUnary:
			v, err := th.unary(i.arg, f.top())
			if err != nil {
				return nil, false, err
			}
			f.stack[len(f.stack)-1] = v
		case opNot:
			t, err := th.truth(f.top())
			if err != nil {
				return nil, false, err
			}
			f.stack[len(f.stack)-1] = !t
		case opCompare:
			n := len(f.stack)
			v, err := th.compare(i.arg, f.stack[n-2], f.stack[n-1])
			if err != nil {
				return nil, false, err
			}
			f.drop(1)
			f.stack[n-2] = v
		case opList, opTuple, opSet, opMap, opListAdd, opSetAdd, opMapAdd, opListExtend, opSetUpdate, opDictUpdate, opKwUpdate,
			opListToTuple, opUnpack, opUnpackEx, opFormat, opJoin:
			if err := th.build(f, i); err != nil {
				return nil, false, err
			}
		case opJump:
			f.pc = i.arg
			continue
		case opLoop:
			if err := th.in.tick(); err != nil {
				return nil, false, err
			}
			f.pc = i.arg
			continue
		case opJumpIfFalse, opJumpIfTrue:
			t, err := th.truth(f.top())
			if err != nil {
				return nil, false, err
			}
			f.drop(1)
			if t == (i.op == opJumpIfTrue) {
				f.pc = i.arg
				continue
			}
		case opJumpIfFalseOrPop, opJumpIfTrueOrPop:
			t, err := th.truth(f.top())
			if err != nil {
				return nil, false, err
			}
			if t == (i.op == opJumpIfTrueOrPop) {
				f.pc = i.arg
				continue
			}
			f.drop(1)
		case opJumpIfNone:
			if f.top() == None {
				f.drop(1)
				f.pc = i.arg
				continue
			}
		case opIter:
			it, err := th.iter(f.top())
			if err != nil {
				return nil, false, err
			}
			f.stack[len(f.stack)-1] = it
		case opForIter:
			v, err := th.next(f.top())
			if err != nil {
				return nil, false, err
			}
			if v == nil {
				f.drop(1)
				f.pc = i.arg
				continue
			}
			f.push(v)
		case opLeaveFor:
			if err := th.left(f, f.pop()); err != nil {
				return nil, false, err
			}
		case opAIter:
			it, err := th.aiter(f.top())
			if err != nil {
				return nil, false, err
			}
			f.stack[len(f.stack)-1] = it
		case opANext:
			v, err := th.anext(f.top())
			if err != nil {
				return nil, false, err
			}
			f.push(v)
		case opEndAsyncFor:
			exc := f.excs[len(f.excs)-1]
			if !exc.cls.isSub(excClasses["StopAsyncIteration"]) {
				return nil, false, &reraise{Raise{exc}}
			}
			f.excs = f.excs[:len(f.excs)-1]
			f.drop(1)
			f.pc = i.arg
			continue
		case opCall:
			if err := th.opCall(f, i.arg); err != nil {
				return nil, false, err
			}
		case opReturn:
			return f.pop(), false, nil
		case opYield:
			v := f.pop()
			if code.async {
				v = &asyncValue{v}
			}
			f.pc++
			return v, true, nil
		case opYieldFrom:
			sent := f.sent
			f.sent = nil
			f.waiting = false
			if sent == nil {
				sent = None
			}
			v, more, err := th.sendTo(f.top(), sent)
			if err != nil {
				return nil, false, err
			}
			if more {
				f.waiting = true
				return v, true, nil
			}
			f.stack[len(f.stack)-1] = v
		case opAwaitable:
			v, err := th.awaitable(f.top())
			if err != nil {
				return nil, false, err
			}
			f.stack[len(f.stack)-1] = v
		case opYieldFromIter:
			switch f.top().(type) {
			case *Gen, *pending:
			default:
				it, err := th.iter(f.top())
				if err != nil {
					return nil, false, err
				}
				f.stack[len(f.stack)-1] = it
			}
		case opSetup:
			f.handler = append(f.handler, handler{i.arg, len(f.stack), len(f.excs)})
		case opSetupWith:
			f.handler = append(f.handler, handler{i.arg, len(f.stack) - 1, len(f.excs)})
		case opPopBlock:
			f.handler = f.handler[:len(f.handler)-1]
		case opPopExc:
			f.excs[len(f.excs)-1] = nil
			f.excs = f.excs[:len(f.excs)-1]
		case opLoadExc:
			f.push(f.excs[len(f.excs)-1])
		case opReraise:
			exc := f.excs[len(f.excs)-1]
			return nil, false, &reraise{Raise{exc}}
		case opRaise:
			return nil, false, th.raiseStmt(f, i.arg)
		case opMatchExc:
			m, err := th.matchExc(f.excs[len(f.excs)-1], f.pop())
			if err != nil {
				return nil, false, err
			}
			f.push(m)
		case opWithEnter, opWithExit, opWithExitExc, opAsyncEnter, opAsyncExit, opAsyncExitExc:
			if err := th.with(f, i.op); err != nil {
				return nil, false, err
			}
		case opFunc:
			th.makeFunction(f, i.arg)
		case opClass:
			if err := th.makeClass(f, i.arg); err != nil {
				return nil, false, err
			}
		case opImport:
			m, err := th.in.importModule(th, code.names[i.arg])
			if err != nil {
				return nil, false, err
			}
			f.push(m)
		case opImportFrom:
			v, err := th.importFrom(f.pop(), code.names[i.arg])
			if err != nil {
				return nil, false, err
			}
			f.push(v)
		case opAssert:
			exc := newExc(excClasses["AssertionError"])
			if i.arg > 0 {
				exc.exc.args = &Tuple{[]Value{f.pop()}}
			}
			return nil, false, &Raise{exc}
		case opMatch:
			p := code.pats[i.arg]
			n := len(f.stack) - p.nValues
			bound := make([]Value, p.nNames)
			ok, err := th.match(p, f.stack[n-1], f.stack[n:], bound)
			if err != nil {
				return nil, false, err
			}
			f.stack = f.stack[:n-1]
			for _, v := range bound {
				if v == nil {
					v = None
				}
				f.push(v)
			}
			f.push(ok)
		case opStarBegin, opStarMatch, opStarHandled, opStarRaised, opStarEnd:
			if err := th.exceptStar(f, i.op); err != nil {
				return nil, false, err
			}
		default:
			return nil, false, &Fatal{"lab: an instruction that does not exist", StatusError}
		}
		f.pc++
	}
}

func (th *Thread) global(f *Frame, name string) (Value, error) {
	if v, ok := f.globals.m[name]; ok {
		return v, nil
	}
	if v := builtins.get(name); v != nil {
		return v, nil
	}
	if missingBuiltins[name] {
		return nil, th.outside("%s", name)
	}
	return nil, raise("NameError", "name '%s' is not defined", name)
}

// build carries out the instructions that make containers and strings.
func (th *Thread) build(f *Frame, i ins) error {
	n := len(f.stack)
	switch i.op {
	case opList, opTuple:
		if err := th.alloc(i.arg * 16); err != nil {
			return err
		}
		items := append([]Value(nil), f.stack[n-i.arg:]...)
		f.drop(i.arg)
		if i.op == opList {
			f.push(&List{items})
		} else {
			f.push(&Tuple{items})
		}
	case opSet:
		s := &Set{}
		for _, v := range f.stack[n-i.arg:] {
			if err := s.add(th, v); err != nil {
				return err
			}
		}
		f.drop(i.arg)
		f.push(s)
	case opMap:
		d := newDict()
		for j := n - 2*i.arg; j < n; j += 2 {
			if err := d.set(th, f.stack[j], f.stack[j+1]); err != nil {
				return err
			}
		}
		f.drop(2 * i.arg)
		f.push(d)
	case opListAdd:
		l := f.stack[n-1-i.arg].(*List)
		if err := th.alloc(16); err != nil {
			return err
		}
		l.items = append(l.items, f.pop())
	case opSetAdd:
		if err := f.stack[n-1-i.arg].(*Set).add(th, f.top()); err != nil {
			return err
		}
		f.drop(1)
	case opMapAdd:
		if err := f.stack[n-2-i.arg].(*Dict).set(th, f.stack[n-2], f.stack[n-1]); err != nil {
			return err
		}
		f.drop(2)
	case opListExtend:
		items, err := th.list(f.top())
		if err != nil {
			if i.arg == 1 && isExc(err, "TypeError") && !iterable(f.top()) {
				return raise("TypeError", "argument after * must be an iterable, not %s", classOf(f.top()).name)
			}
			return err
		}
		l := f.stack[n-2].(*List)
		l.items = append(l.items, items...)
		f.drop(1)
	case opSetUpdate:
		items, err := th.list(f.top())
		if err != nil {
			return err
		}
		for _, v := range items {
			if err := f.stack[n-2].(*Set).add(th, v); err != nil {
				return err
			}
		}
		f.drop(1)
	case opDictUpdate, opKwUpdate:
		from, err := th.mapping(f.top())
		if err != nil {
			if i.op == opKwUpdate {
				return raise("TypeError", "argument after ** must be a mapping, not %s", classOf(f.top()).name)
			}
			return err
		}
		to := f.stack[n-2].(*Dict)
		for _, e := range from.all() {
			if i.op == opKwUpdate {
				name, ok := e.key.(string)
				if !ok {
					return raise("TypeError", "keywords must be strings")
				}
				if to.getStr(name) != nil {
					return raise("TypeError", "got multiple values for keyword argument '%s'", name)
				}
			}
			if err := to.set(th, e.key, e.value); err != nil {
				return err
			}
		}
		f.drop(1)
	case opListToTuple:
		f.stack[n-1] = &Tuple{f.top().(*List).items}
	case opUnpack:
		items, err := th.unpack(f.top(), i.arg)
		if err != nil {
			return err
		}
		f.drop(1)
		for j := len(items) - 1; j >= 0; j-- {
			f.push(items[j])
		}
	case opUnpackEx:
		before, after := i.arg>>16, i.arg&0xffff
		items, err := th.list(f.top())
		if err != nil {
			return err
		}
		if len(items) < before+after {
			return raise("ValueError", "not enough values to unpack (expected at least %d, got %d)", before+after, len(items))
		}
		f.drop(1)
		for j := len(items) - 1; j >= len(items)-after; j-- {
			f.push(items[j])
		}
		f.push(&List{append([]Value(nil), items[before:len(items)-after]...)})
		for j := before - 1; j >= 0; j-- {
			f.push(items[j])
		}
	case opFormat:
		spec := ""
		if i.arg&(1<<8) != 0 {
			spec = f.pop().(string)
		}
		v := f.top()
		var s string
		var err error
		switch byte(i.arg) {
		case 'r':
			s, err = th.repr(v)
		case 'a':
			if s, err = th.repr(v); err == nil {
				s = ascii(s)
			}
		case 's':
			s, err = th.str(v)
		default:
			if s, err = th.format(v, spec); err != nil {
				return err
			}
			f.stack[len(f.stack)-1] = s
			return nil
		}
		if err == nil {
			s, err = th.format(s, spec)
		}
		if err != nil {
			return err
		}
		f.stack[len(f.stack)-1] = s
	case opJoin:
		var b strings.Builder
		for _, v := range f.stack[n-i.arg:] {
			b.WriteString(v.(string))
		}
		if err := th.alloc(b.Len()); err != nil {
			return err
		}
		f.drop(i.arg)
		f.push(b.String())
	}
	return nil
}

// unpack returns exactly n values.
func (th *Thread) unpack(v Value, n int) ([]Value, error) {
	it, err := th.iter(v)
	if err != nil {
		if isExc(err, "TypeError") && !iterable(v) {
			return nil, raise("TypeError", "cannot unpack non-iterable %s object", classOf(v).name)
		}
		return nil, err
	}
	var items []Value
	for range n {
		x, err := th.next(it)
		if err != nil {
			return nil, err
		}
		if x == nil {
			return nil, raise("ValueError", "not enough values to unpack (expected %d, got %d)", n, len(items))
		}
		items = append(items, x)
	}
	x, err := th.next(it)
	if err != nil {
		return nil, err
	}
	if x != nil {
		return nil, raise("ValueError", "too many values to unpack (expected %d)", n)
	}
	return items, nil
}
