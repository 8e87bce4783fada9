"""SendGrid's own client against our test server, and our requests through that client.

The other tests hold our code to a server that we wrote. Here somebody else's code speaks to it: the server
takes what SendGrid's library sends, and the library can carry what we make.
"""

from collections.abc import Iterator

import pytest
from python_http_client.exceptions import BadRequestsError
from sendgrid import SendGridAPIClient
from sendgrid.helpers.mail import Content, CustomArg, From, Header, Mail, Personalization, Substitution, To

from campaigns.composing import Sender, request_for_all
from tests.letters import letter, letters, message
from tests.mail_servers import SendGridServer, sendgrid_server


@pytest.fixture
def server() -> Iterator[SendGridServer]:
    with sendgrid_server() as running:
        yield running


@pytest.fixture
def client(server: SendGridServer) -> SendGridAPIClient:
    official = SendGridAPIClient("SG.test", host=server.url)
    official.client.timeout = 10
    return official


def personalization(number: int) -> Personalization:
    made = Personalization()
    made.add_to(To(f"reader{number}@example.com", f"Reader {number}"))
    made.add_substitution(Substitution("-name-", f"Reader {number}"))
    made.add_header(Header("Message-ID", f"<{number}.stable@example.com>"))
    made.add_custom_arg(CustomArg("delivery_id", str(number)))
    return made


def official_mail() -> Mail:
    mail = Mail(From("news@example.com", "News"), subject="Hello -name-")
    mail.add_content(Content("text/plain", "Dear -name-,\nhello.\n"))
    mail.add_content(Content("text/html", "<p>Dear -name-</p>"))
    for number in (2, 1):  # the library puts each before those it has
        mail.add_personalization(personalization(number))
    return mail


class TestTheOfficialClientsMail:
    def test_is_accepted_by_our_server(self, client: SendGridAPIClient, server: SendGridServer) -> None:
        response = client.send(official_mail())
        assert (response.status_code, response.headers["X-Message-Id"]) == (202, "request-1")
        assert server.faults == []
        assert server.recipients == ["reader1@example.com", "reader2@example.com"]

    def test_has_the_form_of_ours(self, client: SendGridAPIClient, server: SendGridServer) -> None:
        client.send(official_mail())
        ours = request_for_all(message(html="<p>Dear {{ name }}</p>", text="T {{ name }}"), letters(2))
        (theirs,) = server.accepted
        assert ours.keys() - theirs.keys() == {"tracking_settings"}
        assert theirs.keys() <= ours.keys()
        assert [p.keys() for p in theirs["personalizations"]] == [p.keys() for p in ours["personalizations"]]

    def test_is_refused_in_a_form_that_the_client_reads(
        self, client: SendGridAPIClient, server: SendGridServer
    ) -> None:
        server.bad_addresses = {"reader2@example.com"}
        with pytest.raises(BadRequestsError) as refused:
            client.send(official_mail())
        assert refused.value.status_code == 400
        assert refused.value.to_dict == {
            "errors": [{"message": "bad address", "field": "personalizations.1.to.0.email"}]
        }
        assert server.recipients == []


class TestOurRequest:
    def test_is_carried_by_the_official_client(
        self, client: SendGridAPIClient, server: SendGridServer
    ) -> None:
        compiled = message(
            html="<p>Dear {{ name }} of {{ city }}, <a href='{{ unsubscribe_url }}'>no more</a></p>",
            sender=Sender("news@example.com", "News", "desk@example.com"),
        )
        readers = [
            letter(number, name=f"Zoë <{number}>", unsubscribe_url=f"https://x.org/u/{number}", city="Pune")
            for number in range(1, 201)
        ]
        request = request_for_all(compiled, readers)
        response = client.client.mail.send.post(request_body=request)
        assert response.status_code == 202
        assert server.faults == []
        assert server.accepted == [request]
        assert server.recipients == [reader.email for reader in readers]
