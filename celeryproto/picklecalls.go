package celeryproto

import (
	"cmp"
	"encoding/binary"
	"math/big"
	"time"

	"github.com/google/uuid"

	"github.com/dfws/dfws/celeryproto/internal/pickle"
)

// plainCall tells the plain value of a call, or that its arguments are not those
// of Python's own pickles.
type plainCall func(d *pickleReader, o *pickle.Object) (any, bool)

// plainCallOf finds the calls that make plain data, by what is called; nil for
// everything else. This is all that a pickle can name.
func plainCallOf(g pickle.Global) plainCall {
	switch canonical(g).String() {
	case "_codecs.encode":
		return callEncode
	case "builtins.bytes", "builtins.bytearray":
		return callBytes
	case "builtins.list", "builtins.tuple", "builtins.set", "builtins.frozenset":
		return callCollection
	case "celery.canvas.signature":
		return callSignature
	case "collections.OrderedDict":
		return callOrderedDict
	case "collections.defaultdict":
		return callDefaultDict
	case "copyreg._reconstructor":
		return callReconstructor
	case "datetime.date":
		return callDate
	case "datetime.datetime":
		return callDatetime
	case "datetime.time":
		return callTime
	case "datetime.timedelta":
		return callDelta
	case "datetime.timezone":
		return callZone
	case "decimal.Decimal":
		return callDecimal
	case "django.utils.safestring.SafeString":
		return callText
	case "pytz._UTC":
		return callUTC
	case "uuid.SafeUUID":
		return callSafeUUID
	case "uuid.UUID":
		return callUUID
	default:
		return nil
	}
}

// isArgument tells whether a global only occurs as an argument of these calls.
func isArgument(g pickle.Global) bool {
	switch canonical(g).String() {
	case "builtins.object", "builtins.getattr", "zoneinfo.ZoneInfo":
		return true
	case "builtins.int", "builtins.float", "builtins.str", "builtins.bool", "builtins.dict":
		return true // factories of a defaultdict
	default:
		return false
	}
}

// isFunction tells the calls of plainCallOf that are no classes.
func isFunction(o *pickle.Object) bool {
	switch canonical(calledName(o)).String() {
	case "_codecs.encode", "celery.canvas.signature", "copyreg._reconstructor", ".":
		return true
	default:
		return false
	}
}

// arg is the plain value of an argument.
func (d *pickleReader) arg(v any) (any, bool) {
	o, isObject := v.(*pickle.Object)
	if !isObject {
		return v, true
	}
	err := d.begin(o)
	if err == nil {
		defer d.done(o)
		v, err = d.plain(o)
	}
	if err != nil {
		d.fault = cmp.Or(d.fault, err)
		return nil, false
	}
	return v, true
}

// bare tells that nothing but a call with n to m arguments makes the object.
func bare(o *pickle.Object, n, m int) bool {
	return len(o.Args) >= n && len(o.Args) <= m && !o.HasState && len(o.Items) == 0 && len(o.Entries) == 0
}

// callEncode is how protocols before 3 write bytes: encode(text, "latin1").
func callEncode(_ *pickleReader, o *pickle.Object) (any, bool) {
	if !bare(o, 2, 2) || o.Args[1] != any("latin1") {
		return nil, false
	}
	return latin1Bytes(o.Args[0])
}

func latin1Bytes(v any) (any, bool) {
	text, ok := v.(string)
	out := make([]byte, 0, len(text))
	for _, r := range text {
		if r > 0xff {
			return nil, false
		}
		out = append(out, byte(r))
	}
	return out, ok
}

// callBytes has nothing, bytes, or a text with "latin-1" as its arguments.
func callBytes(d *pickleReader, o *pickle.Object) (any, bool) {
	switch {
	case !bare(o, 0, 2):
		return nil, false
	case len(o.Args) == 0:
		return []byte{}, true
	case len(o.Args) == 2:
		if o.Args[1] != any("latin-1") {
			return nil, false
		}
		return latin1Bytes(o.Args[0])
	}
	return d.bytes(o.Args[0])
}

// bytes are bytes as they are, or encoded as protocols before 3 have them.
func (d *pickleReader) bytes(v any) ([]byte, bool) {
	if o, isObject := v.(*pickle.Object); isObject && calledName(o) != (pickle.Global{Module: "_codecs", Name: "encode"}) {
		return nil, false
	}
	v, _ = d.arg(v)
	b, ok := v.([]byte)
	return b, ok
}

// callCollection makes a list or the like of a list: sets of protocols before 4,
// and the lazy lists of celery.utils.functional.
func callCollection(_ *pickleReader, o *pickle.Object) (any, bool) {
	if !bare(o, 1, 1) {
		return nil, false
	}
	list, ok := o.Args[0].(*pickle.List)
	return list, ok
}

