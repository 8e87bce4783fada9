"""What looks wrong about a row that can be stored nevertheless: it is taken, and flagged.

A misspelt domain is always flagged, and an address that not every mail server takes; role and disposable
addresses where the import asks for it.
"""

from collections.abc import Callable, Collection
from functools import cache, lru_cache
from string import ascii_lowercase, digits

# The mailbox providers whose names are misspelt most; near a shorter name there are too many real ones.
PROVIDERS = (
    "gmail.com", "googlemail.com", "yahoo.com", "yahoo.co.in", "yahoo.co.uk", "rocketmail.com",
    "hotmail.com", "hotmail.co.uk", "hotmail.fr", "outlook.com", "icloud.com", "comcast.net",
    "rediffmail.com", "protonmail.com", "verizon.net", "sbcglobal.net", "bellsouth.net",
    "btinternet.com", "t-online.de", "freenet.de", "wanadoo.fr", "laposte.net", "libero.it",
    "yandex.ru", "naver.com",
)  # fmt: skip

# Mailbox providers that are one slip away from one of those.
REAL = {
    "email.com",
    "hmail.com",
    "mail.com",
    "vmail.com",
    "xmail.com",
    "ymail.com",
    "zmail.com",
    "hotmail.de",
}

MISSPELT_ENDINGS = {
    "con": "com", "cmo": "com", "ocm": "com", "comm": "com", "coom": "com", "xom": "com", "vom": "com",
    "cpm": "com", "nte": "net", "nett": "net", "ner": "net", "orgg": "org", "ogr": "org", "rog": "org",
    "eud": "edu",
}  # fmt: skip

# Mailboxes of a task, not of a person: RFC 2142, and what companies put on their doors.
ROLES = """
    abuse account accounting accounts admin administration administrator all billing board booking
    bookings careers compliance contact contacto contato customerservice customersupport datenschutz dev
    director enquiries enquiry everyone feedback finance ftp hello help helpdesk hostmaster hr info
    information inquiries invoice invoices it jobs kontakt legal mail mailer-daemon marketing media news
    newsletter no-reply noc noreply notifications office operations orders payments postmaster press
    privacy purchasing reception registrar reservations root sales secretary security service shop spam
    staff subscribe support sysadmin team tech undisclosed-recipients unsubscribe usenet ventas verkauf
    vertrieb webmaster www
"""

NEEDS_SMTPUTF8 = (
    "The address has letters outside ASCII before the @-sign: it needs a mail server that offers SMTPUTF8; "
    "the SendGrid API takes none such."
)

# What Excel and its kin write into a text file for a cell with an error, in their languages.
ERRORS = """
    #N/A #NV #N/D #DIV/0! #¡DIV/0! #VALUE! #VALEUR! #WERT! #VALORE! #VALOR! #¡VALOR! #REF! #BEZUG! #¡REF!
    #RIF! #NAME? #NOM? #NOME? #¿NOMBRE? #NUM! #ZAHL! #NOMBRE! #NÚM! #¡NUM! #NULL! #NUL! #NULO! #NULLO! #¡NULO!
    #SPILL! #CALC! #GETTING_DATA
"""
ERROR_TEXTS = frozenset(ERRORS.split())

ABOUT = ("role", "disposable")
COUNTRY = 2  # letters of a country's own ending (ISO 3166)
Warner = Callable[[str], str]


def warner(about: Collection[str]) -> Warner:
    """A function from an address, as `parse_address` returns it, to what looks wrong about it, or "".

    `about` says what to flag besides misspelt domains and addresses outside ASCII; see ABOUT.
    """
    roles = frozenset(ROLES.split() if "role" in about else ())
    disposable = "disposable" in about

    def warn(address: str) -> str:
        found = problem(address)
        return found if address.isascii() else f"{found} {NEEDS_SMTPUTF8}".lstrip()

    def problem(address: str) -> str:
        local, _, domain = address.rpartition("@")
        found = _misspelt(domain)
        if found:
            return f"The domain {domain} looks like a misspelt {found}."
        if disposable and _is_disposable(domain):
            return f"Addresses at {domain} are disposable: made for a few minutes."
        if roles and local.lower() in roles:
            return f'"{local}" is the address of a role, not of a person.'
        return ""

    return warn


@lru_cache(maxsize=65_536)
def _misspelt(domain: str) -> str:
    """The domain that was probably meant, or ""."""
    meant = _slips().get(domain)
    if meant:
        return meant
    head, _, ending = domain.rpartition(".")
    return f"{head}.{MISSPELT_ENDINGS[ending]}" if ending in MISSPELT_ENDINGS else ""


@cache
def _slips() -> dict[str, str]:
    """Every slip of one key in a provider's name, with that name: left out, added, swapped or another."""
    slips = {slip: provider for provider in PROVIDERS for slip in _slips_of(provider)}
    for real in REAL.union(PROVIDERS):
        slips.pop(real, None)
    return slips


def _slips_of(name: str) -> set[str]:
    """In all of `gmail.com`, but only in front of `.co.uk`: yahoo.co.id, hotmail.gr and others are real."""
    host, _, ending = name.partition(".")
    if len(ending.rpartition(".")[2]) == COUNTRY:
        return {f"{slip}.{ending}" for slip in _misspellings(host) if slip}
    return {slip for slip in _misspellings(name) if "." in slip.strip(".")}


def _misspellings(name: str) -> set[str]:
    keys = ascii_lowercase + digits + "-"
    halves = [(name[:at], name[at:]) for at in range(len(name) + 1)]
    left_out = {head + tail[1:] for head, tail in halves if tail}
    swapped = {head + tail[1] + tail[0] + tail[2:] for head, tail in halves if len(tail) > 1}
    other = {head + key + tail[1:] for head, tail in halves if tail for key in keys}
    added = {head + key + tail for head, tail in halves for key in keys}
    return left_out | swapped | other | added


@lru_cache(maxsize=65_536)
def _is_disposable(domain: str) -> bool:
    return any(name in _disposable() for name in _with_parents(domain))


def _with_parents(domain: str) -> list[str]:
    """`a.b.example` is in the hands of whoever has `b.example`."""
    labels = domain.split(".")
    return [".".join(labels[at:]) for at in range(max(1, len(labels) - 1))]


@cache
def _disposable() -> Collection[str]:
    # 5,000 names; the processes that only send mail must not pay for them
    from disposable_email_domains import blocklist

    return blocklist
