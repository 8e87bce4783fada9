"""The mail that every contestant sends: a newsletter of 10 KB of HTML with ten slots, as text too.

Its template language is what Jinja2's and Django's have in common, so that all render the same source.
"""

FIELDS = ("name", "email", "city", "plan", "points", "expires", "product", "price", "agent")
SUBJECT = "{{ name }}, news for {{ city }}"
SENDER = "news@example.com"
HTML_BYTES = 10_240

_HEAD = """<!DOCTYPE html>
<html><head><meta charset="utf-8"><title>News</title></head>
<body style="margin:0;font-family:Helvetica,Arial,sans-serif;color:#222">
<h1>Good morning, {{ name }}</h1>
<p>This is the news for {{ city }}, sent to {{ email }}.</p>
<p>Your plan is {{ plan }}; you have {{ points }} points, good until {{ expires }}.</p>
<p>This week: <b>{{ product }}</b> for only {{ price }}. {{ agent }} is happy to help.</p>
<table role="presentation" width="100%" cellpadding="8">
"""
_ITEM = """<tr><td style="border-bottom:1px solid #ddd"><h3>Story {number}</h3>
<p>The quick brown fox jumps over the lazy dog, and what it saw on the way is told here at some length, with
prices = fair, distances measured and a link to <a href="https://example.com/stories/{number}">all of it</a>.
</p></td></tr>
"""
_TAIL = """</table>
<p style="font-size:12px">You get this because you asked for it. Yours, {{ agent }}.</p>
</body></html>
"""

TEXT = """Good morning, {{ name }},

this is the news for {{ city }}, sent to {{ email }}.
Your plan is {{ plan }}; you have {{ points }} points, good until {{ expires }}.
This week: {{ product }} for only {{ price }}. {{ agent }} is happy to help.
"""


def html() -> str:
    """Return the HTML template, filled with stories up to HTML_BYTES."""
    stories: list[str] = []
    size = len(_HEAD) + len(_TAIL)
    while size + len(story := _ITEM.replace("{number}", str(len(stories) + 1))) <= HTML_BYTES:
        stories.append(story)
        size += len(story)
    return _HEAD + "".join(stories) + "<!-- " + "-" * (HTML_BYTES - size - 9) + " -->" + _TAIL


def fields(number: int) -> dict[str, str]:
    """Return what is known of the recipient of this number, the address and the name among it."""
    return {
        "name": f"Asha Rao {number}",
        "email": f"asha.{number}@example.com",
        "city": ("Pune", "Mumbai", "Delhi", "Chennai", "Kochi")[number % 5],
        "plan": ("basic", "plus", "family")[number % 3],
        "points": str(number % 10_000),
        "expires": f"2027-01-{number % 28 + 1:02}",
        "product": f"Lamp no. {number % 97}",
        "price": f"{number % 900 + 99} rupees",
        "agent": ("Meera", "Tom", "Lakshmi")[number % 3],
    }
