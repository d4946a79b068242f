"""README of df_websockets 1.2.6, "HTML forms"; what had to be changed says so."""

from df_websockets.decorators import signal
from df_websockets.tasks import WINDOW, trigger
from df_websockets.utils import SerializedForm
from django import forms
from df_websockets.decorators import everyone  # not in the README, see below


class MyForm(forms.Form):
    title = forms.CharField()

# The README leaves is_allowed_to out. Its default, server_side, refuses every call from a browser, and a form is one.
@signal(path='signal.name', is_allowed_to=everyone)
def my_signal_function(window_info, form_data: SerializedForm(MyForm)=None, title=None, id=None):
    print(form_data and form_data.is_valid())
    trigger(window_info, 'myproject.first_signal', to=WINDOW, title=title)

@signal(path='signal.name', is_allowed_to=everyone)
def my_signal_function_raw(window_info, form_data=None, title=None, id=None):
    print(form_data and form_data.is_valid())
    trigger(window_info, 'myproject.first_signal', to=WINDOW, title=title)
