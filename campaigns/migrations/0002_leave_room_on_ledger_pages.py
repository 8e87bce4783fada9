"""Leave room on the ledger's pages, so that the two updates of each mail stay on their page (HOT)."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("campaigns", "0001_create_campaigns")]

    operations = [
        migrations.RunSQL(
            "ALTER TABLE campaigns_deliverylog SET (fillfactor = 60)",
            reverse_sql="ALTER TABLE campaigns_deliverylog RESET (fillfactor)",
        ),
    ]
