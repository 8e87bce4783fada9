"""What every provider promises, held against each of them and a real server."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest

from campaigns.composing import CompiledMessage, Letter
from campaigns.providers import Outcome, Provider, SendGrid, Smtp, Trouble, Verdict
from campaigns.providers.conversation import SmtpAccount
from campaigns.throttle import Limit
from tests.letters import letters, message
from tests.mail_servers import SendGridServer, SmtpServer, sendgrid_server, smtp_server


class Side(ABC):
    """A provider and the server it sends to."""

    provider: Provider

    @property
    @abstractmethod
    def recipients(self) -> list[str]:
        """Who was written to, in order."""

    @abstractmethod
    def refuse(self, address: str) -> None:
        """Refuse mail to this address for good."""

    @abstractmethod
    def slow_down(self) -> None:
        """Ask for a pause from now on."""

    @abstractmethod
    def cut_after_acceptance(self, address: str) -> None:
        """Take the mail to this address, but break off instead of saying so."""


class SmtpSide(Side):
    def __init__(self, server: SmtpServer) -> None:
        self.server = server
        account = SmtpAccount("127.0.0.1", server.port, use_tls=False, timeout=30)
        self.provider = Smtp(account, Limit("smtp", 0), window=10)

    @property
    def recipients(self) -> list[str]:
        return self.server.recipients

    def refuse(self, address: str) -> None:
        self.server.rcpt[address] = "550 5.1.1 no such user"

    def slow_down(self) -> None:
        self.server.mail = "550 5.4.5 Daily user sending limit exceeded"

    def cut_after_acceptance(self, address: str) -> None:
        self.server.drop[address] = "after"


class SendGridSide(Side):
    def __init__(self, server: SendGridServer) -> None:
        self.server = server
        self.provider = SendGrid("SG.test", Limit("sendgrid", 0), host=server.url)

    @property
    def recipients(self) -> list[str]:
        return self.server.recipients

    def refuse(self, address: str) -> None:
        self.server.bad_addresses.add(address)

    def slow_down(self) -> None:
        self.server.answers = [(429, {"Retry-After": "30"}, "{}")] * 9

    def cut_after_acceptance(self, address: str) -> None:
        self.server.answers = ["drop"]


@contextmanager
def smtp_side() -> Iterator[Side]:
    with smtp_server() as server:
        yield SmtpSide(server)


@contextmanager
def sendgrid_side() -> Iterator[Side]:
    with sendgrid_server() as server:
        yield SendGridSide(server)
        assert server.faults == []


@pytest.fixture(params=[smtp_side, sendgrid_side], ids=["smtp", "sendgrid"])
def side(request: pytest.FixtureRequest) -> Iterator[Side]:
    with request.param() as made:
        yield made


def nobody_listens(name: str) -> Provider:
    if name == "smtp":
        return Smtp(SmtpAccount("127.0.0.1", 1, use_tls=False), Limit("smtp", 0), window=10)
    return SendGrid("SG.test", Limit("sendgrid", 0), host="http://127.0.0.1:1")


def deliver(
    provider: Provider,
    compiled: CompiledMessage,
    readers: Sequence[Letter],
    *,
    still_ours: Callable[[], bool] = lambda: True,
) -> tuple[list[Outcome], Trouble | None]:
    """Send as delivery.py does, up to the first trouble; each letter of a group has exactly one outcome."""
    outcomes: list[Outcome] = []
    with provider:
        for group in provider.groups(compiled, readers):
            provider.open()
            sending = provider.send(compiled, group, still_ours=still_ours)
            assert sorted(outcome.delivery_id for outcome in sending.outcomes) == sorted(
                to.delivery_id for to in group
            )
            outcomes += sending.outcomes
            if sending.trouble:
                return outcomes, sending.trouble
    assert sorted(outcome.delivery_id for outcome in outcomes) == [to.delivery_id for to in readers]
    return outcomes, None


def verdicts(outcomes: Sequence[Outcome]) -> set[Verdict]:
    return {outcome.verdict for outcome in outcomes}


class TestEveryProvider:
    def test_says_of_each_letter_that_it_was_accepted(self, side: Side) -> None:
        outcomes, trouble = deliver(side.provider, message(), letters(25))
        assert trouble is None
        assert [(o.delivery_id, o.verdict) for o in outcomes] == [(n, Verdict.ACCEPTED) for n in range(1, 26)]
        assert all(outcome.provider_message_id for outcome in outcomes)
        assert side.recipients == [to.email for to in letters(25)]

    def test_refuses_one_bad_recipient_among_two_hundred_alone(self, side: Side) -> None:
        side.refuse("reader77@example.com")
        outcomes, trouble = deliver(side.provider, message(), letters(200))
        assert trouble is None
        assert {o.delivery_id for o in outcomes if o.verdict is Verdict.REFUSED} == {77}
        assert {o.delivery_id for o in outcomes if o.verdict is Verdict.ACCEPTED} == {*range(1, 201)} - {77}
        assert sorted(side.recipients) == sorted(to.email for to in letters(200) if to.delivery_id != 77)

    def test_refuses_one_whose_values_do_not_fit_alone(self, side: Side) -> None:
        readers = letters(20)
        for to in readers:
            to.context["age"] = 30
        readers[4].context["age"] = "thirty"
        outcomes, trouble = deliver(side.provider, message(text="{% if age > 18 %}x{% endif %}"), readers)
        assert trouble is None
        (refused,) = (outcome for outcome in outcomes if outcome.verdict is Verdict.REFUSED)
        assert refused.delivery_id == 5
        assert refused.reason == "template, line 1: '>' not supported between instances of 'str' and 'int'"
        assert len(side.recipients) == 19

    def test_sends_nothing_more_when_asked_to_slow_down(self, side: Side) -> None:
        side.slow_down()
        outcomes, trouble = deliver(side.provider, message(), letters(10))
        assert trouble is not None
        assert trouble.retry_after is not None
        assert verdicts(outcomes) == {Verdict.UNSENT}
        assert side.recipients == []

    def test_leaves_what_was_cut_off_unconfirmed_and_does_not_repeat_it(self, side: Side) -> None:
        side.cut_after_acceptance("reader1@example.com")
        outcomes, trouble = deliver(side.provider, message(), letters(1))
        assert trouble is not None
        assert trouble.retry_after is None
        assert verdicts(outcomes) == {Verdict.UNCONFIRMED}
        assert len(side.recipients) <= 1

    def test_can_be_used_again_after_it_was_cut_off(self, side: Side) -> None:
        side.cut_after_acceptance("reader1@example.com")
        deliver(side.provider, message(), letters(1))
        outcomes, trouble = deliver(side.provider, message(), letters(3)[1:])
        assert trouble is None
        assert verdicts(outcomes) == {Verdict.ACCEPTED}

    def test_lets_nothing_leave_once_the_lease_is_over(self, side: Side) -> None:
        outcomes, trouble = deliver(side.provider, message(), letters(10), still_ours=lambda: False)
        assert str(trouble) == "the batch was taken back, or its campaign held, before this mail left"
        assert verdicts(outcomes) == {Verdict.UNSENT}
        assert side.recipients == []

    @pytest.mark.parametrize("name", ["smtp", "sendgrid"])
    def test_says_that_nothing_left_where_nobody_listens(self, name: str) -> None:
        provider = nobody_listens(name)
        outcomes: list[Outcome] = []
        try:
            outcomes, trouble = deliver(provider, message(), letters(3))
        except Trouble as met:
            trouble = met
        assert trouble is not None
        assert str(trouble).startswith(name)
        assert "refused" in str(trouble)
        assert trouble.retry_after is None
        assert verdicts(outcomes) <= {Verdict.UNSENT}
