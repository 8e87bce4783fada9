"""Check a start and an UPDATE of the ledger by less work for each row, and leave room for a whole page's answers.

At 60 a page had no room for the answers of all its rows, which are longer than the rows were: a fifth of the
updates left their page, and wrote into every index.

What the key on the recipient did row by row, a trigger does once for each DELETE. It locks the audience as a start
does (see campaigns.audiences), so that they wait for each other.
"""

import django.db.models.deletion
from django.db import migrations, models

_LET_GO = """
CREATE FUNCTION campaigns_let_go_of_recipients() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('recipients of audience ' || audience_id, 0))
       FROM (SELECT DISTINCT audience_id FROM gone ORDER BY audience_id) AS audience;
    UPDATE campaigns_deliverylog SET recipient_id = NULL WHERE recipient_id IN (SELECT id FROM gone);
    RETURN NULL;
END $$;
CREATE TRIGGER deliveries_let_go AFTER DELETE ON campaigns_recipient
    REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION campaigns_let_go_of_recipients();
"""
_FORGET_TO_LET_GO = """
DROP TRIGGER deliveries_let_go ON campaigns_recipient;
DROP FUNCTION campaigns_let_go_of_recipients();
"""


class Migration(migrations.Migration):
    dependencies = [
        ("campaigns", "0014_note_which_single_mails_go_first"),
    ]

    operations = [
        migrations.RunSQL(
            "ALTER TABLE campaigns_deliverylog SET (fillfactor = 45)",
            reverse_sql="ALTER TABLE campaigns_deliverylog SET (fillfactor = 60)",
        ),
        migrations.AlterField(
            model_name="batch",
            name="cancelled",
            field=models.IntegerField(db_default=0, default=0),
        ),
        migrations.AlterField(
            model_name="batch",
            name="deferred",
            field=models.IntegerField(db_default=0, default=0),
        ),
        migrations.AlterField(
            model_name="batch",
            name="failed",
            field=models.IntegerField(db_default=0, default=0),
        ),
        migrations.AlterField(
            model_name="batch",
            name="failures",
            field=models.IntegerField(db_default=0, default=0),
        ),
        migrations.AlterField(
            model_name="batch",
            name="number",
            field=models.IntegerField(),
        ),
        migrations.AlterField(
            model_name="batch",
            name="pending",
            field=models.IntegerField(),
        ),
        migrations.AlterField(
            model_name="batch",
            name="sent",
            field=models.IntegerField(db_default=0, default=0),
        ),
        migrations.AlterField(
            model_name="batch",
            name="size",
            field=models.IntegerField(),
        ),
        migrations.AlterField(
            model_name="batch",
            name="suppressed",
            field=models.IntegerField(db_default=0, default=0),
        ),
        migrations.AlterField(
            model_name="batch",
            name="unconfirmed",
            field=models.IntegerField(db_default=0, default=0),
        ),
        migrations.AlterField(
            model_name="deliverylog",
            name="batch",
            field=models.ForeignKey(
                db_constraint=False,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="deliveries",
                to="campaigns.batch",
            ),
        ),
        migrations.AlterField(
            model_name="deliverylog",
            name="recipient",
            field=models.ForeignKey(
                db_constraint=False,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="deliveries",
                to="campaigns.recipient",
            ),
        ),
        migrations.AddConstraint(
            model_name="batch",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("cancelled__gte", 0),
                    ("deferred__gte", 0),
                    ("failed__gte", 0),
                    ("failures__gte", 0),
                    ("number__gte", 0),
                    ("pending__gte", 0),
                    ("sent__gte", 0),
                    ("size__gte", 0),
                    ("suppressed__gte", 0),
                    ("unconfirmed__gte", 0),
                ),
                name="batch_numbers_are_not_negative",
            ),
        ),
        migrations.RunSQL(_LET_GO, reverse_sql=_FORGET_TO_LET_GO),
    ]
