package celeryproto

// The two keys of a kombu typed value (kombu 5.7, utils/json.py, object_hook).
const (
	keyType  = "__type__"
	keyValue = "__value__"
)

// markerKeys says which keys an object has.
type markerKeys uint8

const (
	markerType markerKeys = 1 << iota
	markerValue
	markerOther

	markerBoth = markerType | markerValue
)

// The longest JSON text of one of the two keys: quotes and \uXXXX throughout.
const maxMarkerKey = 2 + 6*len(keyValue)

// markerKey classifies a key, given with its quotes.
func markerKey(quoted []byte, escaped bool) markerKeys {
	key := quoted[1 : len(quoted)-1]
	if escaped {
		if len(quoted) > maxMarkerKey {
			return markerOther
		}
		var buf [maxMarkerKey]byte
		key = appendUnquoted(buf[:0], key)
	}
	return markerOf(key)
}

// markerOf classifies a key.
func markerOf[T string | []byte](key T) markerKeys {
	switch string(key) {
	case keyType:
		return markerType
	case keyValue:
		return markerValue
	default:
		return markerOther
	}
}

// HasTypedMarker tells whether some object in r, at any depth, has exactly the
// keys "__type__" and "__value__" once escapes are decoded and duplicates
// merged. kombu turns such an object into a Python object (or dies of it), so
// it must not come from a stranger. For bytes that CheckJSON refuses the answer
// is true: it cannot be ruled out.
func HasTypedMarker(r Raw) bool {
	facts, err := Inspect(r, JSONLimits{MaxDepth: maxMaxDepth, MaxIntDigits: -1})
	return err != nil || facts.TypedMarker
}
