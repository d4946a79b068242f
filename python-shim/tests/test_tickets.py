from __future__ import annotations

import hashlib
import json
import uuid
from datetime import date
from typing import Any

import pytest
from df_websockets.consumers import get_websocket_topics
from df_websockets.window_info import WindowInfo
from df_websockets.ws_middleware import WindowKeyMiddleware
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.core import signing
from django.test import AsyncClient, Client, RequestFactory, override_settings
from kombu.utils.json import loads

from dfws import _df, store, tickets
from tests.conftest import Server, get, handler, publish_go

SIGNED_COOKIES = "django.contrib.sessions.backends.signed_cookies"


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def stamp(user: Any) -> str:
    flags = "|".join("1" if flag else "0" for flag in (user.is_active, user.is_staff, user.is_superuser))
    return sha256(f"dfws.stamp:{user.password}|{flags}")


def ticket_of(redis: Any, client: Any) -> Any:
    """The ticket that a handshake with the client's cookies finds."""
    return loads(redis.get("dfws:ticket:" + sha256(client.cookies["dfwskey"].value)))


def assert_bound_to_session(ticket: Any, client: Any) -> None:
    assert ticket["binding"] == "session"
    assert ticket["session"] == sha256("dfws.session:" + client.cookies["sessionid"].value)


@pytest.fixture
def client() -> Client:
    return Client(headers={"user-agent": "test"})


def test_visitor(redis: Any, client: Client) -> None:
    client.cookies["csrftoken"] = "token"
    client.get("/page/?topic=news")

    ticket = ticket_of(redis, client)
    window_key = client.cookies["dfwskey"].value
    window, broadcast = sha256(f"-window.{window_key}"), sha256("-broadcast")
    news = sha256("-str." + hashlib.sha224(b"news").hexdigest())
    assert list(ticket) == ["schema", "created", "binding", "session", "user", "stamp", "groups", "public_groups", "window_info"]
    assert (ticket["schema"], ticket["binding"], ticket["session"], ticket["user"], ticket["stamp"]) == (1, "none", None, None, None)
    assert ticket["groups"] == sorted([window, broadcast, news])
    assert ticket["public_groups"] == sorted([window, broadcast])
    language = ticket["window_info"].pop("language_code")
    assert ticket["window_info"] == {
        "window_key": window_key,
        "user_pk": None,
        "username": None,
        "is_superuser": False,
        "is_staff": False,
        "is_active": False,
        "csrf_cookie": "token",
        "perms": None,
        "user_agent": "test",
        "user_set": False,
    }
    assert language in ("en", "en-us")  # an empty session counts as none since Django 6.1
    assert redis.ttl("dfws:ticket:" + sha256(window_key)) in range(35_990, 36_001)
    assert not list(redis.scan_iter("dfws:tickets:*"))
    assert window_key not in json.dumps(list(redis.scan_iter("dfws:*")))


@pytest.mark.django_db(transaction=True)
def test_a_ticket_ends_with_its_session(redis: Any, alice: Any) -> None:
    client = Client()
    client.force_login(alice)
    session = client.session
    session.set_expiry(60)
    session.save()
    client.get("/page/")
    assert redis.ttl("dfws:ticket:" + sha256(client.cookies["dfwskey"].value)) in range(50, 61)


def test_groups_are_those_of_the_consumer(redis: Any, client: Client) -> None:
    client.get("/page/?topic=a&topic=b")
    request = RequestFactory().get("/")
    request.window_key = client.cookies["dfwskey"].value  # type: ignore[attr-defined]
    assert ticket_of(redis, client)["groups"] == sorted(get_websocket_topics(request))


