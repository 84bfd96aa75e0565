"""What can go wrong with a server, told apart by what is known of the call."""


class ServerUnavailable(Exception):
    """It could not be started or reached, or does not speak the protocol: nothing was asked of it."""


class AuthorisationNeeded(ServerUnavailable):
    """It asks who calls, or for more than the caller may: nothing was done."""

    def __init__(self, message: str, status: int = 401, challenge: str = "") -> None:
        """`challenge` is the answer's `WWW-Authenticate` (RFC 9110, section 11.6.1)."""
        super().__init__(message)
        self.status = status
        self.challenge = challenge


class SessionGone(Exception):
    """The server knows the conversation no more, and did nothing; a new one can be begun."""


class CallRefused(Exception):
    """The server answered that it does not do it, or answered what cannot be used."""


class CallLost(Exception):
    """The call was sent, and no answer came: nobody knows what became of it."""


class AnswerRefused(Exception):
    """What a server asked is not answered; it is told why."""
