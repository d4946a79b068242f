package djangostate

import (
	"bytes"
	"compress/zlib"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

var (
	// ErrBadSignature is returned by Unsign, UnsignAt and SessionReader.Read when no key verifies the value.
	ErrBadSignature = errors.New("djangostate: bad signature")
	// ErrExpired is returned by SessionReader.Read for a session older than SESSION_COOKIE_AGE.
	ErrExpired = errors.New("djangostate: expired")
	// ErrMalformed is wrapped by what is returned for a value whose form is wrong although its signature is right.
	ErrMalformed = errors.New("djangostate: malformed")
	// ErrTooLarge is returned by Payload for a compressed payload that grows beyond the limit.
	ErrTooLarge = errors.New("djangostate: payload too large")
)

// signerSalt follows a signer's own salt in the key's derivation (Signer.signature in django/core/signing.py).
const signerSalt = "signer"

// Key is a derived signing key.
type Key [sha256.Size]byte

// DeriveKey derives the key of a Signer with this salt: SHA-256(salt + "signer" ‖ secret). Settings exports carry derived keys; this
// function is for tests and for programs that hold the secret anyway.
func DeriveKey(salt, secret string) Key {
	return sha256.Sum256([]byte(salt + signerSalt + secret))
}

// ParseKey reads a derived key from its 64 hex digits. The error does not quote them.
func ParseKey(text string) (Key, error) {
	var key Key
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != len(key) {
		return key, fmt.Errorf("djangostate: key: not %d bytes in hex", len(key))
	}
	copy(key[:], b)
	return key, nil
}

// Unsign verifies a value of django.core.signing.Signer and returns it without its signature. The keys are tried in order: the one of
// SECRET_KEY, then those of SECRET_KEY_FALLBACKS.
func Unsign(signed string, keys ...Key) (string, error) {
	at := strings.LastIndexByte(signed, ':')
	if at < 0 {
		return "", ErrBadSignature
	}
	value, given := signed[:at], signed[at+1:]
	for _, key := range keys {
		if hmac.Equal([]byte(given), []byte(signature(key, value))) {
			return value, nil
		}
	}
	return "", ErrBadSignature
}

// signature is Signer.signature: base64url without padding of the HMAC.
func signature(key Key, value string) string {
	mac := hmac.New(sha256.New, key[:])
	mac.Write([]byte(value))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// UnsignAt verifies a value of TimestampSigner and returns it with the time of its signature. It does not judge the time.
func UnsignAt(signed string, keys ...Key) (string, time.Time, error) {
	stamped, err := Unsign(signed, keys...)
	if err != nil {
		return "", time.Time{}, err
	}
	at := strings.LastIndexByte(stamped, ':')
	if at < 0 {
		return "", time.Time{}, fmt.Errorf("%w: no timestamp", ErrMalformed)
	}
	seconds, err := parseBase62(stamped[at+1:])
	if err != nil {
		return "", time.Time{}, err
	}
	return stamped[:at], time.Unix(seconds, 0).UTC(), nil
}

// maxBase62 is more than the digits of any int64 year: the timestamp of the year 9999 has seven.
const maxBase62 = 10

// parseBase62 reads a timestamp (signing.b62_decode): digits, upper case, lower case, a minus before negative numbers.
func parseBase62(text string) (int64, error) {
	digits, negative := strings.CutPrefix(text, "-")
	if digits == "" || len(digits) > maxBase62 {
		return 0, fmt.Errorf("%w: timestamp", ErrMalformed)
	}
	var n int64
	for i := range len(digits) {
		var digit byte
		switch c := digits[i]; {
		case '0' <= c && c <= '9':
			digit = c - '0'
		case 'A' <= c && c <= 'Z':
			digit = c - 'A' + 10
		case 'a' <= c && c <= 'z':
			digit = c - 'a' + 36
		default:
			return 0, fmt.Errorf("%w: timestamp", ErrMalformed)
		}
		n = n*62 + int64(digit)
	}
	if negative {
		n = -n
	}
	return n, nil
}

// Payload returns the JSON of a value made by signing.dumps, its signature and timestamp already taken off: base64url, after a dot
// zlib-compressed. limit bounds the decompressed size in bytes.
func Payload(value string, limit int) ([]byte, error) {
	encoded, compressed := strings.CutPrefix(value, ".")
	b, err := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil {
		return nil, fmt.Errorf("%w: base64", ErrMalformed)
	}
	if !compressed {
		if len(b) > limit {
			return nil, ErrTooLarge
		}
		return b, nil
	}
	reader, err := zlib.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("%w: zlib", ErrMalformed)
	}
	data, err := io.ReadAll(io.LimitReader(reader, int64(limit)+1))
	if err != nil {
		return nil, fmt.Errorf("%w: zlib", ErrMalformed)
	}
	if len(data) > limit {
		return nil, ErrTooLarge
	}
	return data, nil
}
