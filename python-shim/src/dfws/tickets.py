"""Tickets: who sits behind a window and which groups it may join, written while its page leaves, read by the gateway at connect.

df_websockets' consumer computes the same at each connect, with Django's whole middleware chain. See ``identity`` for what a ticket is
bound to, and ``revocation`` for how it ends before its time.
"""

from __future__ import annotations

import copy
import logging
import time
from dataclasses import asdict, dataclass
from typing import Any, Final

from django.contrib.auth import get_user_model
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from kombu.utils import json
from redis import Redis

from dfws import _df, conf, identity, routing, store

logger = logging.getLogger("dfws")

SCHEMA: Final = 1
ENDED: Final = "ended"  # store.SAVE_TICKET
# What the gateway accepts; beyond that it would take the ticket for a broken one.
MOST_GROUPS: Final = 10_000
MOST_BYTES: Final = 1 << 20
LONGEST_WINDOW_KEY: Final = 128
# An index is searched for tickets that expired each time it has grown by so many.
PRUNE_EVERY: Final = 256
# WEBSOCKET_CACHE_EXPIRE of df_websockets when the settings have no usable number.
DEFAULT_EXPIRE: Final = 36_000


@dataclass(frozen=True)
class Ticket:
    """One window. The fields, in this order, are the JSON that the gateway reads."""

    schema: int
    created: float
    binding: str
    session: str | None
    user: str | None
    stamp: str | None
    groups: list[str]
    public_groups: list[str]
    window_info: dict[str, Any]

    def encode(self) -> str:
        """Write the ticket as kombu's JSON, where dates, UUIDs and the like in the window info keep their type."""
        text: str = json.dumps(asdict(self))
        if len(text) > MOST_BYTES or len(self.groups) > MOST_GROUPS:
            raise ValueError(f"{len(self.groups)} topics, {len(text)} bytes are too much for a ticket")
        return text


def write(request: HttpRequest, response: HttpResponseBase) -> None:
    """Write the ticket of a page that bound topics. Whatever happens, the page is served: without a ticket, its window is anonymous."""
    key = _df.window_key(request)
    if not key or len(key) > LONGEST_WINDOW_KEY:
        return
    try:
        topics = _df.bound_topics(request)
        ticket = make(request, response, identity.verified_user(request), topics)
        text = ticket.encode()
        life = _life(request)
        refused = store.attempt("a page is served without a ticket", lambda redis: _save(redis, store.ticket_key(key), ticket, text, life))
        if refused:
            # Revoked while the page was made, by this very request perhaps: now the database knows who it is.
            user = None if refused == ENDED else identity.verified_user(request, reload=True)
            late = make(request, response, user, topics)
            text = late.encode()
            store.attempt(
                "a page is served without a ticket", lambda redis: _save(redis, store.ticket_key(key), late, text, life, force=True)
            )
    except Exception:
        # The site's own code runs here (WindowInfo middlewares, sessions, users): any error of it is possible, and none is worth a page.
        logger.exception("the page is served without a ticket for its window")


def make(request: HttpRequest, response: HttpResponseBase, user: AbstractBaseUser | None, topics: list[str]) -> Ticket:
    """Make the ticket of a page, as if its window connected right after it and the handshake showed this user."""
    binding = identity.binding_after(request, response)
    if binding.kind == "none" or not hasattr(request, "session"):
        # Nothing in a handshake could prove who it is: whoever knew the window key would be this user.
        user = None
    window_info = _df.window_info(_as_seen_at_connect(request, user))
    return Ticket(
        schema=SCHEMA,
        created=round(time.time(), 3),
        binding=binding.kind,
        session=binding.session,
        user=None if user is None else _label(user),
        stamp=None if user is None else _stamp(user),
        groups=_df.group_names(topics),
        public_groups=_df.group_names(_df.public_topics(window_info).intersection(topics)),
        window_info=window_info_values(window_info),
    )


def expire() -> int:
    """Return the life of a ticket in seconds: that of the topics in df_websockets' cache."""
    value = _df.cache_expire()
    valid = isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0
    return max(1, int(value)) if valid else DEFAULT_EXPIRE


def _life(request: HttpRequest) -> int:
    """Return the life of a ticket in seconds: it ends with the session, if that is the first to end."""
    session = getattr(request, "session", None)
    if session is None or session.is_empty():
        return expire()
    return max(1, min(expire(), int(session.get_expiry_age())))


def _as_seen_at_connect(request: HttpRequest, user: AbstractBaseUser | None) -> HttpRequest:
    """Return the request with the user whom a handshake would find; mostly the request itself."""
    current = getattr(request, "user", None)
    if current is user or (user is None and (current is None or not current.is_authenticated)):
        return request
    subject = copy.copy(request)
    subject.user = user or AnonymousUser()  # type: ignore[assignment]
    return subject


def _label(user: AbstractBaseUser) -> str | None:
    return identity.user_label(user.pk) if isinstance(user, get_user_model()) else None


def _stamp(user: AbstractBaseUser) -> str | None:
    return identity.user_stamp(user) if isinstance(user, get_user_model()) else None


def window_info_values(window_info: Any) -> dict[str, Any]:
    """Return a window info as the gateway keeps it: with the permissions where Go handlers ask for them."""
    values: dict[str, Any] = window_info.to_dict()
    wanted = conf.get().ticket_permissions
    if wanted is None:
        wanted = routing.snapshot().wants_permissions
    if wanted and "perms" in values:
        values["perms"] = sorted(window_info.perms)
    return values


def _save(redis: Redis, key: str, ticket: Ticket, text: str, life: int, *, force: bool = False) -> str | None:
    """Write a ticket; return why not, if its session or user was revoked meanwhile."""
    user, session = ticket.user or "", ticket.session or ""
    indexes = [store.user_index_key(user)] if user else []
    indexes += [store.session_index_key(session)] if session else []
    keys = [key, store.ended_key(session), store.stamp_key(user), *indexes]
    sizes = store.run_script(redis, store.SAVE_TICKET, keys, [text, str(life), ticket.stamp or "", "1" if force else "0"])
    if isinstance(sizes, str):
        return sizes
    for index, size in zip(indexes, sizes, strict=True):
        if size % PRUNE_EVERY == 0:
            store.run_script(redis, store.PRUNE_INDEX, [index], [])
    return None
