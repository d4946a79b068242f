import json

from df_websockets.tasks import BROADCAST, SERVER, SYNC, USER, WINDOW, set_websocket_topics, trigger_signal
from django.contrib.auth import authenticate, login
from django.http import HttpResponse
from django.urls import path

NAMES = {"BROADCAST": BROADCAST, "SERVER": SERVER, "SYNC": SYNC, "USER": USER, "WINDOW": WINDOW}


def page(request):
    """Sets topics: ?topic=a&topic=b; answers the window key."""
    set_websocket_topics(request, *request.GET.getlist("topic"))
    return HttpResponse(json.dumps({"window_key": request.window_key, "user": str(request.user.pk)}))


def log_in(request):
    user = authenticate(request, username=request.GET["u"], password=request.GET["p"])
    if user is None:
        return HttpResponse("no", status=403)
    login(request, user)
    return HttpResponse("ok")


def trig(request):
    """?signal=x&to=WINDOW&to=SERVER&kwargs={...}: calls trigger_signal from a view."""
    to = [NAMES.get(x, x) for x in request.GET.getlist("to")] or None
    if request.GET.get("touch_user"):
        bool(request.user.is_authenticated)
    try:
        trigger_signal(request, request.GET["signal"], to=to, kwargs=json.loads(request.GET.get("kwargs", "{}")))
    except Exception as e:
        return HttpResponse("%s: %s" % (type(e).__name__, e), status=500)
    return HttpResponse("sent")


urlpatterns = [path("page/", page), path("login/", log_in), path("trig/", trig)]
