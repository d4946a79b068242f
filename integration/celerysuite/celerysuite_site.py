"""Django settings of the Python side beside the Go worker: a Celery worker of its own, as a site has one, that calls errbacks.

Functions that take (request, exc, traceback) of a failed task can only be called in Python: a Go worker asks a Python worker with the app
dfws for that. This one runs nothing else, and answers no remote control: to the tests there is one worker.
"""

from __future__ import annotations

import os

QUEUE = "errbacks"

SECRET_KEY = "guards nothing"
USE_TZ = True
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "channels", "df_websockets", "dfws"]
ROOT_URLCONF = "celerysuite_site"
urlpatterns: list[object] = []
CHANNEL_LAYERS = {"default": {"BACKEND": "channels_redis.core.RedisChannelLayer", "CONFIG": {"hosts": [os.environ["TEST_BROKER"]]}}}
CACHES = {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": os.environ["TEST_BROKER"]}}
WEBSOCKET_WORKERS = "celery"

# df_websockets' Celery application reads Celery's settings under their old names.
BROKER_URL = os.environ["TEST_BROKER"]
CELERY_RESULT_BACKEND = os.environ["TEST_BACKEND"]
CELERY_IMPORTS = ["t.integration.tasks"]
CELERY_ROUTES = {"dfws.errback": {"queue": QUEUE}}
CELERY_ENABLE_REMOTE_CONTROL = False
CELERYD_HIJACK_ROOT_LOGGER = False
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"stderr": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["stderr"], "level": "INFO"},
}
