"""Say in the batch what is leaving, one row for many mails, and no longer in each delivery."""

import django.contrib.postgres.fields
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("campaigns", "0005_keep_how_large_the_ledger_was_built")]

    operations = [
        migrations.AddField(
            model_name="batch",
            name="leaving",
            field=django.contrib.postgres.fields.ArrayField(
                base_field=models.BigIntegerField(), db_default=[], default=list, size=None
            ),
        ),
        migrations.AddField(
            model_name="batch",
            name="leaving_through",
            field=models.CharField(db_default="", default="", max_length=20),
        ),
        # what a worker had declared when the programs were stopped for the upgrade stays declared
        migrations.RunSQL(
            """
            UPDATE campaigns_batch AS batch SET leaving = declared.ids, leaving_through = declared.provider
              FROM (SELECT batch_id, declared_token, array_agg(id) AS ids, max(provider) AS provider
                      FROM campaigns_deliverylog
                     WHERE declared_token IS NOT NULL GROUP BY batch_id, declared_token) AS declared
             WHERE declared.batch_id = batch.id AND declared.declared_token = batch.lease_token
               AND batch.lease_until IS NOT NULL
            """,
            """
            UPDATE campaigns_deliverylog AS delivery SET declared_token = batch.lease_token
              FROM campaigns_batch AS batch
             WHERE delivery.batch_id = batch.id AND delivery.id = ANY(batch.leaving)
            """,
        ),
        migrations.RemoveField(model_name="deliverylog", name="declared_token"),
        migrations.AddConstraint(
            model_name="batch",
            constraint=models.CheckConstraint(
                condition=models.Q(("leaving", []), ("lease_until__isnull", False), _connector="OR"),
                name="batch_nothing_leaves_without_a_lease",
            ),
        ),
    ]
