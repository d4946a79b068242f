package pickle

// run carries out one opcode.
func (r *reader) run(op byte) error {
	switch op {
	case opMark:
		r.marks = append(r.marks, len(r.stack))
		return nil
	case opNone:
		return r.push(nil)
	case opNewTrue:
		return r.push(true)
	case opNewFalse:
		return r.push(false)
	case opEmptyList:
		return r.push(&List{})
	case opEmptyTuple:
		return r.push(&Tuple{})
	case opEmptyDict:
		return r.push(&Dict{})
	case opEmptySet:
		return r.push(&Set{})
	case opProto:
		return r.proto()
	case opFrame:
		return r.beginFrame()
	case opPop, opPopMark, opDup:
		return r.shuffle(op)
	case opPut, opBinPut, opLongBinPut, opMemoize, opGet, opBinGet, opLongBinGet:
		return r.remember(op)
	case opInt, opLong, opBinInt, opBinInt1, opBinInt2, opLong1, opLong4:
		return r.integer(op)
	case opFloat:
		return r.float()
	case opBinFloat:
		return r.binFloat()
	case opString, opUnicode, opBinString, opShortBinString, opBinUnicode, opShortBinUnicode, opBinUnicode8:
		return r.text(op)
	case opBinBytes, opShortBinBytes, opBinBytes8, opByteArray8:
		return r.bytes(op)
	case opTuple, opTuple1, opTuple2, opTuple3, opList, opDict, opFrozenSet:
		return r.collect(op)
	case opAppend, opAppends, opSetItem, opSetItems, opAddItems:
		return r.add(op)
	case opGlobal, opStackGlobal:
		return r.global(op)
	case opReduce, opNewObj, opNewObjEx, opInst, opObj, opBuild:
		return r.object(op)
	case opPersID, opBinPersID:
		return r.fail("persistent ID")
	case opExt1, opExt2, opExt4:
		return r.fail("extension code")
	case opNextBuffer, opReadOnlyBuffer:
		return r.fail("buffer outside of the pickle")
	default:
		return r.fail("unknown opcode %#02x", op)
	}
}

func (r *reader) shuffle(op byte) error {
	switch op {
	case opPopMark:
		_, err := r.popMark()
		return err
	case opPop:
		// Python removes a mark when nothing is above it.
		if len(r.marks) > 0 && len(r.stack) == r.floor() {
			r.marks = r.marks[:len(r.marks)-1]
			return nil
		}
		_, err := r.pop()
		return err
	default:
		v, err := r.top()
		if err != nil {
			return err
		}
		return r.push(v)
	}
}

func (r *reader) remember(op byte) error {
	var at uint64
	var err error
	switch op {
	case opMemoize:
		return r.put(uint64(len(r.memo)))
	case opPut, opGet:
		at, err = r.decimal()
	case opBinPut, opBinGet:
		at, err = r.uint(1)
	default:
		at, err = r.uint(4)
	}
	if err != nil {
		return err
	}
	if op == opGet || op == opBinGet || op == opLongBinGet {
		return r.get(at)
	}
	return r.put(at)
}

// collect makes a value of what is on the stack.
func (r *reader) collect(op byte) error {
	var values []any
	var err error
	switch op {
	case opTuple1, opTuple2, opTuple3:
		values, err = r.popN(int(op) - opTuple1 + 1)
	default:
		values, err = r.popMark()
	}
	if err != nil {
		return err
	}
	switch op {
	case opList:
		return r.push(&List{Items: values})
	case opFrozenSet:
		return r.push(&Set{Items: values, Frozen: true})
	case opDict:
		entries, err := r.pairs(values)
		if err != nil {
			return err
		}
		return r.push(&Dict{Entries: entries})
	default:
		return r.push(&Tuple{Items: values})
	}
}