@pytest.mark.parametrize("settings", [{}, {"SESSION_ENGINE": "django.contrib.sessions.backends.cache"}])
@pytest.mark.usefixtures("db")
def test_visitor_with_a_new_session(redis: Any, client: Client, settings: dict[str, Any]) -> None:
    with override_settings(**settings):
        client.get("/page/?do=visit")
        ticket = ticket_of(redis, client)
        assert_bound_to_session(ticket, client)
        assert (ticket["user"], ticket["window_info"]["user_pk"]) == (None, None)
        # The session that got its key early is the one that Django saved.
        assert client.session["cart"] == [1]
    assert redis.smembers("dfws:tickets:session:" + ticket["session"]) == {"dfws:ticket:" + sha256(client.cookies["dfwskey"].value)}


def test_user(redis: Any, client: Client, alice: Any) -> None:
    client.force_login(alice)
    client.get("/page/")

    ticket = ticket_of(redis, client)
    key = "dfws:ticket:" + sha256(client.cookies["dfwskey"].value)
    assert_bound_to_session(ticket, client)
    assert (ticket["user"], ticket["stamp"]) == (f"auth.user.{alice.pk}", stamp(alice))
    assert sha256(f"-auth.user.{alice.pk}") in ticket["groups"]
    assert sha256(f"-auth.user.{alice.pk}") not in ticket["public_groups"]
    info = ticket["window_info"]
    assert (info["user_pk"], info["username"], info["user_set"], info["is_active"], info["perms"]) == (alice.pk, "alice", True, True, None)
    for index in (f"dfws:tickets:user:auth.user.{alice.pk}", "dfws:tickets:session:" + ticket["session"]):
        assert redis.smembers(index) == {key}
        assert redis.ttl(index) > 35_000


@pytest.mark.usefixtures("alice")
def test_login_in_the_same_request(redis: Any, client: Client) -> None:
    client.get("/page/?do=visit")
    client.get("/page/?do=login")
    ticket = ticket_of(redis, client)
    assert_bound_to_session(ticket, client)
    assert ticket["window_info"]["username"] == "alice"


@pytest.mark.usefixtures("alice")
def test_logout_in_the_same_request(redis: Any, client: Client) -> None:
    client.get("/page/?do=login")
    client.get("/page/?do=logout")
    ticket = ticket_of(redis, client)
    assert (ticket["binding"], ticket["session"], ticket["user"]) == ("none", None, None)
    assert "sessionid" not in client.cookies or not client.cookies["sessionid"].value


@pytest.mark.usefixtures("db")
def test_dead_session_cookie_is_no_session(redis: Any, client: Client) -> None:
    client.cookies["sessionid"] = "0123456789abcdef0123456789abcdef"
    client.get("/page/")
    assert ticket_of(redis, client)["binding"] == "none"
    assert not client.cookies["sessionid"].value  # Django takes it back


@pytest.mark.usefixtures("db")
def test_error_page_does_not_save_the_session(redis: Any, client: Client) -> None:
    client.get("/page/?do=visit&status=500")
    assert ticket_of(redis, client)["binding"] == "none"
    assert "sessionid" not in client.cookies


@pytest.mark.usefixtures("alice")
def test_user_of_an_unsaved_session_is_nobody(redis: Any, client: Client) -> None:
    client.get("/page/?do=login&status=500")
    ticket = ticket_of(redis, client)
    # login() made a key that the browser never gets.
    assert "sessionid" not in client.cookies
    assert ticket["binding"] == "session" or ticket["user"] is None


def test_user_without_a_session_is_nobody(redis: Any, client: Client, alice: Any) -> None:
    """A user known from a header, say: nothing in the handshake proves it."""
    del alice
    with override_settings(MIDDLEWARE=["tests.test_tickets.HeaderAuthentication", "df_websockets.middleware.WebsocketMiddleware"]):
        client.get("/page/")
    ticket = ticket_of(redis, client)
    assert (ticket["binding"], ticket["user"], ticket["stamp"]) == ("none", None, None)
    assert ticket["window_info"]["user_pk"] is None
    assert ticket["window_info"]["username"] is None


