"""manage.py import_recipients: a file into an audience, from the command line."""

import json
import os
import shutil
import signal
import sys
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import sleep
from typing import IO, Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction
from django.utils import timezone

from campaigns import audiences
from campaigns.importing import jobs
from campaigns.importing.preview import preview
from campaigns.importing.reading import EXTENSIONS
from campaigns.importing.refusals import ImportRefused, Reading
from campaigns.importing.report import first_refusals
from campaigns.importing.warnings import ABOUT
from campaigns.models import Audience, ImportJob, ImportStatus, OnExisting

BAR = 30  # characters
CANCELLED = 130  # what shells call a program that SIGINT ended
COUNTERS = ("read", "created", "updated", "unchanged", "duplicate", "refused", "warnings", "suppressed")
MOVING = ("status", "phase", "total", *COUNTERS, "rate_per_second", "eta_seconds")
WIDTH = 100  # columns of a terminal that the bar takes
SHOWN = 5
WAIT = 1.0  # seconds between two looks at an import that a worker has taken


def _mapping(text: str) -> dict[str, str]:
    pairs = [pair.partition("=") for pair in text.split(",")]
    if not all(field and equals for field, equals, _ in pairs):
        raise ArgumentTypeError(f'"{text}" is not like email=Contact,name=Person.')
    return {field.strip(): header.strip() for field, _, header in pairs}


def _bar(job: ImportJob) -> str:
    """How far it is, in one line."""
    whole, done = (job.total, job.read) if job.phase == "reading" else (job.accepted, job.written)
    share = min(1.0, done / whole) if whole else 0.0
    filled = round(BAR * share)
    pace = f", {job.rate_per_second:,.0f}/s, {job.eta_seconds} s left" if job.rate_per_second else ""
    return f"{job.phase} [{'#' * filled}{' ' * (BAR - filled)}] {share:4.0%} {done:,} rows{pace}"


def _warnings(text: str) -> list[str]:
    about = [word.strip() for word in text.split(",")]
    if not set(about) <= set(ABOUT):
        raise ArgumentTypeError(f'"{text}" is not among {", ".join(ABOUT)}.')
    return about


