"""Note with each single mail whether it goes before those that users send themselves."""

from django.conf import settings
from django.db import migrations, models
from django.db.models.functions import Coalesce


class Migration(migrations.Migration):
    dependencies = [
        ("campaigns", "0013_write_imports_in_chunks"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AddField(
            model_name="outboundemail",
            name="goes_first",
            field=models.BooleanField(
                db_default=True, default=True, editable=False, help_text="Of the system or an operator."
            ),
        ),
        migrations.RunSQL(
            """
            UPDATE campaigns_outboundemail AS mail SET goes_first = false
              FROM users_user AS account
             WHERE account.id = mail.created_by_id AND NOT account.is_staff
            """,
            migrations.RunSQL.noop,
        ),
        migrations.AddIndex(
            model_name="outboundemail",
            index=models.Index(
                Coalesce("not_before", "created_at"),
                models.F("id"),
                condition=models.Q(("goes_first", True), ("status__in", ("pending", "deferred"))),
                name="outbound_first",
            ),
        ),
    ]
