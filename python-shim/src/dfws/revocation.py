"""Revocations: the end of a session, a new password or a deactivation ends the user's tickets and tells the gateways to close the windows.

Only what goes through Django's signals is seen: ``QuerySet.update`` and SQL are not. Then an identity lasts as long as it does in
df_websockets: until its window is closed, and until its ticket expires.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from functools import partial, wraps
from importlib import import_module
from typing import Any, Final

from asgiref.sync import sync_to_async
from django.apps import apps
from django.conf import settings
from django.contrib.auth import SESSION_KEY, get_user_model
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.signals import user_logged_out
from django.contrib.sessions.backends import db, signed_cookies
from django.contrib.sessions.backends.base import SessionBase
from django.db import transaction
from django.db.models.signals import post_delete, post_save
from django.http import HttpRequest
from redis import Redis
from redis.exceptions import RedisError

from dfws import background, conf, identity, store

logger = logging.getLogger("dfws")

SCHEMA: Final = 1
# Seconds in which a page that was begun before a revocation may still write its ticket.
LATE_TICKETS: Final = 60
_WATCHED: Final = "_dfws_watches_deletes"


def connect() -> None:
    """Connect the receivers: to the user model and its children only, so that other models keep Django's short cuts."""
    user_logged_out.connect(_logged_out, dispatch_uid="dfws.logged_out")
    for model in apps.get_models():
        if issubclass(model, get_user_model()):
            post_save.connect(_user_saved, sender=model, dispatch_uid=f"dfws.saved.{model._meta.label_lower}")
            post_delete.connect(_user_deleted, sender=model, dispatch_uid=f"dfws.deleted.{model._meta.label_lower}")
    engine = import_module(settings.SESSION_ENGINE).SessionStore
    if not (issubclass(engine, db.SessionStore) and _lacks_table(engine)):
        _watch_sessions(engine)


def _lacks_table(engine: type[db.SessionStore]) -> bool:
    """Whether the sessions' table is that of an app which the site has not installed: it has no sessions, only the default engine."""
    own = engine.get_model_class.__func__ is db.SessionStore.get_model_class.__func__  # type: ignore[attr-defined]
    return own and not apps.is_installed("django.contrib.sessions")


def revoke_session(redis: Redis, session: str, returns: bool = False) -> None:
    """Drop the tickets of a session and tell the gateways.

    ``returns``: the same name may be that of the next session too, as with signed cookies; then tickets written late are accepted.
    """
    payload = json.dumps({"schema": SCHEMA, "session": session})
    keys = [store.session_index_key(session), store.ended_key(session)]
    life = 0 if returns else LATE_TICKETS
    store.run_script(redis, store.REVOKE_SESSION, keys, [session, store.revoked_channel(), payload, str(life)])


def revoke_user(redis: Redis, user: str, stamp: str) -> None:
    """Drop the tickets of a user that were made for another stamp and tell the gateways; nothing if there are only others."""
    payload = json.dumps({"schema": SCHEMA, "user": user, "stamp": stamp})
    keys = [store.user_index_key(user), store.stamp_key(user)]
    store.run_script(redis, store.REVOKE_USER, keys, [user, stamp, store.revoked_channel(), payload, str(LATE_TICKETS)])


def _logged_out(*, request: HttpRequest | None = None, **_: Any) -> None:
    # Sent before the session is flushed. Of those that do not live in their cookie, the end is seen when they are deleted.
    session = getattr(request, "session", None)
    if session is None or not conf.enabled() or not identity.is_signed_cookie(session):
        return
    name = identity.revocable_session(session)
    if name is not None:
        _revoke(f"revocation:{name}", partial(revoke_session, session=name, returns=True))


def _watch_sessions(engine: type[SessionBase]) -> None:
    """See sessions end in any process: by a flush, by ``clearsessions``, by whoever deletes their rows.

    Their model loses Django's short cut for deletes. A cache that drops a session, or lets it expire, tells nobody.
    """
    if issubclass(engine, db.SessionStore):
        post_delete.connect(_session_row_deleted, sender=engine.get_model_class(), dispatch_uid="dfws.session_deleted")
    elif not issubclass(engine, signed_cookies.SessionStore) and not hasattr(engine, _WATCHED):
        _wrap_delete(engine)


def _wrap_delete(engine: Any) -> None:
    delete, adelete = engine.delete, engine.adelete if hasattr(engine, "adelete") else None

    @wraps(delete)
    def watched(self: SessionBase, session_key: str | None = None) -> Any:
        name = _ending(self, session_key)
        result = delete(self, session_key)
        _session_ended(name)
        return result

    engine.delete = watched
    if adelete is not None:  # Django 5.1

        @wraps(adelete)
        async def awatched(self: SessionBase, session_key: str | None = None) -> Any:
            name = _ending(self, session_key)
            result = await adelete(self, session_key)
            await sync_to_async(_session_ended)(name)
            return result

        engine.adelete = awatched
    setattr(engine, _WATCHED, True)


def _ending(session: SessionBase, key: str | None) -> str | None:
    """Return the key of a session that is about to be deleted, if somebody may be logged in by it.

    A visitor's session is renamed at each login. After ``flush`` its content is not known any more.
    """
    content = getattr(session, "_session_cache", None)
    if content and SESSION_KEY not in content:
        return None
    return key or session.session_key


def _session_row_deleted(*, instance: Any, **_: Any) -> None:
    if SESSION_KEY in instance.get_decoded():
        _session_ended(instance.session_key)


def _session_ended(key: str | None) -> None:
    if key and conf.enabled():
        name = identity.session_hash(key)
        _revoke(f"revocation:{name}", partial(revoke_session, session=name))


def _user_saved(*, instance: AbstractBaseUser, using: str, update_fields: Iterable[str] | None = None, **_: Any) -> None:
    # Each login saves last_login alone.
    if not conf.enabled() or (update_fields is not None and not set(update_fields) & set(identity.STAMP_FIELDS)):
        return
    _revoke_user_after_commit(instance.pk, identity.user_stamp(instance), using)


def _user_deleted(*, instance: AbstractBaseUser, using: str, **_: Any) -> None:
    if conf.enabled():
        _revoke_user_after_commit(instance.pk, identity.deleted_stamp(), using)


def _revoke_user_after_commit(pk: object, stamp: str, using: str) -> None:
    # Before the commit other processes still render pages, and write tickets, for the old row.
    user = identity.user_label(pk)
    revoke = partial(revoke_user, user=user, stamp=stamp)
    transaction.on_commit(partial(_revoke, f"revocation:{user}", revoke), using=using)


def _revoke(name: str, revoke: Any) -> None:
    """Revoke at once or, while Redis is away, as soon as it is back: the visitor does not wait for that."""
    try:
        with store.in_request() as redis:
            revoke(redis)
    except (RedisError, OSError, ValueError, store.Unavailable) as error:
        store.log_rarely("a revocation waits for Redis", error)
        background.submit(name, lambda: revoke(store.client()))