// callSignature is how every signature of celery.canvas is pickled:
// signature(dict), for chains, groups and chords as well.
func callSignature(_ *pickleReader, o *pickle.Object) (any, bool) {
	if !bare(o, 1, 1) {
		return nil, false
	}
	fields, ok := o.Args[0].(*pickle.Dict)
	return fields, ok
}

func callOrderedDict(_ *pickleReader, o *pickle.Object) (any, bool) {
	if len(o.Items) > 0 || o.HasState || len(o.Args) > 1 {
		return nil, false
	}
	entries := o.Entries
	if len(o.Args) == 1 { // a list of pairs, as Python 2 wrote it
		pairs, ok := o.Args[0].(*pickle.List)
		if !ok {
			return nil, false
		}
		entries = nil
		for _, pair := range pairs.Items {
			list, isList := pair.(*pickle.List)
			if !isList || len(list.Items) != 2 {
				return nil, false
			}
			entries = append(entries, pickle.Entry{Key: list.Items[0], Value: list.Items[1]})
		}
		entries = append(entries, o.Entries...)
	}
	return &pickle.Dict{Entries: entries}, true
}

// callDefaultDict forgets the factory, which is a plain type or None.
func callDefaultDict(_ *pickleReader, o *pickle.Object) (any, bool) {
	if len(o.Items) > 0 || o.HasState || len(o.Args) > 1 {
		return nil, false
	}
	if len(o.Args) == 1 && o.Args[0] != nil {
		factory, ok := o.Args[0].(pickle.Global)
		if !ok || allowedGlobal(factory) != nil {
			return nil, false
		}
	}
	return &pickle.Dict{Entries: o.Entries}, true
}

func callText(_ *pickleReader, o *pickle.Object) (any, bool) {
	if len(o.Args) != 1 || len(o.Items) > 0 || len(o.Entries) > 0 || o.State != nil {
		return nil, false
	}
	text, ok := o.Args[0].(string)
	return text, ok
}

func callDecimal(_ *pickleReader, o *pickle.Object) (any, bool) {
	if !bare(o, 1, 1) {
		return nil, false
	}
	text, ok := o.Args[0].(string)
	return Decimal(text), ok && Decimal(text).validate() == nil
}

// callSafeUUID is the flag of a UUID, which nobody needs.
func callSafeUUID(_ *pickleReader, o *pickle.Object) (any, bool) { return nil, bare(o, 1, 1) }

// callUUID reads the state of a UUID: {"int": …}, and perhaps "is_safe".
func callUUID(d *pickleReader, o *pickle.Object) (any, bool) {
	state, ok := o.State.(*pickle.Dict)
	if !ok || len(state.Entries) > 2 || len(o.Args) > 0 || len(o.Items) > 0 || len(o.Entries) > 0 {
		return nil, false
	}
	var u uuid.UUID
	found := false
	for _, entry := range state.Entries {
		switch entry.Key {
		case "int":
			n, isInt := bigOf(entry.Value)
			if !isInt || n.Sign() < 0 || n.BitLen() > 8*len(u) {
				return nil, false
			}
			n.FillBytes(u[:])
			found = true
		case "is_safe":
			if _, ok := d.arg(entry.Value); !ok {
				return nil, false
			}
		default:
			return nil, false
		}
	}
	return u, found
}

func bigOf(v any) (*big.Int, bool) {
	switch v := v.(type) {
	case int64:
		return big.NewInt(v), true
	case *big.Int:
		return v, true
	default:
		return nil, false
	}
}

// callReconstructor is how protocols 0 and 1 make an object without calling its
// class: _reconstructor(class, object, None).
func callReconstructor(d *pickleReader, o *pickle.Object) (any, bool) {
	if len(o.Args) != 3 || o.Args[2] != nil {
		return nil, false
	}
	class, ok := o.Args[0].(pickle.Global)
	base, ok2 := o.Args[1].(pickle.Global)
	if !ok || !ok2 || canonical(base).String() != "builtins.object" || class.String() != "uuid.UUID" {
		return nil, false
	}
	return callUUID(d, &pickle.Object{Func: class, State: o.State, HasState: o.HasState, Items: o.Items, Entries: o.Entries})
}

// pickleDelta is a datetime.timedelta, pickleZone a datetime.timezone. Neither
// has a counterpart in kombu's JSON; they are parts of times.
type (
	pickleDelta struct{ d time.Duration }
	pickleZone  struct{ offset time.Duration }
)

// maxDelta is how many days a timedelta may have that is the offset of a zone.
const maxDelta = 1

