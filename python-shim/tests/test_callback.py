from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth import SESSION_KEY, get_user_model
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client, RequestFactory, override_settings
from kombu.utils.json import loads

from dfws import _df, callback, identity
from tests import settings

pytestmark = pytest.mark.django_db
NONCE = "0123456789abcdef" * 2
SIGNED_COOKIES = "django.contrib.sessions.backends.signed_cookies"


def key_of(secret: str) -> bytes:
    return hmac.new(secret.encode(), b"dfws.callback", hashlib.sha256).digest()


def signature(key: bytes, purpose: str, body: bytes, nonce: str = NONCE) -> str:
    return hmac.new(key, f"{purpose}\n{nonce}\n".encode() + body, hashlib.sha256).hexdigest()


def scope(client: Client | None = None, *headers: tuple[str, str]) -> dict[str, Any]:
    cookies = "" if client is None else "; ".join(f"{name}={morsel.value}" for name, morsel in client.cookies.items())
    return {
        "schema": 1,
        "path": "/ws/",
        "query": "a=b",
        "headers": [("host", "testserver"), ("cookie", cookies), ("user-agent", "caf\xe9"), *headers],
        "client": ["10.0.0.1", 5000],
        "server": ["127.0.0.1", 8000],
    }


def ask(
    question: Any,
    *,
    secret: str = settings.SECRET_KEY,
    at: float | None = None,
    purpose: str = "dfws.callback.question",
    change: bytes = b"",
    method: str = "post",
    path: str = "/ws/",
) -> Any:
    body = json.dumps(question).encode()
    moment = int(time.time() if at is None else at)
    proof = f"v1 {moment} {NONCE} {signature(key_of(secret), f'{purpose}{chr(10)}{moment}', body)}"
    client = Client(raise_request_exception=False)
    arguments: dict[str, Any] = {"data": body + change, "content_type": "application/json"}
    return getattr(client, method)(path, headers={"x-dfws-identify": proof}, **(arguments if method == "post" else {}))


def answered(question: Any, **options: Any) -> Any:
    response = ask(question, **options)
    assert response.status_code == 200, response.content
    secret = options.get("secret", settings.SECRET_KEY)
    assert response["X-DFWS-Signature"] == signature(key_of(secret), "dfws.callback.answer", response.content)
    return loads(response.content.decode())


@pytest.fixture(autouse=True)
def fresh_handler() -> Iterator[None]:
    """Middlewares are loaded once per process, with the settings of that moment."""
    _df.handshake_handler.cache_clear()
    yield
    _df.handshake_handler.cache_clear()


@pytest.fixture
def browser(alice: Any) -> Client:
    client = Client()
    client.force_login(alice)
    client.get("/page/?topic=news")
    return client


def test_user(browser: Client, alice: Any) -> None:
    answer = answered(scope(browser))
    window_key = browser.cookies["dfwskey"].value
    assert set(answer.pop("topics")) == {
        "-broadcast",
        f"-window.{window_key}",
        f"-auth.user.{alice.pk}",
        "-str." + hashlib.sha224(b"news").hexdigest(),
    }
    assert answer["window_info"].pop("language_code") in ("en", "en-us")
    assert answer.pop("created") == pytest.approx(time.time(), abs=10)
    assert answer == {
        "schema": 1,
        "binding": "session",
        "session": identity.session_hash(browser.cookies["sessionid"].value),
        "user": f"auth.user.{alice.pk}",
        "stamp": identity.user_stamp(alice),
        "window_info": {
            "window_key": window_key,
            "user_pk": alice.pk,
            "username": "alice",
            "is_superuser": False,
            "is_staff": False,
            "is_active": True,
            "csrf_cookie": "",
            "perms": None,
            "user_agent": "caf\xe9",
            "user_set": True,
        },
        "cookies": [],
    }


def test_visitor() -> None:
    answer = answered(scope())
    assert (answer["binding"], answer["session"], answer["user"], answer["stamp"]) == ("none", None, None, None)
    assert answer["topics"] == []
    assert (answer["window_info"]["user_pk"], answer["window_info"]["window_key"]) == (None, "")


def test_who_is_no_user_any_more(browser: Client, alice: Any) -> None:
    alice.is_active = False
    alice.save()
    assert answered(scope(browser))["user"] is None
    alice.is_active = True
    alice.save()
    assert answered(scope(browser))["user"] is not None
    alice.set_password("new")
    alice.save()
    assert answered(scope(browser))["user"] is None


