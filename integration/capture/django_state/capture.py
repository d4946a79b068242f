"""Records what Django signs: sessions that live in their cookie, signed values, and how it parses cookies.

    python capture.py <output folder>

Runs under any Django from 4.2 on; one folder per series is written (django-4.2, django-5.2, …). Needs no Redis.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time

import django
from django.conf import settings

sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from fixturelib import package_versions, write_case  # noqa: E402

SECRET = "fixture-secret-key-0123456789-never-use-this-one"
OLD_SECRET = "fixture-OLD-secret-key-9876543210-rotated-out"
ENGINE = "django.contrib.sessions.backends.signed_cookies"
BACKEND = "django.contrib.auth.backends.ModelBackend"
WORK = tempfile.mkdtemp()

settings.configure(
    SECRET_KEY=SECRET,
    USE_TZ=True,
    TIME_ZONE="UTC",
    SESSION_ENGINE=ENGINE,
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.path.join(WORK, "db.sqlite3")}},
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions"],
    AUTHENTICATION_BACKENDS=[BACKEND],
)
django.setup()

from django.contrib.auth import get_user, get_user_model, login  # noqa: E402
from django.contrib.auth.hashers import make_password  # noqa: E402
from django.contrib.sessions.backends.signed_cookies import SessionStore  # noqa: E402
from django.core import signing  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.http import HttpRequest, HttpResponse, parse_cookie  # noqa: E402
from django.test import override_settings  # noqa: E402
from django.utils.crypto import salted_hmac  # noqa: E402

OUT = os.path.join(sys.argv[1], "django-%d.%d" % django.VERSION[:2])
VERSIONS = package_versions("django")
USERS = {
    "alice": {"is_staff": False, "is_superuser": False, "is_active": True},
    "bob-staff": {"is_staff": True, "is_superuser": False, "is_active": True},
    "root": {"is_staff": True, "is_superuser": True, "is_active": True},
    "gone-inactive": {"is_staff": False, "is_superuser": False, "is_active": False},
}


def request(cookies=None) -> HttpRequest:
    made = HttpRequest()
    made.method = "GET"
    made.META = {"SERVER_NAME": "testserver", "SERVER_PORT": "80"}
    made.COOKIES = cookies or {}
    return made


def user_row(user) -> dict:
    return {
        "table": user._meta.db_table,
        "id": user.pk,
        "username": user.username,
        "password": user.password,
        "is_active": user.is_active,
        "is_staff": user.is_staff,
        "is_superuser": user.is_superuser,
    }


def logged_in(user) -> SessionStore:
    made = request()
    made.session = SessionStore()
    login(made, user, backend=BACKEND)
    made.session.save()
    return made.session


def emit(case: str, store: SessionStore, user) -> None:
    """Writes the cookie, and what a request that brings it would see."""
    made = request()
    made.session = SessionStore(store.session_key)
    who = get_user(made)
    doc = {
        "captured_at": time.time(),
        "cookie": {"name": settings.SESSION_COOKIE_NAME, "value": store.session_key},
        "expect": {
            "session": dict(SessionStore(store.session_key).items()),
            "authenticated": who.is_authenticated,
            "user_pk": who.pk,
            "session_key_after": None,
            "session_modified_by_reading": made.session.modified,
        },
    }
    if user is not None:
        doc["user_row"] = user_row(user)
        doc["expect"]["auth_user_hash"] = user.get_session_auth_hash()
    write_case(OUT, "session_signed_cookies_" + case, VERSIONS, {"SESSION_ENGINE": ENGINE, "SECRET_KEY": SECRET}, **doc)


def sessions() -> None:
    users = {}
    for name, flags in USERS.items():
        password = make_password("secret of " + name, salt="fixedsalt" + name.replace("-", ""))
        users[name] = get_user_model().objects.create(username=name, password=password, **flags)
        emit(name.split("-")[0], logged_in(users[name]), users[name])
    store = SessionStore()
    store["color"] = "blé"
    store["n"] = [1, 2.5, None, True]
    store.save()
    emit("anonymous_data", store, None)
    store = SessionStore()
    store["long"] = "abc " * 200
    store.set_expiry(300)
    store.save()
    emit("compressed_with_expiry", store, None)
    rotated(users["alice"])


def rotated(user) -> None:
    """A session that was signed with the old secret and is read with the new one, the old being a fallback."""
    with override_settings(SECRET_KEY=OLD_SECRET):
        old_key, old_hash = logged_in(user).session_key, user.get_session_auth_hash()
    config = {"SESSION_ENGINE": ENGINE, "SECRET_KEY": SECRET, "SECRET_KEY_FALLBACKS": [OLD_SECRET]}
    with override_settings(SECRET_KEY_FALLBACKS=[OLD_SECRET]):
        made = request()
        made.session = SessionStore(old_key)
        who = get_user(made)
        doc = {
            "captured_at": time.time(),
            "cookie": {"name": "sessionid", "value": old_key},
            "user_row": user_row(user),
            "db_row": None,
            "expect": {
                "authenticated": who.is_authenticated,
                "old_hash": old_hash,
                "new_hash": user.get_session_auth_hash(),
                "session_modified_by_reading": made.session.modified,
                "session_key_changed": made.session.session_key != old_key,
                "old_session_row_still_there": None,
            },
        }
        write_case(OUT, "session_signed_cookies_rotated_secret", VERSIONS, config, **doc)


def signed_values() -> None:
    objects = [
        {
            "salt": salt,
            "object": value,
            "compress": compress,
            "secret": SECRET,
            "signed": signing.dumps(value, salt=salt, compress=compress),
        }
        for salt in ("django.contrib.sessions.SessionStore", ENGINE, "x")
        for value in ({"_auth_user_id": "1"}, {"long": "abc " * 200})
        for compress in (False, True)
    ]
    auth_salt = "django.contrib.auth.models.AbstractBaseUser.get_session_auth_hash"
    macs = [
        {
            "key_salt": salt,
            "value": value,
            "secret": SECRET,
            "algorithm": algorithm,
            "hexdigest": salted_hmac(salt, value, secret=SECRET, algorithm=algorithm).hexdigest(),
        }
        for salt, value in ((auth_salt, "pbkdf2_sha256$1$salt$hash="), ("s" + "signer", "value"))
        for algorithm in ("sha1", "sha256")
    ]
    base62 = [{"n": n, "b62": signing.b62_encode(n)} for n in (0, 1, 61, 62, 1700000000, 1795424379)]
    response = HttpResponse()
    response.set_signed_cookie("name", "value", salt="extra")
    cookie = {
        "cookie": "name",
        "salt": "extra",
        "value": "value",
        "cookie_value": response.cookies["name"].value,
        "legacy_salt_setting": getattr(settings, "SIGNED_COOKIE_LEGACY_SALT_FALLBACK", None),
    }
    write_case(
        OUT, "signing", VERSIONS, {"SECRET_KEY": SECRET}, captured_at=time.time(),
        objects=objects, salted_hmac=macs, base62=base62, signed_cookie=cookie,
    )  # fmt: skip


HEADERS = (
    "a=1; b=2", "a=1;b=2", "a=1; a=2", "a", "a=; b", "=x", 'q="quoted"', 'q="a\\"b"', 'q="\\303\\251"', "u=%C3%A9", "s=a b", "e=a=b=c",
    "csrftoken=abc; sessionid=xyz ", "a=1, b=2", 'bad="unterminated', "\u00e9=1", "k=\u00e9",
)  # fmt: skip


if __name__ == "__main__":
    call_command("migrate", verbosity=0)
    sessions()
    signed_values()
    write_case(OUT, "parse_cookie", VERSIONS, {}, cookies=[{"header": header, "cookies": parse_cookie(header)} for header in HEADERS])
    print(f"{OUT}: {len(os.listdir(OUT))} files")
