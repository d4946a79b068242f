package djangostate

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// AuthHashSalt is the salt of session auth hashes (AbstractBaseUser._get_session_auth_hash).
const AuthHashSalt = "django.contrib.auth.models.AbstractBaseUser.get_session_auth_hash"

// SaltedHMACKey derives the key of django.utils.crypto.salted_hmac with SHA-256. Settings exports carry derived keys; this function is for tests
// and for programs that hold the secret anyway.
func SaltedHMACKey(salt, secret string) Key { return sha256.Sum256([]byte(salt + secret)) }

// AuthHash is a user's session auth hash: hex of HMAC-SHA256 over the column password.
func AuthHash(key Key, password string) string {
	mac := hmac.New(sha256.New, key[:])
	mac.Write([]byte(password))
	return hex.EncodeToString(mac.Sum(nil))
}

// VerifyAuthHash reports whether a session's hash belongs to this password, by the keys of SECRET_KEY and its fallbacks. An empty hash
// never does (django.contrib.auth.get_user, Django 4.2 to 6.1).
func VerifyAuthHash(hash, password string, keys ...Key) bool {
	for _, key := range keys {
		if hash != "" && hmac.Equal([]byte(hash), []byte(AuthHash(key, password))) {
			return true
		}
	}
	return false
}

// Stamp summarizes what in a user's row decides who that user is, as the Django app does in tickets and revocations.
func Stamp(password string, active, staff, superuser bool) string {
	parts := []string{password, flag(active), flag(staff), flag(superuser)}
	sum := sha256.Sum256([]byte("dfws.stamp:" + strings.Join(parts, "|")))
	return hex.EncodeToString(sum[:])
}

func flag(set bool) string {
	if set {
		return "1"
	}
	return "0"
}
