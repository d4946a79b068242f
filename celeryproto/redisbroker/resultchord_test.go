package redisbroker

import (
	"testing"
)

// FuzzChordPart reads what anybody may have stored as a part of a chord, and as the header of one.
func FuzzChordPart(f *testing.F) {
	for _, seed := range []string{
		`[1, "id", "SUCCESS", 2]`, `[1, "id", "FAILURE", {"exc_type": "E", "exc_message": [], "exc_module": "m"}]`,
		`{"result": [["g", null], [[["a", null], null]]]}`, "\x00celery-compressed\x00application/x-gzip\x00x", `[1, 2, 3, 4]`,
	} {
		f.Add([]byte(seed))
	}
	r := &Results{}
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := r.decodePart(b); err == nil {
			part, err := r.encodePart(&p)
			if err != nil {
				t.Fatalf("encode what was decoded: %v", err)
			}
			again, err := r.decodePart(part)
			if err != nil || again.TaskID != p.TaskID || again.Status != p.Status || again.Result.String() != p.Result.String() {
				t.Fatalf("%v: %+v, %+v", err, p, again)
			}
		}
		if tree, err := r.decodeTree(b); err == nil {
			if _, err := r.encodeTree(tree); err != nil {
				t.Fatalf("encode what was decoded: %v", err)
			}
		}
	})
}
