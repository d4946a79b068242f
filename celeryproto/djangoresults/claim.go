package djangoresults

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"strings"
	"time"
)

// claim says who completes a chord, and until when nobody else may. It stands behind the JSON of sub_tasks, where only JSON's
// white space may: a line end, then the bits of until and of nonce, a blank for 0 and a tab for 1.
type claim struct {
	until int64 // seconds since 1970, of the database's clock
	nonce [nonceBytes]byte
}

const (
	nonceBytes    = 8
	claimBits     = 64 + 8*nonceBytes
	claimStart    = "\n"
	claimZero     = ' '
	claimOne      = '\t'
	claimAlphabet = claimStart + string(claimZero) + string(claimOne)
)

func newClaim(until int64) claim {
	c := claim{until: until}
	_, _ = rand.Read(c.nonce[:]) // never fails
	return c
}

// token names the claim, whatever its end.
func (c claim) token() string { return hex.EncodeToString(c.nonce[:]) }

// text is the claim as it stands in sub_tasks.
func (c claim) text() string {
	bits := append(binary.BigEndian.AppendUint64(nil, uint64(c.until)), c.nonce[:]...)
	out := []byte(claimStart)
	for _, b := range bits {
		for shift := 7; shift >= 0; shift-- {
			if b>>shift&1 == 1 {
				out = append(out, claimOne)
			} else {
				out = append(out, claimZero)
			}
		}
	}
	return string(out)
}

// claimOf finds the claim in sub_tasks. White space of another form is none.
func claimOf(subTasks string) (c claim, ok bool) {
	start := strings.LastIndex(subTasks, claimStart)
	if start < 0 || len(subTasks)-start-len(claimStart) != claimBits {
		return claim{}, false
	}
	bits := make([]byte, 0, claimBits/8)
	for i, r := range []byte(subTasks[start+len(claimStart):]) {
		if i%8 == 0 {
			bits = append(bits, 0)
		}
		switch r {
		case claimZero:
		case claimOne:
			bits[len(bits)-1] |= 1 << (7 - i%8)
		default:
			return claim{}, false
		}
	}
	c.until = int64(binary.BigEndian.Uint64(bits))
	copy(c.nonce[:], bits[8:])
	return c, c.nonce != [nonceBytes]byte{}
}

func (b *Backend) claimSeconds() int64 { return int64(b.opts.ChordClaim / time.Second) }
