"""Every address of the site."""

from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path, re_path
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularAPIView, SpectacularRedocView, SpectacularSwaggerView

from campaigns import pages
from mailer_project import health, problems
from mailer_project.limited import limited
from users import pages as accounts

api: list[URLPattern | URLResolver] = [
    path("", include("users.api.urls")),
    path("", include("campaigns.api.urls")),
    path("", include("schedules.api.urls")),
]

urlpatterns = [
    path("", RedirectView.as_view(url="/admin/")),
    path("admin/login/", limited(admin.site.login, "token")),  # before the same of the admin
    path("admin/", admin.site.urls),
    *accounts.urls(limited),
    path("api/schema/", SpectacularAPIView.as_view(), name="schema"),
    path("api/docs/", SpectacularSwaggerView.as_view(url_name="schema")),
    path("api/redoc/", SpectacularRedocView.as_view(url_name="schema")),
    path("api/v1/", include(api)),
    path("api/", include(api)),  # the same under a shorter name
    re_path("^api/", problems.nothing_here),
    path("u/<str:token>", pages.unsubscribe),
    path("health/live", health.live),
    path("health/ready", health.ready),
]

handler400 = problems.bad_request
handler500 = problems.server_error
