package celeryproto

import (
	"cmp"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
)

// Limits of argsrepr and kwargsrepr (celery 5.7, app/amqp.py, argsrepr_maxsize,
// and app/defaults.py, task_repr_maxlevels).
const (
	reprMaxChars  = 1024
	reprMaxLevels = 3
)

// Repr describes a JSON value for logs and events as Celery does
// (celery 5.7, utils/saferepr.py): like Python's repr, typed values as the
// Python objects that they become, about 1024 characters, 3 levels. It is ""
// for what is no JSON.
func Repr(r Raw) string { return repr(r, false, reprMaxChars) }

// ReprSize is Repr with about so many characters instead (Task.resultrepr_maxsize
// of Celery); 0 means 1024.
func ReprSize(r Raw, chars int) string { return repr(r, false, cmp.Or(chars, reprMaxChars)) }

// ReprTuple is Repr with the outermost array as a tuple: Celery's callers
// mostly pass their arguments as one.
func ReprTuple(r Raw) string { return repr(r, true, reprMaxChars) }

func repr(r Raw, asTuple bool, chars int) string {
	if string(r) == "{}" { // most keyword arguments
		return "{}"
	}
	if CheckJSON(r, JSONLimits{}) != nil {
		return ""
	}
	var buf [128]byte
	w := reprWriter{out: buf[:0], left: chars, asTuple: asTuple}
	w.value(r)
	return string(w.out)
}

// reprWriter writes token by token until nothing is left of the limit. Then it
// closes what is open and stops.
type reprWriter struct {
	out     []byte
	left    int // characters
	level   int
	stopped bool
	asTuple bool // the next array
}

// token writes a piece whole, unless the limit is reached before it.
func (w *reprWriter) token(s string) {
	if w.room() {
		w.out = append(w.out, s...)
		w.left -= charCount(s)
	}
}

// room tells whether something may still be written; if not, it says so once.
func (w *reprWriter) room() bool {
	if w.stopped {
		return false
	}
	if w.left <= 0 {
		w.out = append(w.out, ", ..."...)
		w.stopped = true
		return false
	}
	return true
}

// closing writes a closing bracket, which is not counted once the limit is reached.
func (w *reprWriter) closing(s string) {
	w.out = append(w.out, s...)
	if w.left > 0 {
		w.left -= len(s)
	}
}

// word writes a number, a name or the like, shortened at the limit.
func (w *reprWriter) word(s string) {
	if w.room() {
		w.token(truncate(s, w.left))
	}
}

// quoted writes a text, shortened at the limit.
func (w *reprWriter) quoted(s string) {
	if w.room() {
		w.token("'" + strings.ReplaceAll(truncate(s, w.left), "'", `\'`) + "'")
	}
}

func (w *reprWriter) value(r Raw) {
	switch r.Kind() {
	case KindArray:
		w.array(r)
	case KindObject:
		w.object(r)
	case KindString:
		s, _ := r.Text() // has been scanned
		w.quoted(s)
	case KindNumber:
		if isInteger(r) {
			w.word(string(r))
			break
		}
		fallthrough
	default:
		v, _ := DecodeValue(r) // has been scanned
		w.scalar(v)
	}
}

// isInteger tells whether a number stands in JSON as Python's repr has it.
func isInteger(r Raw) bool {
	for _, c := range r[1:] {
		if c-'0' > 9 {
			return false
		}
	}
	return r[0]-'0' <= 9 || r[0] == '-' && len(r) > 1 && r[1] != '0'
}

func (w *reprWriter) array(r Raw) {
	elements, _ := r.Array() // has been scanned
	start, end := "[", "]"
	if w.asTuple {
		w.asTuple = false
		start, end = "(", ")"
		if len(elements) == 1 {
			end = ",)"
		}
	}
	w.container(start, end, len(elements), func(i int) { w.value(elements[i]) })
}

func (w *reprWriter) object(r Raw) {
	members, _ := r.Object() // has been scanned
	members = members.merged()
	if len(members) == 2 && HasTypedMarker(r) {
		if v, err := DecodeValue(r); err == nil {
			if _, plain := v.(map[string]any); !plain {
				w.scalar(v)
				return
			}
		}
	}
	w.container("{", "}", len(members), func(i int) {
		w.quoted(members[i].Key)
		w.token(": ")
		w.value(members[i].Value)
	})
}

