"""What the accounts raise, as answers."""

from django.core.exceptions import ValidationError as ModelValidationError
from rest_framework import status
from rest_framework.exceptions import APIException, ValidationError
from rest_framework.response import Response
from rest_framework.views import APIView

from users.accounts import AddressTaken, BadAddress, BadResetLink, LastSuperuser


class Conflict(APIException):
    """The state of what was named does not allow it."""

    status_code = status.HTTP_409_CONFLICT
    default_code = "conflict"


class TranslatesRefusals(APIView):
    """A view whose domain functions may raise."""

    def handle_exception(self, exc: Exception) -> Response:
        """Answer an exception."""
        return super().handle_exception(_translated(exc))


def _translated(exc: Exception) -> Exception:
    match exc:
        case AddressTaken():
            return ValidationError({"email": ["A user with this e-mail address exists already."]}, "unique")
        case BadAddress():
            return ValidationError({"email": [str(exc)]}, "invalid")
        case BadResetLink():
            return ValidationError(
                {"token": ["The link is too old, was used, or is not complete; ask for a new one."]},
                "bad_reset_link",
            )
        case LastSuperuser():
            return Conflict("This is the last superuser; make another one first.", "last_superuser")
        case ModelValidationError():  # of a password, the only thing that is judged there
            return ValidationError({"password": exc.messages}, "password")
    return exc
