"""Answers to the gateway's question who sits behind a handshake: the site's own code decides, as it does in df_websockets' consumer.

A question is a POST request to any path that passes through WebsocketMiddleware; it needs no line in the URL configuration. It is
signed, and so is the answer, with a key that derives from SECRET_KEY. What is not signed with it is answered by 403, and what has no
such header is a request like any other.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import re
import time
from dataclasses import dataclass
from typing import Any, Final

from django.conf import settings
from django.contrib.auth import get_user_model
from django.http import HttpRequest, HttpResponse
from django.utils.encoding import force_bytes
from kombu.utils import json as kombu_json

from dfws import _df, conf, identity, store, tickets

logger = logging.getLogger("dfws")

SCHEMA: Final = 1
HEADER: Final = "X-DFWS-Identify"
SIGNATURE: Final = "X-DFWS-Signature"
PURPOSE: Final = b"dfws.callback"
QUESTION: Final = "dfws.callback.question"
ANSWER: Final = "dfws.callback.answer"
# Seconds that the clocks of the two programs may differ, and that a question may be under way.
CLOCKS: Final = 60
MOST_BYTES: Final = 1 << 20
_PROOF: Final = re.compile(r"v1 ([0-9]{1,12}) ([0-9a-f]{32}) ([0-9a-f]{64})")


class _BadQuestion(Exception):
    """What is wrong with a question; the text is for its sender."""


@dataclass(frozen=True)
class _Question:
    body: bytes
    nonce: str
    key: bytes


def signing_keys() -> list[bytes]:
    """Return the keys of questions and answers: of SECRET_KEY, then of SECRET_KEY_FALLBACKS."""
    secrets = [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
    return [hmac.new(force_bytes(secret), PURPOSE, hashlib.sha256).digest() for secret in secrets]


def answer(request: HttpRequest) -> HttpResponse | None:
    """Answer a question; None for every other request."""
    proof = request.headers.get(HEADER)
    if proof is None or not conf.enabled():
        return None
    try:
        question = _verified(request, proof)
    except _BadQuestion as error:
        store.log_rarely(f"a question about a window is refused: {error}", error)
        return HttpResponse(str(error), status=403, content_type="text/plain; charset=utf-8")
    status = 200
    try:
        text = _identify(_scope(question.body))
    except Exception as error:
        # As daphne does, which then refuses the handshake: it is the site's own code that failed, and the type tells nothing secret.
        logger.exception("a window cannot be identified")
        status, text = 500, type(error).__name__
    body = text.encode()
    response = HttpResponse(body, status=status, content_type="application/json" if status == 200 else "text/plain")
    response[SIGNATURE] = _sign(question.key, ANSWER, question.nonce, body)
    response["Cache-Control"] = "no-store"
    return response


def _verified(request: HttpRequest, proof: str) -> _Question:
    match = _PROOF.fullmatch(proof)
    if request.method != "POST" or match is None:
        raise _BadQuestion("no question of this version of dfws")
    at, nonce, signature = match.groups()
    if int(request.META.get("CONTENT_LENGTH") or 0) > MOST_BYTES:
        raise _BadQuestion("too long")
    body = request.read(MOST_BYTES + 1)
    if len(body) > MOST_BYTES:
        raise _BadQuestion("too long")
    # The signature first: only who has the key learns anything about our clock.
    for key in signing_keys():
        if hmac.compare_digest(_sign(key, f"{QUESTION}\n{at}", nonce, body), signature):
            break
    else:
        raise _BadQuestion("wrong signature: do the gateway's settings come from this site, and from after its last change of SECRET_KEY?")
    if abs(time.time() - int(at)) > CLOCKS:
        raise _BadQuestion(f"the clocks differ by more than {CLOCKS} seconds")
    return _Question(body, nonce, key)


def _sign(key: bytes, purpose: str, nonce: str, body: bytes) -> str:
    return hmac.new(key, f"{purpose}\n{nonce}\n".encode() + body, hashlib.sha256).hexdigest()


def _scope(body: bytes) -> dict[str, Any]:
    """Return the handshake as an ASGI server describes it."""
    values = json.loads(body)
    if not isinstance(values, dict) or values.get("schema") != SCHEMA:
        raise ValueError("a question of another version of dfws")
    return {
        "type": "websocket",
        "path": values["path"],
        "query_string": values["query"].encode("latin-1"),
        "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in values["headers"]],
        "client": values["client"],
        "server": values["server"],
    }


def _identify(scope: dict[str, Any]) -> str:
    """Compute what df_websockets' consumer computes."""
    request, response = _df.run_handshake(scope)
    topics = _df.window_topics(request)
    window_info = _df.window_info(request)
    binding = identity.binding_after(request, response)
    # A lazy object, which isinstance looks through.
    found = getattr(request, "user", None)
    user = found if isinstance(found, get_user_model()) else None
    values = {
        "schema": SCHEMA,
        "created": round(time.time(), 3),
        "binding": binding.kind,
        "session": binding.session,
        "user": None if user is None else identity.user_label(user.pk),
        "stamp": None if user is None else identity.user_stamp(user),
        "topics": topics,
        "window_info": tickets.window_info_values(window_info),
        "cookies": [morsel.OutputString() for morsel in response.cookies.values()],
    }
    text: str = kombu_json.dumps(values)
    return text
