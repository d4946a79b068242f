// Package djangostate reads state that Django keeps outside its process: cache entries, signed values of django.core.signing, sessions, and the
// hash that ties a session to a password; and it chooses a visitor's language as Django does. It is pure, and it only reads: unlike Django it
// never rotates, deletes or refreshes a session. Package compat/djangonative fetches what is decoded here.
//
//	payload [":" base62 time] ":" base64url(HMAC-SHA256(key, all before))
//	key = SHA-256(salt + "signer" ‖ SECRET_KEY)
//
// A cache entry may be a pickle. It is read as data: nothing that it names is looked up or called, and what is no plain value is refused.
//
// The keys come derived from the settings export, so SECRET_KEY itself stays with Python. Sources: django/core/signing.py,
// django/contrib/sessions/backends/signed_cookies.py and django/contrib/auth/__init__.py of Django 4.2 to 6.1.
package djangostate