def test_session_of_an_older_key(browser: Client, alice: Any) -> None:
    """Django gives such a session another key; without its cookie the browser would be logged out."""
    with override_settings(SECRET_KEY="another-key-0123456789-0123456789-0123456789", SECRET_KEY_FALLBACKS=[settings.SECRET_KEY]):
        answer = answered(scope(browser))  # signed with the older key, as by a gateway that still runs
        assert answer["user"] == f"auth.user.{alice.pk}"
        (cookie,) = answer["cookies"]
        new = cookie.split(";")[0].removeprefix("sessionid=")
        assert cookie.startswith("sessionid=") and new != browser.cookies["sessionid"].value and "HttpOnly" in cookie
        assert answer["session"] == identity.session_hash(new)
        browser.cookies["sessionid"] = new
        assert answered(scope(browser), secret="another-key-0123456789-0123456789-0123456789")["user"] is not None


def test_signed_cookies(alice: Any) -> None:
    with override_settings(SESSION_ENGINE=SIGNED_COOKIES):
        client = Client()
        client.force_login(alice)
        answer = answered(scope(client))
        assert (answer["binding"], answer["session"]) == ("auth", identity.auth_hash(client.session))
        assert client.session[SESSION_KEY] == str(alice.pk)


def test_forged() -> None:
    good = scope()
    for response, words in (
        (ask(good, secret="x" * 50), b"wrong signature"),
        (ask(good, change=b" "), b"wrong signature"),
        (ask(good, purpose="dfws.callback.answer"), b"wrong signature"),
        (ask(good, at=time.time() - 70), b"clocks"),
        (ask(good, at=time.time() + 70), b"clocks"),
        (ask(good, at=time.time() + 70, secret="x" * 50), b"wrong signature"),
        (ask(good, method="get"), b"no question"),
        (ask({**good, "query": "x" * (1 << 20)}), b"too long"),
        (Client().post("/ws/", headers={"x-dfws-identify": "v2 1 2 3"}), b"no question"),
    ):
        assert response.status_code == 403 and words in response.content
        assert "X-DFWS-Signature" not in response


def test_a_usual_request_is_not_answered() -> None:
    assert Client().post("/ws/").status_code == 404
    assert Client().get("/plain/").content == b"no topics"
    with override_settings(DFWS_ENABLED=False):
        assert ask(scope()).status_code == 404


def test_errors_of_the_site_are_signed(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def fail(request: Any) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(_df, "window_info", fail)
    response = ask(scope())
    assert (response.status_code, response.content) == (500, b"ZeroDivisionError")
    assert response["X-DFWS-Signature"] == signature(key_of(settings.SECRET_KEY), "dfws.callback.answer", b"ZeroDivisionError")
    assert "a window cannot be identified" in caplog.text
    questions: tuple[Any, ...] = ([], {}, {**scope(), "schema": 2}, {**scope(), "headers": [["x", "\u20ac"]]})
    for bad in questions:
        assert ask(bad).status_code == 500


class Tenant:
    """A middleware of the site."""

    def __init__(self, get_response: Any) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        request.session["tenant"] = request.META["REMOTE_ADDR"]
        response: HttpResponse = self.get_response(request)
        return response


def test_middlewares_of_the_site_run(browser: Client) -> None:
    with override_settings(MIDDLEWARE=[*settings.MIDDLEWARE, "tests.test_callback.Tenant"]):
        assert answered(scope(browser))["user"] is not None
        assert browser.session["tenant"] == "10.0.0.1"


def test_async_site(browser: Client) -> None:
    body = json.dumps(scope(browser)).encode()
    moment = int(time.time())
    proof = f"v1 {moment} {NONCE} {signature(key_of(settings.SECRET_KEY), f'dfws.callback.question{chr(10)}{moment}', body)}"

    async def question() -> Any:
        return await AsyncClient().post("/ws/", data=body, content_type="application/json", headers={"x-dfws-identify": proof})

    response = async_to_sync(question)()
    assert response.status_code == 200
    assert loads(response.content.decode())["user"] is not None


def test_same_as_the_consumer(browser: Client) -> None:
    """What df_websockets' own class computes for the same handshake."""
    from df_websockets.consumers import get_websocket_topics
    from df_websockets.window_info import WindowInfo

    request = RequestFactory().get("/ws/", headers={"user-agent": "caf\xe9"})
    request.COOKIES = {name: morsel.value for name, morsel in browser.cookies.items()}
    request.session = browser.session
    request.user = get_user_model().objects.get(username="alice")
    request.window_key = browser.cookies["dfwskey"].value  # type: ignore[attr-defined]
    answer = answered(scope(browser))
    assert answer["window_info"] == WindowInfo.from_request(request).to_dict()
    assert sorted(_df.group_names(answer["topics"])) == sorted(get_websocket_topics(request))


def test_keys() -> None:
    with override_settings(SECRET_KEY=b"bytes" * 10, SECRET_KEY_FALLBACKS=["one"]):
        assert callback.signing_keys() == [key_of("bytes" * 10), key_of("one")]
