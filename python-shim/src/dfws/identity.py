"""How a session and a user are named in tickets and revocations; the Go side computes the same texts."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final, Literal

from django.conf import settings
from django.contrib.auth import HASH_SESSION_KEY, SESSION_KEY, get_user_model
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.sessions.backends.base import SessionBase
from django.contrib.sessions.backends.signed_cookies import SessionStore as SignedCookies
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.crypto import constant_time_compare

STAMP_FIELDS: Final = ("password", "is_active", "is_staff", "is_superuser")
"""Columns of a user whose change makes every ticket of that user worthless."""


@dataclass(frozen=True)
class Binding:
    """What a handshake must show to be served by a ticket.

    ``none``: no session cookie at all. ``session``: the cookie whose hash this is. ``auth`` (sessions in signed cookies, whose text
    changes with every save): a cookie that holds this user and this authentication hash.
    """

    kind: Literal["none", "session", "auth"]
    session: str | None = None


def session_hash(cookie: str) -> str:
    """Name a session by the value of its cookie."""
    return _sha256("dfws.session:" + cookie)


def auth_hash(session: SessionBase) -> str:
    """Name a session that lives in its cookie by the user and the authentication hash in it; both empty for a visitor."""
    return _sha256(f"dfws.auth:{session.get(SESSION_KEY, '')}:{session.get(HASH_SESSION_KEY, '')}")


def user_label(pk: object) -> str:
    """Name a user: ``auth.user.1``."""
    return f"{get_user_model()._meta.label_lower}.{pk}"


def user_stamp(user: AbstractBaseUser) -> str:
    """Summarize what in a user's row decides who that user is; a model without a flag counts as active, neither staff nor superuser."""
    flags = (("is_active", True), ("is_staff", False), ("is_superuser", False))
    return _sha256("dfws.stamp:" + "|".join([user.password, *("1" if getattr(user, *flag) else "0" for flag in flags)]))


def deleted_stamp() -> str:
    """Return a stamp that no user has, for one whose row is gone."""
    return _sha256("dfws.stamp:deleted")


def is_signed_cookie(session: SessionBase) -> bool:
    """Tell whether a session lives in its cookie."""
    return isinstance(session, SignedCookies)


def revocable_session(session: SessionBase) -> str | None:
    """Name a session that is about to end; None when no ticket can be bound to it."""
    if is_signed_cookie(session):
        return auth_hash(session) if session.get(SESSION_KEY) else None
    return session_hash(session.session_key) if session.session_key else None


def binding_after(request: HttpRequest, response: HttpResponseBase) -> Binding:
    """Return the binding that fits the session cookie which the browser has once it got this response.

    A session that has no key yet gets one, if SessionMiddleware is going to save it; so it is saved a moment earlier than usual.
    """
    name = settings.SESSION_COOKIE_NAME
    session: SessionBase | None = getattr(request, "session", None)
    if session is None:
        # No SessionMiddleware: nothing will change the cookie that came, which then means nothing and is compared as a text.
        return _cookie_binding(request.COOKIES.get(name, ""))
    if is_signed_cookie(session):
        return Binding("none") if session.is_empty() else Binding("auth", auth_hash(session))
    if session.session_key is None and not session.is_empty() and response.status_code < 500:
        session.create()
    return _cookie_binding(session.session_key or "")


def verified_user(request: HttpRequest, *, reload: bool = False) -> AbstractBaseUser | None:
    """Return the user whom a handshake with the session of this request would find; None for nobody.

    That is ``request.user``, unless the password was changed meanwhile: by this very view, perhaps in another instance of the user.
    ``reload`` reads the user's row again in any case.
    """
    user = getattr(request, "user", None)
    if user is None or not user.is_authenticated:
        return None
    model = get_user_model()
    if not isinstance(user, model):
        return user  # type: ignore[no-any-return]
    if not reload and _is_in_session(user, request):
        return user
    fresh = model._default_manager.filter(pk=user.pk).first()
    return fresh if fresh is not None and _is_in_session(fresh, request) else None


def _is_in_session(user: AbstractBaseUser, request: HttpRequest) -> bool:
    """Tell whether the session accepts this user's password; True for one who was logged in by other means than the session."""
    session: SessionBase | None = getattr(request, "session", None)
    expected = None if session is None else session.get(HASH_SESSION_KEY)
    if session is None or not expected or session.get(SESSION_KEY) != user._meta.pk.value_to_string(user):
        return True
    # No fallback keys here: django.contrib.auth has replaced a hash made with one of them when it loaded the user.
    return constant_time_compare(expected, user.get_session_auth_hash())


def _cookie_binding(cookie: str) -> Binding:
    return Binding("session", session_hash(cookie)) if cookie else Binding("none")


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
