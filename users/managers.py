"""Creates users whose login is their e-mail address."""

from typing import TYPE_CHECKING, Any

from django.contrib.auth.base_user import BaseUserManager
from django.core.exceptions import ValidationError
from django.db.models import QuerySet, Value
from django.db.models.functions import Lower

from users.addresses import BadAddress, parse_plain_address, trim

if TYPE_CHECKING:
    from users.models import User


class UserManager(BaseUserManager["User"]):
    """Looks users up by e-mail address without regard to case."""

    def create_user(self, email: str, password: str | None = None, **fields: Any) -> "User":
        """Store a user. Raises ValidationError for an address that mail cannot be sent to."""
        try:
            user = self.model(email=parse_plain_address(trim(email)), **fields)
        except BadAddress as bad:
            raise ValidationError(str(bad)) from bad
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, password: str | None = None, **fields: Any) -> "User":
        """Store a user who may do everything."""
        return self.create_user(email, password, is_staff=True, is_superuser=True, **fields)

    def get_by_natural_key(self, username: str | None) -> "User":
        """Find the user who signs in with this address, however it is capitalised."""
        return self.with_address(username or "").get()

    def with_address(self, email: str) -> "QuerySet[User]":
        """Return the one user with this address, or none, however it is capitalised."""
        # lower-cased as the unique constraint does it: in upper case, as iexact has it, a dotless i is an I
        return self.alias(lower_email=Lower("email")).filter(lower_email=Lower(Value(_as_stored(email))))


def _as_stored(email: str) -> str:
    try:
        return parse_plain_address(trim(email))
    except BadAddress:
        return email
