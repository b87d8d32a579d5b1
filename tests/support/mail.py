"""A mail server of one's own for Python tests, started by smtp.sh; `with Server() as mail:`."""
import email
import email.policy
import os

import server


class Server(server.Server):
    """@p settings go to the script: TLS="starttls", AUTH="1", …"""
    script, prefix, last = "smtp.sh", "SMTP_", "kill"

    def tell(self, name, text):
        """What the server does differently: smtpd.py."""
        (self.folder / (name + ".new")).write_text(text)
        os.rename(self.folder / (name + ".new"), self.folder / name)

    def mails(self):
        """All mails so far, as email.message.EmailMessage."""
        return [email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
                for path in sorted((self.folder / "mail").glob("*.eml"))]