func callDelta(_ *pickleReader, o *pickle.Object) (any, bool) {
	if !bare(o, 3, 3) {
		return nil, false
	}
	days, ok1 := o.Args[0].(int64)
	seconds, ok2 := o.Args[1].(int64)
	micro, ok3 := o.Args[2].(int64)
	if !ok1 || !ok2 || !ok3 || seconds < 0 || seconds >= 24*3600 || micro < 0 || micro >= 1e6 {
		return nil, false
	}
	if days < -maxDelta || days > maxDelta {
		days = maxDelta + 1 // as wrong as that: no zone has such an offset
	}
	d := time.Duration(days)*24*time.Hour + time.Duration(seconds)*time.Second + time.Duration(micro)*time.Microsecond
	return pickleDelta{d}, true
}

// callZone is timezone(offset) or timezone(offset, name).
func callZone(d *pickleReader, o *pickle.Object) (any, bool) {
	if !bare(o, 1, 2) {
		return nil, false
	}
	v, _ := d.arg(o.Args[0])
	delta, ok := v.(pickleDelta)
	if !ok || delta.d <= -24*time.Hour || delta.d >= 24*time.Hour {
		return nil, false
	}
	return pickleZone{delta.d}, true
}

func callUTC(_ *pickleReader, o *pickle.Object) (any, bool) { return pickleZone{}, bare(o, 0, 0) }

// callZoneInfo is ZoneInfo._unpickle(key, from_cache), which Python gets by
// getattr(ZoneInfo, "_unpickle"). Only UTC can be told without a database of zones.
func callZoneInfo(d *pickleReader, o *pickle.Object) (any, bool) {
	getattr, ok := o.Func.(*pickle.Object)
	if !ok || !bare(o, 2, 2) || !bare(getattr, 2, 2) || getattr.Kwargs != nil {
		return nil, false
	}
	f, _ := getattr.Func.(pickle.Global)
	class, _ := getattr.Args[0].(pickle.Global)
	key, _ := o.Args[0].(string)
	if canonical(f).String() != "builtins.getattr" || class.String() != "zoneinfo.ZoneInfo" ||
		getattr.Args[1] != any("_unpickle") || key != "UTC" && key != "Etc/UTC" {
		return nil, false
	}
	d.used[getattr] = true
	return pickleZone{}, true
}

// packed reads the bytes that a date or time is pickled as, and its zone.
func (d *pickleReader) packed(o *pickle.Object, size int) (b []byte, zone *pickleZone, ok bool) {
	if !bare(o, 1, 2) {
		return nil, nil, false
	}
	if b, ok = d.bytes(o.Args[0]); !ok || len(b) != size {
		return nil, nil, false
	}
	if len(o.Args) == 1 {
		return b, nil, true
	}
	v, _ := d.arg(o.Args[1])
	z, ok := v.(pickleZone)
	return b, &z, ok
}

// foldBit marks the second of two equal times at the end of summer time, in the
// first byte that has room for it (CPython 3.11, Lib/datetime.py). isoformat
// does not show it.
const foldBit = 0x80

func callDate(d *pickleReader, o *pickle.Object) (any, bool) {
	b, zone, ok := d.packed(o, 4)
	if !ok || zone != nil {
		return nil, false
	}
	date := unpackDate(b)
	return date, date.validate() == nil
}

func unpackDate(b []byte) Date {
	return Date{Year: int(binary.BigEndian.Uint16(b)), Month: time.Month(b[2]), Day: int(b[3])}
}

func unpackClock(b []byte) TimeOfDay {
	return TimeOfDay{Hour: int(b[0]), Minute: int(b[1]), Second: int(b[2]), Microsecond: int(b[3])<<16 | int(b[4])<<8 | int(b[5])}
}

func callTime(d *pickleReader, o *pickle.Object) (any, bool) {
	b, zone, ok := d.packed(o, 6)
	if !ok {
		return nil, false
	}
	clock := unpackClock(b)
	clock.Hour &^= foldBit
	if zone != nil {
		clock.Aware, clock.Offset = true, zone.offset
	}
	return clock, clock.validate() == nil
}

func callDatetime(d *pickleReader, o *pickle.Object) (any, bool) {
	b, zone, ok := d.packed(o, 10)
	if !ok {
		return nil, false
	}
	date, clock := unpackDate(b), unpackClock(b[4:])
	date.Month &^= foldBit
	n := NaiveTime{date.Year, date.Month, date.Day, clock.Hour, clock.Minute, clock.Second, clock.Microsecond}
	if n.validate() != nil {
		return nil, false
	}
	if zone == nil {
		return n, true
	}
	if zone.offset%time.Second != 0 {
		return nil, false // Go's zones have whole seconds
	}
	t := n.In(time.FixedZone("", int(zone.offset/time.Second)))
	return t, validateTime(t) == nil
}
