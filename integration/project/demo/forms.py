"""Forms that arrive as signal arguments."""

from __future__ import annotations

from django import forms


class GreetingForm(forms.Form):
    name = forms.CharField(max_length=40)
    age = forms.IntegerField(min_value=0, required=False)
    colors = forms.MultipleChoiceField(choices=[("r", "red"), ("g", "green"), ("b", "blue")], required=False)
