// Package djangostate reads state that Django keeps outside its process: signed values of django.core.signing and the sessions of the engine
// signed_cookies. It is pure, and it only reads: unlike Django it never rotates, deletes or refreshes a session.
//
//	payload [":" base62 time] ":" base64url(HMAC-SHA256(key, all before))
//	key = SHA-256(salt + "signer" ‖ SECRET_KEY)
//
// The keys come derived from the settings export, so SECRET_KEY itself stays with Python. Sources: django/core/signing.py,
// django/contrib/sessions/backends/signed_cookies.py and django/contrib/auth/__init__.py of Django 4.2 to 6.1.
package djangostate
