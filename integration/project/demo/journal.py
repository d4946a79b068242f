"""What the Python handlers did, for tests to read: one JSON object per executed handler in the Redis list `calls`."""

from __future__ import annotations

import json
import os
from functools import lru_cache
from typing import Any

import redis
from django.conf import settings

KEY = "calls"


@lru_cache
def connection() -> redis.Redis:
    return redis.Redis.from_url(settings.JOURNAL_URL)


def note(handler: str, window_info: Any, arguments: dict[str, Any]) -> None:
    """Records one execution. Arguments are written as Python's ascii() shows them, which tells the types apart."""
    entry = {
        "handler": handler,
        "by": "python",
        "pid": os.getpid(),
        "username": getattr(window_info, "username", None),
        "window_key": getattr(window_info, "window_key", None),
        "arguments": {name: ascii(value) for name, value in arguments.items()},
    }
    connection().rpush(KEY, json.dumps(entry))
