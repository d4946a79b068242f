package djangoresults

import (
	"bytes"
	"encoding/base64"
	"strconv"
	"unicode/utf8"

	"github.com/dfws/dfws/celeryproto"
)

// content makes texts for columns of values and back (django-celery-results 2.6, backends/database.py, encode_content and
// decode_content).
type content struct{ codec celeryproto.ResultCodec }

// newContent checks the codec.
func newContent(codec celeryproto.ResultCodec) (content, error) {
	_, _, _, err := codec.EncodeColumn("", celeryproto.Raw("null"))
	return content{codec}, err
}

// encode returns a column's text; status is that of a result, "" for other values.
func (c content) encode(status string, r celeryproto.Raw) (text, contentType, encoding string, err error) {
	if len(r) == 0 {
		r = celeryproto.Raw("null")
	}
	data, contentType, encoding, err := c.codec.EncodeColumn(status, r)
	switch {
	case err != nil:
		return "", "", "", err
	case encoding == celeryproto.EncodingBinary:
		text = base64.StdEncoding.EncodeToString(data)
	case contentType == celeryproto.ContentTypeJSON:
		text = ascii(data)
	default:
		text = string(data)
	}
	return text, contentType, encoding, nil
}

// decode reads a column's text; nil for an empty one. Python reads by its own setting, here the row says what it has.
func (c content) decode(status, contentType, encoding, text string) (celeryproto.Raw, error) {
	if text == "" {
		return nil, nil
	}
	data := []byte(text)
	if encoding == celeryproto.EncodingBinary {
		var err error
		if data, err = base64.StdEncoding.DecodeString(text); err != nil {
			return nil, &celeryproto.DecodeError{Part: celeryproto.PartResult, Offset: -1, Err: err}
		}
	}
	return c.codec.DecodeColumn(status, contentType, data)
}

// ascii writes JSON as Python's json.dumps does: a database may have no place for an emoji.
func ascii(r celeryproto.Raw) string {
	if bytes.IndexFunc(r, func(c rune) bool { return c >= utf8.RuneSelf }) < 0 {
		return string(r)
	}
	out := make([]byte, 0, len(r)+len(r)/2)
	for i := 0; i < len(r); {
		if r[i] < utf8.RuneSelf {
			out = append(out, r[i])
			i++
			continue
		}
		end := i + 1
		for end < len(r) && r[end] >= utf8.RuneSelf {
			end++
		}
		quoted := celeryproto.AppendString(nil, string(r[i:end]))
		out = append(out, quoted[1:len(quoted)-1]...)
		i = end
	}
	return string(out)
}

// quote is a text as a JSON value.
func quote(text string) celeryproto.Raw { return celeryproto.AppendString(nil, text) }

// quoted shortens what comes from a database for an error.
func quoted(text string) string {
	const most = 60
	if len(text) > most {
		text = text[:most] + "…"
	}
	return strconv.Quote(text)
}
