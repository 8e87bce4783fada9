"""Count how often each mail left without a recorded answer."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("campaigns", "0002_leave_room_on_ledger_pages")]

    operations = [
        migrations.AddField(
            model_name="deliverylog",
            name="doubts",
            field=models.PositiveSmallIntegerField(
                db_default=0, default=0, help_text="How often it left without a recorded answer."
            ),
        ),
    ]