class Command(BaseCommand):
    """Exits 0 when the import completed, refused rows or not; 1 when the file as a whole was refused.

    Ctrl-C cancels it where it is: the command then says what had been done, and exits 130. A second one, or
    a kill, leaves it to the minute tick, which has a worker go on with it.
    """

    help = f"Import recipients from a CSV file or a spreadsheet ({' '.join(EXTENSIONS)}) into an audience."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", type=Path, metavar="FILE")
        parser.add_argument(
            "--audience", required=True, type=str.strip, metavar="NAME", help="created if there is none"
        )
        parser.add_argument(
            "--mapping",
            type=_mapping,
            default={},
            metavar="FIELD=COLUMN,...",
            help='the columns of "email", "name" and "timezone"; those not given are guessed from the header',
        )
        parser.add_argument("--sheet", default="", metavar="NAME", help="the sheet of a workbook")
        parser.add_argument(
            "--encoding", default="", metavar="NAME", help="of a text file, such as windows-1251"
        )
        parser.add_argument(
            "--warn-about",
            type=_warnings,
            default=[],
            metavar="WHAT,...",
            help=f"what to flag besides misspelt domains: {', '.join(ABOUT)}",
        )
        parser.add_argument(
            "--on-existing",
            choices=OnExisting.values,
            default=OnExisting.UPDATE.value,
            help="what to do with an address that the audience has already (default: %(default)s)",
        )
        parser.add_argument(
            "--dry-run",
            action="store_true",
            help="say how the file is read and what its columns become, check it and report; change nothing",
        )
        parser.add_argument(
            "--errors", type=Path, metavar="FILE", help="write the lines that did not get in, with reasons"
        )
        parser.add_argument(
            "--json",
            action="store_true",
            help="JSON lines, as when it is not run in a terminal; the last one has the counters",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        self._json = bool(options["json"]) or not self.stdout.isatty()
        self._interrupted = False
        try:
            with options["file"].open("rb") as file:
                self._import(file, options)
        except OSError as error:
            raise self._refusal("file", f"{error.filename}: {error.strerror}.") from error
        except ImportRefused as refused:
            raise self._refusal(refused.field, refused.message) from refused

    def _import(self, file: IO[bytes], options: dict[str, Any]) -> None:
        if options["dry_run"]:
            self._preview(file, options)
        audience = audiences.named(options["audience"])
        try:
            if audience is None and options["dry_run"]:
                self._rehearse(file, options)
            else:
                self._perform(audience, file, options)
        except ValidationError as error:
            raise self._refusal("audience", f"--audience: {' '.join(error.messages)}") from error

    def _preview(self, file: IO[bytes], options: dict[str, Any]) -> None:
        size = options["file"].stat().st_size
        how = {name: options[name] for name in ("mapping", "sheet", "encoding", "warn_about")}
        seen = preview(options["file"].name, file, size=size, most=SHOWN, **how)
        file.seek(0)
        if seen.problem:
            raise seen.problem
        if self._json:
            self._say(json.dumps({"preview": seen.as_dict()}))
        else:
            self._say("\n".join(seen.as_lines()))

    def _rehearse(self, file: IO[bytes], options: dict[str, Any]) -> None:
        """A dry run into an audience that does not exist, and does not after it either."""
        with transaction.atomic():
            target, _ = audiences.find_or_create(options["audience"])
            job = self._create(target, file, options)
            try:
                self._run(job, options)
            finally:
                job.refresh_from_db()
                job.file.delete(save=False)
                job.errors_file.delete(save=False)
                transaction.set_rollback(True)

    def _perform(self, audience: Audience | None, file: IO[bytes], options: dict[str, Any]) -> None:
        with transaction.atomic():  # a file refused at once leaves no audience behind
            target, is_new = (audience, False) if audience else audiences.find_or_create(options["audience"])
            job = self._create(target, file, options)
        try:
            self._run(job, options)
        except ImportRefused as refused:
            if is_new and not jobs.undo_audience(job):
                kept = f'The audience "{target}" is kept.'
                raise ImportRefused(refused.field, f"{refused.message} {kept}") from refused
            raise

    def _create(self, audience: Audience, file: IO[bytes], options: dict[str, Any]) -> ImportJob:
        return jobs.create_job(
            audience,
            file,
            options["file"].name,
            mapping=options["mapping"],
            sheet=options["sheet"],
            encoding=options["encoding"],
            warn_about=options["warn_about"],
            on_existing=options["on_existing"],
            dry_run=options["dry_run"],
            created_by=None,
        )

    def _run(self, job: ImportJob, options: dict[str, Any]) -> None:
        began = timezone.now()
        with self._cancelled_by_interrupt():
            job = self._to_its_end(job)
        if job.status == ImportStatus.FAILED:
            raise ImportRefused("file", job.problem)
        if options["errors"]:
            self._copy_errors(job, options["errors"])
        seconds = (timezone.now() - began).total_seconds()
        if self._json:
            self._print_json(job, seconds)
        elif job.status == ImportStatus.COMPLETED:
            self._print_summary(job, seconds)
        if job.status == ImportStatus.CANCELLED:
            raise CommandError(job.problem, returncode=CANCELLED)

    def _to_its_end(self, job: ImportJob) -> ImportJob:
        """The job once it has ended: by us, or by the worker that the minute tick gave it to before us."""
        while (job := jobs.run(job.pk, now=timezone.now(), on_progress=self._progress)).status in jobs.OPEN:
            self._heed_interrupt(job)
            self._show(job)
            sleep(WAIT)
        return job

    @contextmanager
    def _cancelled_by_interrupt(self) -> Iterator[None]:
        """Take the first SIGINT for a wish; the second one interrupts, as everywhere."""

        def wish(*_: object) -> None:
            self._interrupted = True
            signal.signal(signal.SIGINT, before)

        before = signal.getsignal(signal.SIGINT)
        with suppress(ValueError):  # not in the main thread, which alone gets signals
            signal.signal(signal.SIGINT, wish)
        try:
            yield
        finally:
            with suppress(ValueError):
                signal.signal(signal.SIGINT, before)

    def _progress(self, job: ImportJob) -> None:
        self._heed_interrupt(job)
        if job.status == ImportStatus.RUNNING:
            self._show(job)

    def _heed_interrupt(self, job: ImportJob) -> None:
        if self._interrupted:
            self._interrupted = False
            with suppress(jobs.ImportEnded):
                jobs.ask_to_cancel(job.pk, now=timezone.now())

    def _show(self, job: ImportJob) -> None:
        if self._json:
            self._say(json.dumps({name: getattr(job, name) for name in MOVING}))
        else:
            self._say(f"\r{_bar(job):<{WIDTH}}", ending="")

    def _say(self, text: str, ending: str = "\n") -> None:
        try:
            self.stdout.write(text, ending=ending)
            self.stdout.flush()
        except BrokenPipeError:  # whoever read along has gone, which is no reason to give up the import
            with Path(os.devnull).open("w") as nowhere:
                os.dup2(nowhere.fileno(), sys.stdout.fileno())

    def _copy_errors(self, job: ImportJob, target: Path) -> None:
        with target.open("wb") as copy:
            if job.errors_file:
                with job.errors_file.open("rb") as errors:
                    shutil.copyfileobj(errors, copy)

    def _print_json(self, job: ImportJob, seconds: float) -> None:
        counters = {name: getattr(job, name) for name in COUNTERS}
        described = {"import": job.pk, "audience": job.audience.name, "dry_run": job.dry_run}
        self._say(json.dumps({"status": job.status, **described, **counters, "seconds": round(seconds, 3)}))

    def _print_summary(self, job: ImportJob, seconds: float) -> None:
        self._say("\r" + " " * WIDTH + "\r", ending="")
        verb = "Checked (dry run)" if job.dry_run else "Imported"
        self._say(f'{verb} {job.original_name} into "{job.audience}" in {seconds:.1f} s:')
        self._say(f"  read as {Reading.of_dict(job.reading)}")
        for name in COUNTERS:
            self._say(f"  {name:<10}{getattr(job, name):>12,}")
        reported = job.duplicate + job.refused + job.warnings + job.suppressed
        if not reported:
            return
        with job.errors_file.open("rb") as errors:
            for refusal in first_refusals(errors, SHOWN):
                place = f"line {refusal.line}, {refusal.column}" if refusal.column else f"line {refusal.line}"
                self._say(f"  {place}: {refusal.reason} ({refusal.verdict})")
        if reported > SHOWN:
            self._say(f"  and {reported - SHOWN:,} more; --errors FILE writes all of them.")

    def _refusal(self, field: str, message: str) -> CommandError:
        if self._json:
            self._say(json.dumps({"status": "failed", "field": field, "problem": message}))
        return CommandError(message)
