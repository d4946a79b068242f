package pickle

// What Read returns, beside nil, bool, int64, *big.Int, float64, string and
// []byte: values with an identity of their own, which the pickle may refer to
// more than once. A string may have lone surrogates in their three-byte form
// (WTF-8).
type (
	// List is a list.
	List struct{ Items []any }
	// Tuple is a tuple.
	Tuple struct{ Items []any }
	// Set is a set, or a frozenset when Frozen. Its order is the pickle's.
	Set struct {
		Items  []any
		Frozen bool
	}
	// Dict is a dict, in the order in which the pickle filled it. Keys that are
	// equal in Python are not merged.
	Dict struct{ Entries []Entry }
	// ByteArray is a bytearray.
	ByteArray struct{ Bytes []byte }
)

// Entry is a key of a dict with its value.
type Entry struct{ Key, Value any }

// Global is the name of something in a Python module. It is only a name.
type Global struct{ Module, Name string }

func (g Global) String() string { return g.Module + "." + g.Name }

// Object describes a call that Python would have made, and what it would have
// done with the outcome.
type Object struct {
	// Func is what would have been called: a Global or an *Object.
	Func any
	// New says that Func is a class whose __new__ would have been called (opcodes
	// NEWOBJ and NEWOBJ_EX).
	New bool
	// Args are its positional arguments.
	Args []any
	// Kwargs are its keyword arguments (opcode NEWOBJ_EX), nil for none.
	Kwargs any
	// State is what the outcome's __setstate__ would have got (opcode BUILD).
	State any
	// HasState tells a State of None from none.
	HasState bool
	// Items are what would have been appended or added to the outcome.
	Items []any
	// Entries are what would have been set in the outcome.
	Entries []Entry
}

// Bottom is the innermost call: what o calls, and what that calls in turn, was
// got by calling a global.
func (o *Object) Bottom() (call *Object, name Global) {
	for {
		switch f := o.Func.(type) {
		case *Object:
			o = f
		case Global:
			return o, f
		default: // Read makes no such thing
			return o, Global{}
		}
	}
}
