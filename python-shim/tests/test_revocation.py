from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from importlib import import_module
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import User
from django.test import Client, override_settings

from dfws import background, identity, revocation
from tests.conftest import Server, wait_until

pytestmark = pytest.mark.django_db(transaction=True)
SIGNED_COOKIES = "django.contrib.sessions.backends.signed_cookies"
Heard = Callable[[], "list[dict[str, Any]]"]


@pytest.fixture
def heard(redis: Any) -> Iterator[Heard]:
    """What a gateway heard so far."""
    messages: list[dict[str, Any]] = []
    with redis.pubsub(ignore_subscribe_messages=True) as subscription:
        subscription.subscribe("dfws:revoked")
        subscription.get_message(timeout=5)

        def read() -> list[dict[str, Any]]:
            while (message := subscription.get_message(timeout=0.2)) is not None:
                messages.append(json.loads(message["data"]))
            return messages

        yield read


def keys(redis: Any) -> list[str]:
    return sorted(redis.scan_iter("dfws:ticket*"))


def logged_in(user: Any) -> tuple[Client, str]:
    """A browser with one page open, and the key of its ticket."""
    client = Client()
    client.force_login(user)
    client.get("/page/")
    return client, "dfws:ticket:" + hashlib.sha256(client.cookies["dfwskey"].value.encode()).hexdigest()


def session_of(client: Client) -> str:
    return identity.session_hash(client.cookies["sessionid"].value)


def test_logout(redis: Any, alice: Any, heard: Heard) -> None:
    client, _ = logged_in(alice)
    other, other_ticket = logged_in(alice)
    session = session_of(client)

    client.get("/plain/")
    client.logout()
    client, ticket = logged_in(alice)
    session = session_of(client)
    client.get("/page/?do=logout")

    assert heard()[-1] == {"schema": 1, "session": session}
    assert not redis.exists(ticket, "dfws:tickets:session:" + session)
    assert redis.exists(other_ticket)
    assert session_of(other) != session


def test_logout_spares_a_ticket_that_was_rewritten(redis: Any, alice: Any, heard: Heard) -> None:
    client, ticket = logged_in(alice)
    text = redis.get(ticket)
    assert isinstance(text, str)
    redis.set(ticket, json.dumps({**json.loads(text), "session": "of somebody else"}))
    client.get("/plain/")
    client.get("/page/?do=logout")
    assert redis.exists(ticket)
    assert len(heard()) == 1


def test_logout_of_nobody(heard: Heard) -> None:
    Client().get("/page/?do=logout")
    assert heard() == []


def test_logout_with_signed_cookies(redis: Any, alice: Any, heard: Heard) -> None:
    with override_settings(SESSION_ENGINE=SIGNED_COOKIES):
        client = Client()
        client.get("/page/?do=login")
        [session] = [key.rpartition(":")[2] for key in redis.scan_iter("dfws:tickets:session:*")]
        client.get("/page/?do=logout")
    assert heard() == [{"schema": 1, "session": session}]
    assert not redis.exists("dfws:tickets:session:" + session)
    del alice


@pytest.mark.parametrize(("field", "value"), [("is_active", False), ("is_staff", True), ("is_superuser", True), ("password", "!")])
def test_changed_user(redis: Any, alice: Any, heard: Heard, field: str, value: Any) -> None:
    _, first = logged_in(alice)
    _, second = logged_in(alice)
    setattr(alice, field, value)
    alice.save()
    assert heard() == [{"schema": 1, "user": f"auth.user.{alice.pk}", "stamp": identity.user_stamp(alice)}]
    assert not redis.exists(first, second, f"dfws:tickets:user:auth.user.{alice.pk}")


def test_unchanged_user(redis: Any, alice: Any, heard: Heard) -> None:
    _, ticket = logged_in(alice)
    alice.first_name = "Alice"
    alice.save()
    alice.save(update_fields=["last_login"])
    assert heard() == []
    assert redis.exists(ticket)


