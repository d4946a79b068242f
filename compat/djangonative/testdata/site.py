"""Django and df_websockets themselves: they write what the tests of this package read, and compute what the tests compare with.

One request per line on stdin, one answer per line on stdout, both JSON. DFWS_TEST_SITE holds Django settings as JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest import mock

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[2] / "python-shim" / "src")]
SITE = json.loads(os.environ["DFWS_TEST_SITE"])
os.environ["TZ"] = SITE.get("TIME_ZONE", "UTC")  # settings.configure() leaves that to us
time.tzset()
if any("mysql" in database["ENGINE"] for database in SITE["DATABASES"].values()):
    import pymysql

    pymysql.install_as_MySQLdb()

import django
from django.conf import settings

OLD_KEY = "the-key-before-0123456789-0123456789-0123456789"
settings.configure(
    **{
        "SECRET_KEY": "the-key-of-today-0123456789-0123456789-0123456789",
        "SECRET_KEY_FALLBACKS": [OLD_KEY],
        "ALLOWED_HOSTS": ["*"],
        "ROOT_URLCONF": __name__,
        "LANGUAGE_CODE": "fr",
        "LOGGING": {"version": 1, "disable_existing_loggers": False},
        "DEFAULT_AUTO_FIELD": "django.db.models.BigAutoField",
        "INSTALLED_APPS": [
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.sessions",
            "channels",
            "df_websockets",
            "accounts",
        ],
        "MIDDLEWARE": [
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.middleware.locale.LocaleMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
            "df_websockets.middleware.WebsocketMiddleware",
        ],
        "PASSWORD_HASHERS": ["django.contrib.auth.hashers.MD5PasswordHasher"],
        "BROKER_URL": "redis://127.0.0.1:1/0",
        "CHANNEL_LAYERS": {"default": {"BACKEND": "channels_redis.core.RedisChannelLayer", "CONFIG": {"hosts": ["redis://127.0.0.1:1/1"]}}},
        **SITE,
    }
)
django.setup()
urlpatterns: list[Any] = []

from df_websockets import consumers, tasks
from df_websockets.window_info import WindowInfo
from dfws import export
from django.contrib.auth import BACKEND_SESSION_KEY, get_user_model, login
from django.contrib.auth.models import AnonymousUser
from django.core.cache import caches
from django.core.management import call_command
from django.http import HttpRequest
from django.http import parse_cookie
from django.utils import timezone
from kombu.utils import json as kombu_json

User = get_user_model()
SessionStore = import_module(settings.SESSION_ENGINE).SessionStore
ENGINE = settings.SESSION_ENGINE.rpartition(".")[2]
BACKEND = "django.contrib.auth.backends.ModelBackend"


@contextmanager
def earlier(seconds: float) -> Iterator[None]:
    """Sign as if it were so much earlier."""
    now = time.time()
    with mock.patch("django.core.signing.time.time", return_value=now - seconds):
        yield


def make_user(name: str, **flags: bool) -> Any:
    user = User(**{User.USERNAME_FIELD: f"{name}@example.test", **{k: v for k, v in flags.items() if _is_field(k)}})
    user.set_password("wonderland")
    user.save()
    return user


def _is_field(name: str) -> bool:
    return any(field.name == name for field in User._meta.get_fields())


def visit(user: Any, window_key: str, *, old_key: bool = False, data: dict[str, Any] | None = None) -> tuple[Any, dict[str, str]]:
    """Log in, render a page; return the session and the cookies that the browser has then."""
    request = HttpRequest()
    request.META = {"SERVER_NAME": "h", "SERVER_PORT": "80"}
    request.session = SessionStore()
    request.user = AnonymousUser()
    request.window_key = window_key
    request.has_websocket_topics = False
    cookies = {"dfwskey": window_key, "csrftoken": "token-" + window_key[:4]}
    with mock.patch.object(settings, "SECRET_KEY", OLD_KEY if old_key else settings.SECRET_KEY):
        if user is not None:
            login(request, user, BACKEND)
        request.session.update(data or {})
        if not request.session.is_empty():
            request.session.save()
            cookies["sessionid"] = request.session.session_key
    tasks.set_websocket_topics(request, "news", BACKEND)
    return request.session, cookies


def visitor(kind: str, number: int) -> dict[str, Any]:
    """Make somebody who has opened a page; return the handshake of the page's websocket."""
    window_key = f"{number:032d}"
    headers = {"user-agent": f"agent {kind}", "accept-language": "es-AR, de;q=0.5"}
    user = None
    if kind not in ("stranger", "anonymous", "cart", "no key"):
        user = make_user(f"u{number}", is_staff=kind in ("staff", "superuser"), is_superuser=kind == "superuser")
    session, cookies = visit(user, window_key, old_key=kind == "rotated key", data={"cart": [1, {"é": None}]} if kind == "cart" else None)
    changed = _CHANGES.get(kind)
    if changed is not None:
        changed(user, session, cookies, headers)
    # As a browser writes them; Django sends a value with other characters in quotes.
    cookie = "; ".join(f"{name}={value}" for name, value in cookies.items())
    return {"cookie": cookie, **headers, "user": None if user is None else str(user.pk)}


