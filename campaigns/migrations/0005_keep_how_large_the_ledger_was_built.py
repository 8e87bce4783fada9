"""Keep how many rows a ledger was built with, so that a batch that vanishes is noticed."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("campaigns", "0004_keep_settlements")]

    operations = [
        migrations.AddField(
            model_name="campaign",
            name="ledger_size",
            field=models.PositiveIntegerField(
                editable=False,
                help_text="How many rows the ledger was built with; as many must be found at every reading.",
                null=True,
            ),
        ),
    ]
