package staticfiles

import (
	"strconv"
	"strings"
	"time"
)

// identity is the name of no encoding (RFC 9110, section 12.5.3).
const identity = "identity"

// variantSlack is how much older than its file a compressed variant may be: archives round times.
const variantSlack = 2 * time.Second

// codings are the encodings of compressed variants and the suffixes of their files.
var codings = []struct{ encoding, suffix string }{{"br", ".br"}, {"zstd", ".zst"}, {"gzip", ".gz"}}

// variant is one representation of a file.
type variant struct {
	encoding, suffix string
	size             int64
	q                int
}

// betterThan prefers what the client prefers, and then what is smaller.
func (v variant) betterThan(other variant) bool {
	if v.q == 0 {
		return false
	}
	return v.q > other.q || v.q == other.q && v.size < other.size
}

// acceptedEncodings are the weights of an Accept-Encoding header in thousandths; "*" is one of the names.
type acceptedEncodings map[string]int

// maxAcceptEncoding bounds what is read of the header; browsers send 25 bytes.
const maxAcceptEncoding = 1 << 10

// parseAcceptEncoding reads the header (RFC 9110, section 12.5.3). What cannot be read is not accepted.
func parseAcceptEncoding(header string) acceptedEncodings {
	if len(header) > maxAcceptEncoding {
		return nil
	}
	var accepted acceptedEncodings
	for element := range strings.SplitSeq(header, ",") {
		name, params, _ := strings.Cut(element, ";")
		name = strings.ToLower(strings.TrimSpace(name))
		if name == "" {
			continue
		}
		if name == "x-gzip" {
			name = "gzip"
		}
		if accepted == nil {
			accepted = acceptedEncodings{}
		}
		accepted[name] = weight(params)
	}
	return accepted
}

// weight reads "q=0.5" into thousandths (RFC 9110, section 12.4.2).
func weight(params string) int {
	params = strings.TrimSpace(params)
	if params == "" {
		return 1000
	}
	name, value, _ := strings.Cut(params, "=")
	if !strings.EqualFold(strings.TrimSpace(name), "q") {
		return 0
	}
	q, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
	if err != nil || !(q >= 0 && q <= 1) {
		return 0
	}
	return int(q*1000 + 0.5)
}

// of returns the weight of an encoding, 0 if it is not accepted. A file as it is needs no mention, and then comes last.
func (a acceptedEncodings) of(encoding string) int {
	if q, ok := a[encoding]; ok {
		return q
	}
	q, ok := a["*"]
	if encoding == identity && (!ok || q == 0) {
		return 0
	}
	return q
}