def test_other_fields_alone_ask_nothing_of_redis(redis: Any, alice: Any, heard: Heard) -> None:
    alice.is_active = False
    alice.save(update_fields=["last_login"])
    assert heard() == []
    alice.save(update_fields=["is_active"])
    assert len(heard()) == 1


def test_user_without_tickets_may_still_have_windows(alice: Any, heard: Heard) -> None:
    alice.is_active = False
    alice.save()
    assert len(heard()) == 1


def test_corrupt_ticket_goes_too(redis: Any, alice: Any, heard: Heard) -> None:
    _, ticket = logged_in(alice)
    redis.set(ticket, "not json")
    alice.save()
    assert not redis.exists(ticket)
    assert len(heard()) == 1


def test_expired_and_foreign_tickets_leave_the_index(redis: Any, alice: Any) -> None:
    _, ticket = logged_in(alice)
    index = f"dfws:tickets:user:auth.user.{alice.pk}"
    redis.set("dfws:ticket:foreign", '{"user": "auth.user.999", "stamp": "x"}')
    redis.sadd(index, "dfws:ticket:expired", "dfws:ticket:foreign")
    alice.save()
    assert redis.smembers(index) == {ticket}
    assert redis.exists("dfws:ticket:foreign")


def test_deleted_user(redis: Any, alice: Any, heard: Heard) -> None:
    _, ticket = logged_in(alice)
    name = f"auth.user.{alice.pk}"
    alice.delete()
    assert heard() == [{"schema": 1, "user": name, "stamp": identity.deleted_stamp()}]
    assert not redis.exists(ticket)


def test_new_password_keeps_this_browser(redis: Any, alice: Any, heard: Heard) -> None:
    client, old = logged_in(alice)
    _, elsewhere = logged_in(alice)
    before = session_of(client)
    client.get("/page/?do=new-password")
    alice.refresh_from_db()
    # The session has another key now: who still shows the former one is nobody.
    stamp, renamed = heard()
    assert (stamp["stamp"], renamed["session"]) == (identity.user_stamp(alice), before)
    assert not redis.exists(old, elsewhere)
    new = json.loads(redis.get("dfws:ticket:" + hashlib.sha256(client.cookies["dfwskey"].value.encode()).hexdigest()))
    assert (new["stamp"], new["session"]) == (identity.user_stamp(alice), session_of(client))
    assert client.get("/page/").wsgi_request.user == alice


def test_nothing_before_the_commit(redis: Any, alice: Any, heard: Heard) -> None:
    from django.db import transaction

    with transaction.atomic():
        alice.is_active = False
        alice.save()
        assert heard() == []
    assert len(heard()) == 1

    with pytest.raises(ZeroDivisionError), transaction.atomic():
        alice.is_active = True
        alice.save()
        raise ZeroDivisionError
    assert len(heard()) == 1


def test_waits_for_redis(redis: Any, redis_server: Server, alice: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "FIRST_PAUSE", 0.05)
    redis_server.stop()
    try:
        alice.is_active = False
        alice.save()
        assert background.pending() == 1
    finally:
        redis_server.start()
    # A ticket that was written meanwhile, and that Redis still has.
    redis.set("dfws:ticket:old", json.dumps({"user": f"auth.user.{alice.pk}", "stamp": "old"}))
    redis.sadd(f"dfws:tickets:user:auth.user.{alice.pk}", "dfws:ticket:old")
    wait_until(lambda: background.pending() == 0)


@pytest.mark.parametrize("enabled", [None, False])
def test_inactive(alice: Any, heard: Heard, enabled: bool | None) -> None:
    with override_settings(DFWS_ENABLED=enabled):
        client = Client()
        client.get("/page/?do=login")
        alice.is_active = False
        alice.save()
        client.get("/page/?do=logout")
        get_user_model().objects.all().delete()
    assert heard() == []