// container writes n items between brackets, or dots when it is too deep.
func (w *reprWriter) container(start, end string, n int, item func(i int)) {
	if w.level >= reprMaxLevels {
		w.token(start + "..." + end)
		return
	}
	if w.token(start); w.stopped {
		return // not shown, so not closed either
	}
	w.level++
	for i := range n {
		if i > 0 {
			w.token(", ")
		}
		if item(i); w.stopped {
			break
		}
	}
	w.level--
	w.closing(end)
}

// scalar writes what is neither text, array nor object.
func (w *reprWriter) scalar(v any) {
	switch v := v.(type) {
	case []byte:
		w.bytes(v)
	case nil:
		w.word("None")
	case bool:
		w.word(map[bool]string{true: "True", false: "False"}[v])
	case float64:
		w.word(reprFloat(v))
	case *big.Int:
		w.word(v.String())
	case time.Time:
		_, offset := v.Zone()
		n := NaiveTimeOf(v)
		w.word(reprCall("datetime", append(reprDateFields(n.date()), reprClockFields(n.clock())...),
			reprZone(time.Duration(offset)*time.Second)))
	case NaiveTime:
		w.word(reprCall("datetime", append(reprDateFields(v.date()), reprClockFields(v.clock())...), ""))
	case Date:
		w.word(reprCall("date", reprDateFields(v), ""))
	case TimeOfDay:
		zone := ""
		if v.Aware {
			zone = reprZone(v.Offset)
		}
		w.word(reprCall("time", reprClockFields(v), zone))
	case Decimal:
		w.word("Decimal('" + string(v) + "')")
	case uuid.UUID:
		w.word("UUID('" + v.String() + "')")
	default:
		w.word(fmt.Sprint(v))
	}
}

// bytes writes text as it is and anything else in hexadecimal.
func (w *reprWriter) bytes(b []byte) {
	if !w.room() {
		return
	}
	dots := ""
	if len(b) > w.left {
		b, dots = b[:w.left], "..."
	}
	text := string(b)
	if !utf8.Valid(b) {
		text = fmt.Sprintf("%x", b)
	}
	w.token("b'" + text + dots + "'")
}

func reprFloat(f float64) string {
	switch {
	case math.IsNaN(f):
		return "nan"
	case math.IsInf(f, 1):
		return "inf"
	case math.IsInf(f, -1):
		return "-inf"
	default:
		return string(AppendFloat(nil, f))
	}
}

func reprCall(name string, fields []int, zone string) string {
	texts := make([]string, 0, len(fields)+1)
	for _, n := range fields {
		texts = append(texts, strconv.Itoa(n))
	}
	if zone != "" {
		texts = append(texts, "tzinfo="+zone)
	}
	return "datetime." + name + "(" + strings.Join(texts, ", ") + ")"
}

func reprDateFields(d Date) []int { return []int{d.Year, int(d.Month), d.Day} }

// reprClockFields leaves out seconds and microseconds that are zero.
func reprClockFields(t TimeOfDay) []int {
	fields := []int{t.Hour, t.Minute, t.Second, t.Microsecond}
	for len(fields) > 2 && fields[len(fields)-1] == 0 {
		fields = fields[:len(fields)-1]
	}
	return fields
}

func reprZone(offset time.Duration) string {
	if offset == 0 {
		return "datetime.timezone.utc"
	}
	const day = 24 * time.Hour
	var parts []string
	if offset < 0 {
		parts = append(parts, "days=-1")
		offset += day
	}
	if seconds := offset / time.Second; seconds != 0 {
		parts = append(parts, fmt.Sprintf("seconds=%d", seconds))
	}
	if micro := offset % time.Second / time.Microsecond; micro != 0 {
		parts = append(parts, fmt.Sprintf("microseconds=%d", micro))
	}
	return "datetime.timezone(datetime.timedelta(" + strings.Join(parts, ", ") + "))"
}

// truncate cuts s at the limit, preferably at a space (celery 5.7, utils/text.py).
func truncate(s string, limit int) string {
	if charCount(s) < limit {
		return s
	}
	end := 0
	for range limit {
		_, n := decodeRune(s[end:])
		end += n
	}
	s = s[:end]
	if space := strings.LastIndexByte(s, ' '); space >= 0 {
		s = s[:space]
	}
	return s + "..."
}

// charCount is Python's len(str).
func charCount(s string) int {
	n := 0
	for i := 0; i < len(s); n++ {
		if s[i] < utf8.RuneSelf {
			i++
			continue
		}
		_, size := decodeRune(s[i:])
		i += size
	}
	return n
}
