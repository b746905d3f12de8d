"""A mail server that wants TLS from the first byte, a user and a password; it appends what it takes to a file.

Arguments: certificate, key, port, user, password, file.
"""

import asyncio
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult


class Sink:
    """Keeps mails."""

    async def handle_DATA(self, server, session, envelope):
        """Of one mail: to whom, and all of it."""
        with open(FILE, "ab") as file:
            file.write(f"To {', '.join(envelope.rcpt_tos)}\n".encode() + envelope.content)
        return "250 Taken"


def authenticator(server, session, envelope, mechanism, given):
    """Whether that is the user."""
    right = (given.login, given.password) == (USER.encode(), PASSWORD.encode())
    return AuthResult(success=right, handled=False)


CERTIFICATE, KEY, PORT, USER, PASSWORD, FILE = sys.argv[1:]
context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
context.load_cert_chain(CERTIFICATE, KEY)
loop = asyncio.new_event_loop()


def server():
    """One connection's end."""
    return SMTP(Sink(), auth_required=True, auth_require_tls=False, authenticator=authenticator, loop=loop)


loop.run_until_complete(loop.create_server(server, "127.0.0.1", int(PORT), ssl=context))
loop.run_forever()
