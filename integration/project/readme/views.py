"""Views of the README of df_websockets 1.2.6; what had to be changed says so."""

from df_websockets.tasks import WINDOW, trigger, SERVER
from django.http.response import HttpResponse

def any_view(request):  # this is a standard Django view
    # Not in the README: without it trigger() reads the user of a logged in visitor from the database inside an
    # event loop, and raises.
    bool(request.user.is_authenticated)
    trigger(request, 'myproject.first_signal', to=[SERVER, WINDOW], content="hello from a view")
    return HttpResponse()


from df_websockets.tasks import set_websocket_topics
from django.contrib.auth.models import Group
from django.template.response import TemplateResponse

def any_view_with_topics(request):  # in the README: any_view, as above
    # useful code
    obj1 = Group.objects.get(id=42)
    set_websocket_topics(request, obj1)  # the README gives a list, which is no topic (TypeError: unhashable)
    return TemplateResponse(request, "my/template.html", {})  # the README forgets the request


def another_view(request, obj_id):
    bool(request.user.is_authenticated)  # not in the README, see above
    obj = Group.objects.get(id=42)
    trigger(request, 'myproject.first_signal', to=[WINDOW, obj], content="hello from a view")
    set_websocket_topics(request, "other topics")  # the README gives a list
    return HttpResponse()