func (r *reader) pairs(values []any) ([]Entry, error) {
	if len(values)%2 != 0 {
		return nil, r.fail("key without a value")
	}
	entries := make([]Entry, 0, len(values)/2)
	for i := 0; i < len(values); i += 2 {
		entries = append(entries, Entry{Key: values[i], Value: values[i+1]})
	}
	return entries, nil
}

// add puts what is on the stack into the value below it.
func (r *reader) add(op byte) error {
	var values []any
	var err error
	switch op {
	case opAppend:
		values, err = r.popN(1)
	case opSetItem:
		values, err = r.popN(2)
	default:
		values, err = r.popMark()
	}
	if err != nil {
		return err
	}
	into, err := r.top()
	if err != nil {
		return err
	}
	if op == opSetItem || op == opSetItems {
		return r.set(into, values)
	}
	switch into := into.(type) {
	case *List:
		if op != opAddItems {
			into.Items = append(into.Items, values...)
			return nil
		}
	case *Set:
		if op == opAddItems && !into.Frozen {
			into.Items = append(into.Items, values...)
			return nil
		}
	case *Object:
		into.Items = append(into.Items, values...)
		return nil
	}
	return r.fail("nothing that takes items")
}

func (r *reader) set(into any, values []any) error {
	entries, err := r.pairs(values)
	if err != nil {
		return err
	}
	switch into := into.(type) {
	case *Dict:
		into.Entries = append(into.Entries, entries...)
	case *Object:
		into.Entries = append(into.Entries, entries...)
	default:
		return r.fail("nothing that takes keys")
	}
	return nil
}

func (r *reader) global(op byte) error {
	var g Global
	if op == opGlobal {
		module, err := r.line()
		if err != nil {
			return err
		}
		name, err := r.line()
		if err != nil {
			return err
		}
		g = Global{Module: string(module), Name: string(name)}
	} else {
		names, err := r.popN(2)
		if err != nil {
			return err
		}
		module, isText := names[0].(string)
		name, isText2 := names[1].(string)
		if !isText || !isText2 {
			return r.fail("name of a global is no text")
		}
		g = Global{Module: module, Name: name}
	}
	return r.pushGlobal(g)
}

func (r *reader) pushGlobal(g Global) error {
	if r.lim.Global != nil {
		if err := r.lim.Global(g); err != nil {
			return err
		}
	}
	return r.push(g)
}

// object describes a call, or what is done with its outcome.
func (r *reader) object(op byte) error {
	switch op {
	case opBuild:
		state, err := r.pop()
		if err != nil {
			return err
		}
		into, err := r.top()
		if err != nil {
			return err
		}
		o, isObject := into.(*Object)
		if !isObject || o.HasState {
			return r.fail("nothing that takes a state")
		}
		o.State, o.HasState = state, true
		return nil
	case opInst:
		if err := r.global(opGlobal); err != nil {
			return err
		}
		class, err := r.pop()
		if err != nil {
			return err
		}
		args, err := r.popMark()
		if err != nil {
			return err
		}
		return r.call(&Object{Func: class, Args: args})
	case opObj:
		values, err := r.popMark()
		if err == nil && len(values) == 0 {
			err = r.fail("stack underflow")
		}
		if err != nil {
			return err
		}
		return r.call(&Object{Func: values[0], Args: values[1:]})
	}
	n := 2
	if op == opNewObjEx {
		n = 3
	}
	values, err := r.popN(n)
	if err != nil {
		return err
	}
	args, isTuple := values[1].(*Tuple)
	if !isTuple {
		return r.fail("arguments are no tuple")
	}
	o := &Object{Func: values[0], New: op != opReduce, Args: args.Items}
	if op == opNewObjEx {
		o.Kwargs = values[2]
	}
	return r.call(o)
}

func (r *reader) call(o *Object) error {
	switch o.Func.(type) {
	case Global, *Object:
	default:
		return r.fail("call of what is no global")
	}
	r.objects = append(r.objects, o)
	return r.push(o)
}
