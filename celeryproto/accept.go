package celeryproto

import "fmt"

// Accept is the set of content types that may be deserialized, Celery's
// accept_content. The zero value is Celery's default, JSON alone. As in kombu,
// application/data and application/text are always in it: they are not parsed.
type Accept struct {
	set uint8 // bits of formats
	// given tells an empty set, which accepts nothing, from the zero value.
	given bool
}

// ParseAccept reads Celery's accept_content: names (json, msgpack, yaml, pickle)
// or content types. nil is None, Celery's default. The error is an
// *UnsupportedError that names what this package does not know; kombu takes any
// content type, but has a decoder only for those that an application registers.
func ParseAccept(names []string) (Accept, error) {
	var a Accept
	if names == nil {
		return a, nil
	}
	a.given = true
	for _, name := range names {
		f := formatOf(name)
		if f == nil || name == "" || name == SerializerRaw { // kombu has no decoder of that name
			return Accept{}, unsupportedSerializer(name)
		}
		a.set |= f.bit
	}
	return a, nil
}

// acceptAll is for what only looks into a message.
var acceptAll = Accept{set: ^uint8(0), given: true}

// Accepts tells whether a content type may be deserialized.
func (a Accept) Accepts(contentType string) bool {
	f := formatOf(contentType)
	return f != nil && contentType == f.contentType && a.has(f)
}

func (a Accept) has(f *format) bool {
	set := a.set
	if !a.given {
		set = formats[0].bit
	}
	return f.trusted || set&f.bit != 0
}

// ContentTypes are the content types in the set, without those that are always in it.
func (a Accept) ContentTypes() []string {
	var types []string
	for i := range formats {
		if f := &formats[i]; a.has(f) && !f.trusted {
			types = append(types, f.contentType)
		}
	}
	return types
}

// DisallowedError reports content that is not in the Accept of whoever reads it,
// kombu's ContentDisallowed. It is also an *UnsupportedError (by Unwrap), for
// those who only ask whether somebody else might read the message.
type DisallowedError struct {
	// ContentType as it stands in the message, "application/x-python-serialize".
	ContentType string
}

func (e *DisallowedError) Error() string {
	name := e.ContentType
	if f := formatOf(name); f != nil {
		name = f.name
	}
	return fmt.Sprintf("celeryproto: Refusing to deserialize untrusted content of type %s (%s)", name, shorten(e.ContentType))
}

// Unwrap says the same as an *UnsupportedError.
func (e *DisallowedError) Unwrap() error { return unsupportedSerializer(e.ContentType) }
