"""The operators' pages: each module holds the pages of one subject.

Everything that changes something is a POST with a CSRF token; views are plain functions mounted through
`get_urls`, so that little depends on the theme (`users.admin_theme`).
"""

from campaigns.admin import audiences, campaigns, deliveries, emails, imports, suppressions, templates

__all__ = ["audiences", "campaigns", "deliveries", "emails", "imports", "suppressions", "templates"]
