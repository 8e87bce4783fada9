"""Which files go with whose mails: kept with a template, and with a campaign from its start."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import lru_cache

from django.conf import settings
from django.db import transaction

from campaigns import composing
from campaigns.models import Attachment, Campaign, EmailTemplate

File = tuple[str, int]  # a name and how many bytes


class AttachmentRefused(ValueError):
    """A file cannot be attached; the message names it and says why."""


def check(files: Sequence[File]) -> None:
    """Raise AttachmentRefused unless all these files together may go with a template's mails."""
    if len(files) > settings.ATTACHMENTS_MAX:
        raise AttachmentRefused(
            f"There are {len(files)} files; at most {settings.ATTACHMENTS_MAX} are allowed."
        )
    for name, size in files:
        try:
            composing.check_attachment_name(name)
        except ValueError as error:
            raise AttachmentRefused(f"{name!r:.100}: {error}") from error
        if not 0 < size <= settings.ATTACHMENT_MAX_BYTES:
            raise AttachmentRefused(
                f"{name}: it has {size:,} bytes; 1 to {settings.ATTACHMENT_MAX_BYTES:,} are allowed."
            )
    total = sum(size for _, size in files)
    if total > settings.ATTACHMENTS_MAX_TOTAL_BYTES:
        raise AttachmentRefused(
            f"Together the files have {total:,} bytes; "
            f"at most {settings.ATTACHMENTS_MAX_TOTAL_BYTES:,} are allowed."
        )
    if len({name.lower() for name, _ in files}) < len(files):
        raise AttachmentRefused("Two files have the same name.")


def add(template: EmailTemplate, name: str, content: bytes) -> Attachment:
    """Attach a file to a template's mails. Raises AttachmentRefused."""
    with transaction.atomic():
        EmailTemplate.objects.select_for_update().get(pk=template.pk)
        check([*sizes_of(template), (name, len(content))])
        return Attachment.objects.create(template=template, name=name, size=len(content), content=content)


def sizes_of(template: EmailTemplate) -> list[File]:
    """Return the names and sizes of a template's files, without reading them."""
    return list(template.attachments.values_list("name", "size"))


def remove(attachment: Attachment) -> None:
    """Take a file from its template; campaigns that have started keep theirs."""
    if attachment.campaigns.exists():
        Attachment.objects.filter(pk=attachment.pk).update(template=None)
    else:
        attachment.delete()


def freeze(campaign: Campaign) -> None:
    """Keep the files that the campaign's template has now; call it in the transaction of the start."""
    campaign.attachments.set(campaign.template.attachments.only("id"))


def of_template(template: EmailTemplate) -> tuple[composing.Attachment, ...]:
    """Return the files that go with a template's mails now."""
    return _read(template.attachments.values_list("name", "content"))


def of_campaign(campaign: Campaign) -> tuple[composing.Attachment, ...]:
    """Return the files of a campaign that has started: the same objects each time."""
    return _frozen(campaign.pk, campaign.ledger_built_at)


@lru_cache(maxsize=8)
def _frozen(campaign_id: int, built_at: datetime | None) -> tuple[composing.Attachment, ...]:
    """Read them once in a process; `built_at` tells a campaign from what it was before its start."""
    rows = Attachment.objects.filter(campaigns=campaign_id)
    return _read(rows.values_list("name", "content"))


def _read(rows: "Iterable[tuple[str, bytes | memoryview[int]]]") -> tuple[composing.Attachment, ...]:
    return tuple(composing.Attachment(name, bytes(content)) for name, content in rows)
