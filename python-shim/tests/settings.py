"""A small site with df_websockets; its Redis is started by conftest.py."""

from __future__ import annotations

import importlib.util
import os
import socket
import tempfile
from typing import Any


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


# Programs that tests start find the same server.
REDIS_PORT = int(os.environ.setdefault("DFWS_TEST_REDIS_PORT", str(free_port())))
REDIS_URL = f"redis://127.0.0.1:{REDIS_PORT}"

SECRET_KEY = "a-key-for-tests-0123456789-0123456789-0123456789"
ALLOWED_HOSTS = ["testserver"]
ROOT_URLCONF = "tests.urls"
USE_TZ = True
TIME_ZONE = "UTC"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("DFWS_TEST_DATABASE", os.path.join(tempfile.gettempdir(), "dfws-shim.sqlite3")),
        "TEST": {"NAME": None},
    }
}
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "channels",
    "df_websockets",
    "dfws",
    "tests.shop",
]
if importlib.util.find_spec("django_celery_results") is not None:
    INSTALLED_APPS.append("django_celery_results")
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "df_websockets.middleware.WebsocketMiddleware",
]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
CACHES = {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": f"{REDIS_URL}/1"}}
CHANNEL_LAYERS: dict[str, dict[str, Any]] = {
    "default": {"BACKEND": "channels_redis.core.RedisChannelLayer", "CONFIG": {"hosts": [f"{REDIS_URL}/2"]}}
}
BROKER_URL = f"{REDIS_URL}/0"
CELERY_RESULT_BACKEND = f"{REDIS_URL}/3"
BROKER_CONNECTION_RETRY_ON_STARTUP = True
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"stderr": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["stderr"], "level": os.environ.get("DFWS_TEST_LOG_LEVEL", "WARNING")},
}
# The test runner's environment would switch dfws off.
DFWS_ENABLED = True