class Customer(User):
    class Meta:
        proxy = True
        app_label = "auth"


def test_only_users_and_sessions_are_watched() -> None:
    from django.contrib.contenttypes.models import ContentType
    from django.contrib.sessions.models import Session
    from django.db.models.signals import post_delete, post_save

    for signal in (post_save, post_delete):
        assert signal.has_listeners(User)
        assert not signal.has_listeners(ContentType)
    assert post_delete.has_listeners(Session) and not post_save.has_listeners(Session)


def test_sessions_that_end_elsewhere(redis: Any, alice: Any, heard: Heard) -> None:
    """By a flush, by clearsessions and by a query, in whichever process."""
    from django.contrib.sessions.backends.db import SessionStore
    from django.contrib.sessions.models import Session
    from django.core.management import call_command
    from django.utils import timezone

    browsers = [logged_in(alice) for _ in range(3)]
    names = [session_of(client) for client, _ in browsers]
    rows = [Session.objects.filter(session_key=client.cookies["sessionid"].value) for client, _ in browsers]

    SessionStore(rows[0].get().session_key).flush()
    rows[1].update(expire_date=timezone.now() - timedelta(seconds=1))
    call_command("clearsessions")
    rows[2].delete()

    assert [message["session"] for message in heard()] == names
    assert not [key for key in keys(redis) if ":session:" in key]


@pytest.mark.parametrize("engine", ["cache", "file"])
def test_sessions_without_rows(engine: str, alice: Any, heard: Heard, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = f"django.contrib.sessions.backends.{engine}"
    store = import_module(path).SessionStore
    for name in ("delete", "adelete"):
        if hasattr(store, name):
            monkeypatch.setattr(store, name, getattr(store, name))
    monkeypatch.setattr(store, revocation._WATCHED, True, raising=False)
    monkeypatch.delattr(store, revocation._WATCHED)
    with override_settings(SESSION_ENGINE=path, SESSION_FILE_PATH=str(tmp_path)):
        revocation._watch_sessions(store)
        client = Client()
        client.get("/page/?do=visit")
        client.force_login(alice)  # renames the visitor's session
        assert heard() == []
        client.get("/page/")
        first = session_of(client)
        store(client.cookies["sessionid"].value).flush()
        client.force_login(alice)
        client.get("/page/")
        second = session_of(client)
        client.get("/page/?do=logout")
        assert [message["session"] for message in heard()] == [first, second]


def test_every_way_to_change_a_password(alice: Any, heard: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    """The admin's form, the visitor's own, the command."""
    from django.contrib.auth.forms import AdminPasswordChangeForm, SetPasswordForm
    from django.core.management import call_command

    new = {"password1": "looking-glass-1", "password2": "looking-glass-1", "new_password1": "tea-party-1", "new_password2": "tea-party-1"}
    for form in (AdminPasswordChangeForm(alice, new), SetPasswordForm(alice, new)):
        assert form.is_valid(), form.errors
        form.save()
    monkeypatch.setattr("django.contrib.auth.management.commands.changepassword.Command._get_pass", lambda *_: "white-rabbit-1")
    call_command("changepassword", "alice", verbosity=0)
    stamps = [message["stamp"] for message in heard()]
    assert len(set(stamps)) == 3 and stamps[-1] == identity.user_stamp(User.objects.get(pk=alice.pk))


def test_site_without_sessions() -> None:
    """A Celery site may have no sessions at all, with Django's default engine set: nothing is watched, and nothing fails."""
    code = (
        "import django\n"
        "from django.conf import settings\n"
        "settings.configure(INSTALLED_APPS=['django.contrib.contenttypes', 'django.contrib.auth', 'dfws'], SECRET_KEY='x',\n"
        "    DATABASES={'default': {'ENGINE': 'django.db.backends.sqlite3', 'NAME': ':memory:'}})\n"
        "django.setup()\n"
        "from dfws import revocation\n"
        "revocation.connect()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
