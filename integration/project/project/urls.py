"""All pages of the site."""

from __future__ import annotations

from django.contrib.staticfiles.views import serve
from django.urls import path, re_path

from demo import views
from readme import views as readme_views

urlpatterns = [
    path("", views.home),
    path("login/", views.log_in),
    path("logout/", views.log_out),
    path("page/", views.page),
    path("trigger/", views.trigger_view),
    path("trigger-async/", views.trigger_view_async),
    path("trigger-task/", views.trigger_task),
    path("trigger-go/", views.trigger_go),
    path("window-info/", views.window_info),
    path("call-task/", views.call_task),
    path("expected/", views.expected),
    path("echo/", views.echo),
    path("readme/first/", readme_views.any_view),
    path("readme/topics/", readme_views.any_view_with_topics),
    path("readme/objects/<int:obj_id>/", readme_views.another_view),
    # The site has no static file server beside it, whether DEBUG is on or not.
    re_path(r"^static/(?P<path>.*)$", serve, {"insecure": True}),
]
