"""Keep what operators decide about unconfirmed mails."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("campaigns", "0003_count_doubts"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="Settlement",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "decision",
                    models.CharField(
                        choices=[
                            ("sent", "it arrived: count it as sent"),
                            ("send_again", "send it again"),
                            ("give_up", "give it up: count it as failed"),
                        ],
                        max_length=20,
                    ),
                ),
                ("decided_by_email", models.EmailField(max_length=254, verbose_name="decided by")),
                ("decided_at", models.DateTimeField()),
                ("note", models.TextField(blank=True, db_default="", default="")),
                (
                    "decided_by",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="settlements",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "delivery",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="settlements",
                        to="campaigns.deliverylog",
                    ),
                ),
            ],
            options={
                "ordering": ["id"],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("decision__in", ["sent", "send_again", "give_up"])),
                        name="settlement_decision_is_known",
                    )
                ],
            },
        ),
    ]
