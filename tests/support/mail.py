"""A mail server of one's own for Python tests, started by smtp.sh; `with Server() as mail:`."""
import email
import email.policy
import os
import pathlib
import shutil
import subprocess
import tempfile

from support import Skip

SCRIPT = pathlib.Path(__file__).with_name("smtp.sh")


class Server:
    """@p settings go to the script: TLS="starttls", AUTH="1", …"""

    def __init__(self, **settings):
        self.settings = {"SMTP_" + name: value for name, value in settings.items()}

    def __enter__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="mr-smtp-"))
        # The server and its folder go when this end of the pipe is closed, whatever ends us.
        self.theirs, self.ours = os.pipe()
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def start(self):
        env = dict(os.environ, TEST_GUARD=str(self.theirs), **self.settings)
        done = subprocess.run([str(SCRIPT), "start", str(self.folder)], env=env, text=True,
                              pass_fds=[self.theirs], capture_output=True, check=False)
        if done.returncode == 77:
            raise Skip(done.stderr.strip().split("skipped: ")[-1])
        assert done.returncode == 0, done.stderr
        self.port = int(done.stdout)

    def kill(self):
        subprocess.run([str(SCRIPT), "kill", str(self.folder)], check=True)

    def tell(self, name, text):
        """What the server does differently: smtpd.py."""
        (self.folder / (name + ".new")).write_text(text)
        os.rename(self.folder / (name + ".new"), self.folder / name)

    def mails(self):
        """All mails so far, as email.message.EmailMessage."""
        return [email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
                for path in sorted((self.folder / "mail").glob("*.eml"))]

    def __exit__(self, *what):
        subprocess.run([str(SCRIPT), "kill", str(self.folder)], check=False)
        os.close(self.ours)
        os.close(self.theirs)
        shutil.rmtree(self.folder, ignore_errors=True)
