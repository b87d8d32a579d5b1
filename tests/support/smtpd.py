"""smtpd.py DIR - the mail server of smtp.sh (aiosmtpd), on a free port of 127.0.0.1 or SMTP_BIND.

Prints the port. Every mail is a file DIR/mail/NNNNNN.eml with its envelope at the head. What it
does differently is told by files in DIR, looked at with every command, so that a test can change
them while it runs:

    refuse-rcpt   the answer to recipients that contain the word "refused", as 550 5.1.1 nobody
    replies       answers to the next mails, one a line ("250": taken); then all are taken again
    stall         as long as it is there, a mail gets no answer; then there is `stalling`
"""
import asyncio
import os
import pathlib
import signal
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

folder = pathlib.Path(sys.argv[1])
tls = os.environ.get("SMTP_TLS", "none")
certificate = folder / "certs" / os.environ.get("SMTP_TLS_CERT", "server")
needs_auth = bool(os.environ.get("SMTP_AUTH"))


def told(name):
    path = folder / name
    return path.read_text() if path.exists() else ""


def secure(server):
    return server.transport.get_extra_info("sslcontext") is not None


def next_reply():
    lines = told("replies").splitlines()
    if lines:
        (folder / "replies.new").write_text("".join(line + "\n" for line in lines[1:]))
        os.rename(folder / "replies.new", folder / "replies")
    return lines[0] if lines else "250"


async def stall():
    try:
        while (folder / "stall").exists():
            (folder / "stalling").touch()
            await asyncio.sleep(0.02)
    finally:  # the peer may be gone: then this is cancelled
        (folder / "stalling").unlink(missing_ok=True)


class Keep:
    def __init__(self):
        self.count = len(os.listdir(folder / "mail"))

    async def handle_RCPT(self, server, session, envelope, address, options):
        if "refused" in address and told("refuse-rcpt"):
            return told("refuse-rcpt").strip()
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        await stall()
        reply = next_reply()
        if not reply.startswith("250"):
            return reply
        self.count += 1
        name = folder / "mail" / ("%06d.part" % self.count)
        with open(name, "wb") as f:
            f.write(b"X-Envelope-From: %s\r\n" % (envelope.mail_from or "").encode())
            f.write(b"X-Envelope-To: %s\r\n" % ", ".join(envelope.rcpt_tos).encode())
            f.write(b"X-Session: %s\r\n" % (b"tls" if secure(server) else b"plain"))
            f.write(envelope.content)
        os.rename(name, name.with_suffix(".eml"))
        return "250 2.0.0 kept"


def check(server, session, envelope, mechanism, data):
    good = isinstance(data, LoginPassword) and \
        (data.login, data.password) == (b"millrace", b"millrace-secret")
    return AuthResult(success=good, handled=False)


async def main():
    context = None
    if tls != "none":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(str(certificate) + ".crt", str(certificate) + ".key")
    keep = Keep()

    def session():
        return SMTP(keep, hostname="localhost", data_size_limit=32 << 20,
                    tls_context=context if tls == "starttls" else None,
                    require_starttls=tls == "starttls", authenticator=check,
                    auth_required=needs_auth, auth_require_tls=False)

    loop = asyncio.get_running_loop()
    port_file = folder / "port"
    port = int(port_file.read_text()) if port_file.exists() else 0  # again: on the same one
    server = await loop.create_server(session, os.environ.get("SMTP_BIND", "127.0.0.1"), port,
                                      reuse_address=True, ssl=context if tls == "smtps" else None)
    (folder / "port.new").write_text("%d\n" % server.sockets[0].getsockname()[1])
    os.rename(folder / "port.new", port_file)
    (folder / "ready").touch()
    ended = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()


asyncio.run(main())