def HeaderAuthentication(get_response: Any) -> Any:
    from django.contrib.auth import get_user_model

    def middleware(request: Any) -> Any:
        request.user = get_user_model().objects.get(username="alice")
        return get_response(request)

    return middleware


def test_cookie_without_session_middleware(redis: Any, client: Client) -> None:
    client.cookies["sessionid"] = "whatever"
    with override_settings(MIDDLEWARE=["df_websockets.middleware.WebsocketMiddleware"]):
        client.get("/page/")
    assert_bound_to_session(ticket_of(redis, client), client)


@pytest.mark.parametrize("order", ["inside", "outside"])
@pytest.mark.usefixtures("alice")
def test_position_of_the_middleware(redis: Any, client: Client, order: str) -> None:
    middleware = [
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ]
    middleware.insert(2 if order == "inside" else 0, "df_websockets.middleware.WebsocketMiddleware")
    with override_settings(MIDDLEWARE=middleware):
        client.get("/page/?do=login")
    ticket = ticket_of(redis, client)
    assert_bound_to_session(ticket, client)
    assert ticket["window_info"]["username"] == "alice"


@pytest.mark.django_db(transaction=True)
def test_async_view(redis: Any, alice: Any) -> None:
    client = AsyncClient()
    get("/async-page/?do=login&topic=news", client)
    ticket = ticket_of(redis, client)
    assert_bound_to_session(ticket, client)
    assert (ticket["user"], ticket["window_info"]["username"]) == (f"auth.user.{alice.pk}", "alice")
    assert len(ticket["groups"]) == 4


def test_signed_cookies(redis: Any, client: Client, alice: Any) -> None:
    with override_settings(SESSION_ENGINE=SIGNED_COOKIES):
        client.get("/page/?do=visit")
        visitor = ticket_of(redis, client)
        client.get("/page/?do=login")
        user = ticket_of(redis, client)
        session = signing.loads(client.cookies["sessionid"].value, salt=SIGNED_COOKIES)
    assert (visitor["binding"], visitor["session"]) == ("auth", sha256("dfws.auth::"))
    assert (user["binding"], user["user"]) == ("auth", f"auth.user.{alice.pk}")
    assert user["session"] == sha256(f"dfws.auth:{session['_auth_user_id']}:{session['_auth_user_hash']}")


def test_signed_cookies_without_session(redis: Any, client: Client) -> None:
    with override_settings(SESSION_ENGINE=SIGNED_COOKIES):
        client.get("/page/")
    assert ticket_of(redis, client)["binding"] == "none"


@pytest.mark.django_db(transaction=True)
def test_new_password_in_the_same_request(redis: Any, client: Client, alice: Any) -> None:
    client.force_login(alice)
    client.get("/page/?do=new-password")
    alice.refresh_from_db()
    ticket = ticket_of(redis, client)
    assert_bound_to_session(ticket, client)
    assert (ticket["stamp"], ticket["window_info"]["username"]) == (stamp(alice), "alice")
    client.get("/page/")
    assert ticket_of(redis, client)["window_info"]["username"] == "alice"


@pytest.mark.django_db(transaction=True)
def test_password_that_ends_the_session(redis: Any, client: Client, alice: Any) -> None:
    client.force_login(alice)
    client.get("/page/?do=lost-password")
    ticket = ticket_of(redis, client)
    assert (ticket["user"], ticket["stamp"], ticket["window_info"]["user_pk"]) == (None, None, None)


def late(request: Any, response: Any, monkeypatch: pytest.MonkeyPatch, between: Any) -> None:
    """Write a ticket while something happens between reading the user and writing."""
    make = tickets.make

    def slow(*args: Any) -> Any:
        ticket = make(*args)
        if not done:
            done.append(True)
            between()
        return ticket

    done: list[bool] = []
    monkeypatch.setattr(tickets, "make", slow)
    tickets.write(request, response)


