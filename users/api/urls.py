"""The addresses under auth/."""

from django.urls import path

from users.api.me import MeView
from users.api.tokens import RefreshView, TokenView

urlpatterns = [
    path("auth/token/", TokenView.as_view()),
    path("auth/token/refresh/", RefreshView.as_view()),
    path("auth/me/", MeView.as_view()),
]
