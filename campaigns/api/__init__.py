"""The REST face: each module holds one resource, its serializer and its views.

A view loads, calls one function, translates back. `errors` translates what those functions raise.
"""
