"""Recipients as this system has them, in a table of the peers' own."""

from django.db import models


class Person(models.Model):
    """One address in one audience."""

    audience = models.BigIntegerField()
    email = models.EmailField(max_length=254)
    name = models.CharField(max_length=200, blank=True)
    timezone = models.CharField(max_length=64, blank=True)
    attributes = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        # one index that django-import-export's own look-up of a row can use
        constraints = [models.UniqueConstraint(fields=["audience", "email"], name="person_once_in_audience")]

    def __str__(self) -> str:
        return self.email
