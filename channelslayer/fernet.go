package channelslayer

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"time"
)

// fernet encrypts and decrypts the bodies of messages as channels_redis does with cryptography's MultiFernet (serializers.py,
// BaseMessageSerializer; cryptography 50.0, fernet.py). A token is, in base64url with padding:
//
//	┌──────┬─────────────────────┬────┬─────────────────────────────┬─────────────────────────────┐
//	│ 0x80 │ Unix seconds, 64 bit│ IV │ AES-128-CBC, PKCS7          │ HMAC-SHA256 of all before it│
//	└──────┴─────────────────────┴────┴─────────────────────────────┴─────────────────────────────┘
//
// The first key encrypts; all are tried to decrypt, so that keys can be exchanged while the site runs.
type fernet struct {
	keys []fernetKey
	ttl  time.Duration // how old a token may be; 0: any age (the pub/sub layer)
	now  func() time.Time
}

type fernetKey struct {
	signing [16]byte
	block   cipher.Block // safe for concurrent use
}

const (
	fernetVersion = 0x80
	fernetHeader  = 1 + 8
	fernetIV      = aes.BlockSize
	fernetShort   = fernetHeader + fernetIV + aes.BlockSize + sha256.Size
	// fernetSkew is how far in the future a token may be made (fernet.py, _MAX_CLOCK_SKEW).
	fernetSkew = 60 * time.Second
	// fernetGrace is what the core layer adds to expiry for the age of a token (serializers.py, deserialize).
	fernetGrace = 10 * time.Second
)

// newFernet derives the keys; nil without secrets.
func newFernet(secrets []Secret, ttl time.Duration) (*fernet, error) {
	if len(secrets) == 0 {
		return nil, nil
	}
	f := &fernet{keys: make([]fernetKey, len(secrets)), ttl: ttl, now: time.Now}
	for i, secret := range secrets {
		sum := sha256.Sum256([]byte(secret))
		block, err := aes.NewCipher(sum[16:])
		if err != nil {
			return nil, err
		}
		copy(f.keys[i].signing[:], sum[:16])
		f.keys[i].block = block
	}
	return f, nil
}

// encrypt returns the token of a body.
func (f *fernet) encrypt(body []byte) ([]byte, error) {
	var iv [fernetIV]byte
	if _, err := rand.Read(iv[:]); err != nil {
		return nil, err
	}
	return f.keys[0].seal(body, f.now(), iv), nil
}

func (k *fernetKey) seal(body []byte, now time.Time, iv [fernetIV]byte) []byte {
	padding := aes.BlockSize - len(body)%aes.BlockSize
	raw := make([]byte, 0, fernetHeader+fernetIV+len(body)+padding+sha256.Size)
	raw = append(raw, fernetVersion)
	raw = binary.BigEndian.AppendUint64(raw, uint64(now.Unix()))
	raw = append(raw, iv[:]...)
	start := len(raw)
	raw = append(raw, body...)
	for range padding {
		raw = append(raw, byte(padding))
	}
	cipher.NewCBCEncrypter(k.block, iv[:]).CryptBlocks(raw[start:], raw[start:])
	raw = k.sign(raw, raw)
	token := make([]byte, base64.URLEncoding.EncodedLen(len(raw)))
	base64.URLEncoding.Encode(token, raw)
	return token
}

// sign appends the signature of data to dst.
func (k *fernetKey) sign(dst, data []byte) []byte {
	mac := hmac.New(sha256.New, k.signing[:])
	mac.Write(data)
	return mac.Sum(dst)
}

// decrypt opens a token.
func (f *fernet) decrypt(token string) ([]byte, error) {
	raw, err := base64.URLEncoding.DecodeString(token)
	if err != nil || len(raw) < fernetShort || raw[0] != fernetVersion || (len(raw)-fernetShort)%aes.BlockSize != 0 {
		return nil, &DecodeError{Reason: DropUndecryptable, Offset: -1}
	}
	signed, signature := raw[:len(raw)-sha256.Size], raw[len(raw)-sha256.Size:]
	for i := range f.keys {
		k := &f.keys[i]
		if !hmac.Equal(k.sign(nil, signed), signature) {
			continue
		}
		if !f.fresh(binary.BigEndian.Uint64(signed[1:fernetHeader])) {
			return nil, &DecodeError{Reason: DropTokenAge, Offset: -1}
		}
		return k.open(signed)
	}
	return nil, &DecodeError{Reason: DropUndecryptable, Offset: -1}
}

// fresh tells whether a token that was made at that second may be used now.
func (f *fernet) fresh(made uint64) bool {
	if f.ttl == 0 {
		return true
	}
	now := uint64(max(f.now().Unix(), 0))
	return made <= now+uint64(fernetSkew/time.Second) && made+uint64(f.ttl/time.Second) >= now
}

// open decrypts what was verified.
func (k *fernetKey) open(signed []byte) ([]byte, error) {
	iv, body := signed[fernetHeader:fernetHeader+fernetIV], signed[fernetHeader+fernetIV:]
	cipher.NewCBCDecrypter(k.block, iv).CryptBlocks(body, body)
	padding := int(body[len(body)-1])
	if padding == 0 || padding > aes.BlockSize {
		return nil, &DecodeError{Reason: DropUndecryptable, Offset: -1}
	}
	for _, b := range body[len(body)-padding:] {
		if int(b) != padding {
			return nil, &DecodeError{Reason: DropUndecryptable, Offset: -1}
		}
	}
	return body[:len(body)-padding], nil
}