def _deactivate(user: Any, session: Any, cookies: Any, headers: Any) -> None:
    user.is_active = False
    user.save()


def _set_password(user: Any, session: Any, cookies: Any, headers: Any) -> None:
    user.set_password("looking-glass")
    user.save()


def _flush(user: Any, session: Any, cookies: Any, headers: Any) -> None:
    SessionStore(session.session_key).flush()


def _expire(user: Any, session: Any, cookies: Any, headers: Any) -> None:
    """Make the session as old as it may not be."""
    if ENGINE == "signed_cookies":
        with earlier(settings.SESSION_COOKIE_AGE + 1):
            session.save()
            cookies["sessionid"] = session.session_key
        return
    if ENGINE in ("db", "cached_db"):
        past = timezone.now() - timezone.timedelta(seconds=1)
        SessionStore.get_model_class().objects.filter(session_key=session.session_key).update(expire_date=past)
    if ENGINE in ("cache", "cached_db"):
        caches[settings.SESSION_CACHE_ALIAS].delete(session.cache_key)
    if ENGINE == "file":
        path = session._key_to_file()
        past_file = time.time() - settings.SESSION_COOKIE_AGE - 1
        os.utime(path, (past_file, past_file))


def _foreign_backend(user: Any, session: Any, cookies: Any, headers: Any) -> None:
    session[BACKEND_SESSION_KEY] = "elsewhere.Backend"
    session.save()
    cookies["sessionid"] = session.session_key


def _forget_expiry(user: Any, session: Any, cookies: Any, headers: Any) -> None:
    session.set_expiry(3600)
    session.save()
    cookies["sessionid"] = session.session_key


_CHANGES: dict[str, Any] = {
    "inactive": _deactivate,
    "changed password": _set_password,
    "logged out elsewhere": _flush,
    "expired session": _expire,
    "deleted": lambda user, *_: user.delete(),
    "foreign backend": _foreign_backend,
    "own expiry": _forget_expiry,
    "forged session": lambda user, session, cookies, headers: cookies.update(sessionid=cookies["sessionid"][:-1] + "!"),
    "short session": lambda user, session, cookies, headers: cookies.update(sessionid="short"),
    "other language": lambda user, session, cookies, headers: cookies.update(django_language="pt-br"),
    "odd language": lambda user, session, cookies, headers: (cookies.update(django_language="xx"), headers.update({"accept-language": "de;q=2"})),
    "no key": lambda user, session, cookies, headers: cookies.pop("dfwskey"),
    "topics gone": lambda user, session, cookies, headers: caches["default"].delete("df_ws" + cookies["dfwskey"]),
    "stranger": lambda user, session, cookies, headers: cookies.clear(),
}


def expect(handshake: dict[str, str]) -> dict[str, Any]:
    """Compute what df_websockets' consumer computes, by its own means."""
    headers = [(name.encode(), value.encode("latin-1")) for name, value in handshake.items() if name != "user"]
    consumer = consumers.DFConsumer()
    consumer.scope = {"path": "/ws/", "query_string": b"", "headers": headers, "cookies": parse_cookie(handshake["cookie"])}
    request = consumer.build_http_request()
    consumers.get_handler().get_response(request)
    request.window_key = request.COOKIES.get("dfwskey", "")
    text = caches["default"].get(f"df_ws{request.window_key}", "[]")
    return {"topics": sorted(json.loads(text)), "window_info": json.loads(kombu_json.dumps(WindowInfo.from_request(request).to_dict()))}


def act(name: str, user: str | None, handshake: dict[str, str]) -> None:
    """End somebody's identity, as another process does."""
    key = parse_cookie(handshake["cookie"]).get("sessionid")
    found = User._default_manager.filter(pk=user)
    if name == "logout":
        SessionStore(key).flush()
    elif name == "clearsessions":
        SessionStore.get_model_class().objects.filter(session_key=key).update(expire_date=timezone.now() - timezone.timedelta(days=1))
        call_command("clearsessions")
    elif name == "save":
        row = found.get()
        row.set_password("another")
        row.save()
    elif name == "update":
        found.update(password="!unusable")
    elif name == "flags":
        found.update(is_staff=True)
    elif name == "delete":
        found.delete()
    elif name == "login":  # nothing that matters
        found.update(last_login=timezone.now())
    else:
        raise ValueError(name)


def migrate() -> None:
    call_command("migrate", verbosity=0, run_syncdb=True)
    call_command("createcachetable", verbosity=0)


def run(request: dict[str, Any]) -> Any:
    action = request.pop("do")
    if action == "settings":
        migrate()
        return export.document()
    return {"visitor": visitor, "expect": expect, "act": act}[action](**request)


for line in sys.stdin:
    try:
        answer = {"answer": run(json.loads(line))}
    except Exception as error:
        import traceback

        traceback.print_exc()
        answer = {"error": repr(error)}
    print(json.dumps(answer), flush=True)