@pytest.mark.django_db(transaction=True)
def test_user_changed_while_the_page_was_made(redis: Any, client: Client, alice: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    client.force_login(alice)
    response = client.get("/page/")
    alice.is_staff = True
    late(response.wsgi_request, response, monkeypatch, alice.save)
    ticket = ticket_of(redis, client)
    assert (ticket["stamp"], ticket["window_info"]["is_staff"]) == (stamp(alice), True)


@pytest.mark.django_db(transaction=True)
def test_user_changed_behind_our_back_meanwhile(redis: Any, client: Client, alice: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mark of the last change is out of date, because a query set wrote the row: the row decides."""
    alice.is_staff = True
    alice.save()
    get_user_model().objects.update(is_staff=False)
    client.force_login(alice)
    client.get("/page/")
    ticket = ticket_of(redis, client)
    assert (ticket["user"], ticket["window_info"]["is_staff"]) == (f"auth.user.{alice.pk}", False)


@pytest.mark.django_db(transaction=True)
def test_session_ended_while_the_page_was_made(redis: Any, client: Client, alice: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    client.force_login(alice)
    response = client.get("/page/")
    other_tab = Client()
    other_tab.cookies["sessionid"] = client.cookies["sessionid"].value
    late(response.wsgi_request, response, monkeypatch, lambda: other_tab.get("/page/?do=logout"))
    ticket = ticket_of(redis, client)
    assert_bound_to_session(ticket, client)
    assert (ticket["user"], ticket["stamp"], ticket["window_info"]["user_pk"]) == (None, None, None)


# --- permissions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "asked", "expected"),
    [
        (None, False, None),
        (None, True, ["auth.add_user", "auth.change_user"]),
        (True, False, ["auth.add_user", "auth.change_user"]),
        (False, True, None),
    ],
)
def test_permissions(redis: Any, client: Client, alice: Any, setting: bool | None, asked: bool, expected: list[str] | None) -> None:
    alice.user_permissions.set(Permission.objects.filter(codename__in=["add_user", "change_user"]))
    client.force_login(alice)
    publish_go(redis, {"demo.hello": [handler("go", "has_perm:auth.change_user" if asked else "everyone")]})
    with override_settings(DFWS_TICKET_PERMISSIONS=setting):
        client.get("/page/")
    assert ticket_of(redis, client)["window_info"]["perms"] == expected


def test_permissions_of_a_visitor(redis: Any, client: Client) -> None:
    with override_settings(DFWS_TICKET_PERMISSIONS=True):
        client.get("/page/")
    assert ticket_of(redis, client)["window_info"]["perms"] == []


# --- what the site adds, and what goes wrong -------------------------------------------------------------------------


class Extra(WindowKeyMiddleware):  # type: ignore[misc]
    values: dict[str, Any] = {"born": date(1865, 7, 4), "id": uuid.UUID(int=7), "name": "Zoë \ud800"}

    def to_dict(self, window_info: Any) -> dict[str, Any]:
        return dict(self.values)


def test_values_keep_their_type(redis: Any, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("df_websockets.window_info.middlewares", [Extra()])
    client.get("/page/")
    text = redis.get("dfws:ticket:" + sha256(client.cookies["dfwskey"].value))
    assert isinstance(text, str)
    assert text.isascii()
    assert loads(text)["window_info"] == Extra.values


def test_page_is_served_when_the_ticket_cannot_be_made(
    redis: Any, client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("df_websockets.window_info.middlewares", [Extra()])
    monkeypatch.setattr(Extra, "values", {"strange": object()})
    assert client.get("/page/").content == b"page"
    assert "without a ticket" in caplog.text
    assert not redis.exists("dfws:ticket:" + sha256(client.cookies["dfwskey"].value))


def test_too_many_topics(redis: Any, client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(tickets, "MOST_GROUPS", 3)
    assert client.get("/page/?topic=a&topic=b").status_code == 200
    assert "4 topics" in caplog.text
    assert not list(redis.scan_iter("dfws:ticket:*"))


def test_page_is_served_while_redis_is_away(client: Client, redis: Any, redis_server: Server, caplog: pytest.LogCaptureFixture) -> None:
    with override_settings(CACHES={"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}):
        redis_server.stop()
        try:
            for _ in range(3):
                assert client.get("/page/").content == b"page"
        finally:
            redis_server.start()
        tickets_lost = [record for record in caplog.records if "without a ticket" in record.getMessage()]
        assert len(tickets_lost) == 1
        client.get("/page/")
    assert ticket_of(redis, client)["binding"] == "none"


def test_redis_that_swallows_packets_delays_one_page_only(client: Client, redis: Any) -> None:
    """The time-out is paid once; then pages go without a ticket for a while."""
    redis.client_pause(1500)
    with override_settings(DFWS_REDIS_TIMEOUT=0.05, CACHES={"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}):
        client.get("/page/")
        assert store.attempt("nothing", lambda connection: connection.ping()) is None
        with pytest.raises(store.Unavailable), store.in_request():
            pass
    redis.client_unpause()


def test_no_topics_no_ticket(redis: Any, client: Client) -> None:
    client.get("/plain/")
    assert not list(redis.scan_iter("dfws:ticket*"))


@pytest.mark.parametrize("enabled", [None, False])
def test_inactive(redis: Any, client: Client, enabled: bool | None) -> None:
    with override_settings(DFWS_ENABLED=enabled):
        assert client.get("/page/").cookies["dfwskey"].value
    assert not list(redis.scan_iter("dfws:*"))


def test_ajax_rewrites_the_ticket_of_its_window(redis: Any, client: Client) -> None:
    client.get("/page/")
    key = client.cookies["dfwskey"].value
    client.get("/page/?topic=news", headers={"x-requested-with": "XMLHttpRequest"})
    assert client.cookies["dfwskey"].value == key
    assert len(ticket_of(redis, client)["groups"]) == 3


def test_overlong_window_key_is_left_alone(redis: Any, client: Client) -> None:
    client.get("/page/", headers={"x-requested-with": "XMLHttpRequest", "dfwskey": "k" * 129})
    assert not list(redis.scan_iter("dfws:ticket:*"))


def test_topics_from_the_cache_when_another_thread_took_them(client: Client, redis: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from df_websockets import tasks

    monkeypatch.setattr(tasks.caches.recorded, "take", lambda key: None)
    client.get("/page/?topic=news")
    assert len(ticket_of(redis, client)["groups"]) == 3


def test_remembered_topics_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_df, "_REMEMBERED_WINDOWS", 2)
    recorded = _df._Recorded()
    for key in "abc":
        recorded.put(key, key)
    assert [recorded.take(key) for key in "abcc"] == [None, "b", "c", None]


def test_index_drops_tickets_that_expired(redis: Any, client: Client, alice: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tickets, "PRUNE_EVERY", 2)
    client.force_login(alice)
    index = f"dfws:tickets:user:auth.user.{alice.pk}"
    redis.sadd(index, "dfws:ticket:gone")
    client.get("/page/")
    assert redis.smembers(index) == {"dfws:ticket:" + sha256(client.cookies["dfwskey"].value)}


@pytest.mark.parametrize(("value", "expected"), [(60, 60), (0.5, 1), (None, 36_000), (0, 36_000), (True, 36_000), ("60", 36_000)])
def test_life(monkeypatch: pytest.MonkeyPatch, value: Any, expected: int) -> None:
    monkeypatch.setattr("df_websockets.ws_settings.WEBSOCKET_CACHE_EXPIRE", value)
    assert tickets.expire() == expected


def test_window_info_is_what_a_worker_reads(redis: Any, client: Client, alice: Any) -> None:
    client.force_login(alice)
    client.get("/page/")
    window_info = WindowInfo.from_dict(ticket_of(redis, client)["window_info"])
    assert (window_info.is_authenticated, window_info.username, window_info.user) == (True, "alice", alice)
