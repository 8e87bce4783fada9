"""The addresses under auth/ and users/."""

from django.urls import path
from rest_framework.routers import SimpleRouter

from users.api.me import MeView
from users.api.passwords import ChangeView, ConfirmView, ResetView
from users.api.registering import RegisterView
from users.api.sessions import SessionView, SignOutView
from users.api.tokens import RefreshView, TokenView
from users.api.users import UserView

router = SimpleRouter()
router.register("users", UserView)

urlpatterns = [
    path("auth/register/", RegisterView.as_view()),
    path("auth/token/", TokenView.as_view()),
    path("auth/token/refresh/", RefreshView.as_view()),
    path("auth/session/", SessionView.as_view()),
    path("auth/logout/", SignOutView.as_view()),
    path("auth/me/", MeView.as_view()),
    path("auth/password/change/", ChangeView.as_view()),
    path("auth/password/reset/", ResetView.as_view()),
    path("auth/password/reset/confirm/", ConfirmView.as_view()),
    *router.urls,
]
