import django.db.models.lookups
from django.db import migrations, models

import campaigns.models.audience


class Migration(migrations.Migration):
    dependencies = [
        ("campaigns", "0006_declare_in_the_batch"),
    ]

    operations = [
        migrations.AddField(
            model_name="campaign",
            name="headers",
            field=models.JSONField(
                blank=True,
                default=dict,
                help_text='Further header fields of its mails, such as {"X-Campaign": "May"}.',
            ),
        ),
        migrations.AddField(
            model_name="campaign",
            name="link_parameters",
            field=models.JSONField(
                blank=True,
                default=dict,
                help_text='Appended to web links of the HTML part, such as {"utm_source": "newsletter"}.',
            ),
        ),
        migrations.AddField(
            model_name="emailtemplate",
            name="inline_css",
            field=models.BooleanField(
                default=True,
                help_text="Write what <style> elements say into the tags, for mail programs that read no <style>.",
                verbose_name="inline styles",
            ),
        ),
        migrations.AddField(
            model_name="emailtemplate",
            name="preheader",
            field=models.CharField(
                blank=True,
                help_text="What inboxes show beside the subject; hidden in the mail. May hold {{ fields }}.",
                max_length=300,
            ),
        ),
        migrations.AddConstraint(
            model_name="campaign",
            constraint=models.CheckConstraint(
                condition=django.db.models.lookups.Exact(
                    campaigns.models.audience.JsonType(models.F("link_parameters")), models.Value("object")
                ),
                name="campaign_link_parameters_are_an_object",
                violation_error_message='link_parameters: give an object, such as {"city": "Pune"}.',
            ),
        ),
        migrations.AddConstraint(
            model_name="campaign",
            constraint=models.CheckConstraint(
                condition=django.db.models.lookups.Exact(
                    campaigns.models.audience.JsonType(models.F("headers")), models.Value("object")
                ),
                name="campaign_headers_are_an_object",
                violation_error_message='headers: give an object, such as {"city": "Pune"}.',
            ),
        ),
    ]
