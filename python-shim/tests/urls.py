from __future__ import annotations

from django.urls import path

from tests import views

urlpatterns = [
    path("page/", views.page),
    path("async-page/", views.async_page),
    path("plain/", views.plain),
    path("call/", views.call),
    path("async-call/", views.async_call),
]
